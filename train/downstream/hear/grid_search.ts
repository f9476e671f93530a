/**
 * HEAR 2021's grid search over perceptrons, `deno task probe --protocol hear`: which are tried, how
 * one is trained, and which one is taken (model/README.md, HEAR).
 *
 * Read on in this order: mlp.ts is the perceptron and its update; scene_task.ts puts one label on a
 * clip, timestamp_task.ts one on each frame, from which events.ts makes events and scores their
 * onsets; event_folder.ts reads the folders of the latter. Features, splits and metrics are those
 * of ../probe.
 *
 * @module
 */
import type { Device } from "../../../engine/mod.ts";
import { InterruptedError, NoDataError } from "../../errors.ts";
import { Prng } from "../../../engine/prng.ts";
import { yieldToEventLoop } from "../../io/event_loop.ts";
import { type ClassLoss, probabilitiesOf } from "../probe/metrics.ts";
import { type ProbeData, shuffled, type Trial, trialsOf } from "../probe/splits.ts";
import { type Initialisation, Mlp, type MlpSettings, type Rows } from "./mlp.ts";

/** How perceptrons are trained and chosen. */
export interface HearProtocol {
  /** Hidden layers; of these three lists all combinations make the grid. */
  readonly layers: readonly number[];
  /** Adam's learning rates. */
  readonly rates: readonly number[];
  /** Xavier's initial values. */
  readonly initialisations: readonly Initialisation[];
  /** Combinations that are tried. */
  readonly gridPoints: number;
  /** Width of hidden layers. */
  readonly hidden: number;
  /** Chance of a hidden value to be dropped. */
  readonly dropout: number;
  /** Rows of an update. */
  readonly batch: number;
  /** Most epochs. */
  readonly epochs: number;
  /** Epochs between two validations. */
  readonly every: number;
  /** Validations without a better one after which training stops, as hear-eval-kit counts. */
  readonly patience: number;
  /** Of all draws. */
  readonly seed: number;
  /**
   * Share of the training clips that is validation where the folder names none and has too few
   * folds.
   */
  readonly heldOut: number;
}

/**
 * As HEAR 2021 has it; which eight of the sixteen combinations are tried depends on the seed there,
 * too.
 */
export const HEAR: HearProtocol = {
  layers: [1, 2],
  rates: [3.2e-3, 1e-3, 3.2e-4, 1e-4],
  initialisations: ["uniform", "normal"],
  gridPoints: 8,
  hidden: 1024,
  dropout: 0.1,
  batch: 1024,
  epochs: 500,
  every: 3,
  patience: 20,
  seed: 42,
  heldOut: 0.1,
};

/** A combination. */
export type GridPoint = Pick<MlpSettings, "layers" | "rate" | "initialisation">;

/** Streams of random numbers, beside those of linear probes. */
const STREAMS = { grid: 11, fit: 12 } as const;
/** Updates that are queued before the host waits: their rows are held until they are done. */
const MOST_QUEUED = 16;

/** The combinations that are tried, in order. */
export function gridPointsOf(
  { layers, rates, initialisations, gridPoints, seed }: HearProtocol,
): GridPoint[] {
  const all = layers.flatMap((layers) =>
    rates.flatMap((rate) =>
      initialisations.map((initialisation): GridPoint => ({ layers, rate, initialisation }))
    )
  );
  return shuffled(all, new Prng(seed, STREAMS.grid)).slice(0, gridPoints);
}

/**
 * Splits of clips: of folds each is tested in turn, the one after it validates, and the others
 * train; with less than three folds, or without validation clips in a split, a share of the
 * training clips validates.
 *
 * @throws {NoDataError} if nothing is left to learn from, to validate with or to test.
 */
export function hearTrials(data: ProbeData, protocol: HearProtocol): Trial[] {
  const settings = { ...protocol, repeats: 1, covering: false };
  const trials = trialsOf(data, settings);
  if (data.protocol === "split" || trials.length < 3) return trials;
  return trials.map((trial, i) => {
    const { test: validation } = trials[(i + 1) % trials.length];
    const apart = new Set([...trial.test, ...validation]);
    return {
      ...trial,
      validation,
      train: data.clips.map((_, i) => i).filter((i) => !apart.has(i)),
    };
  });
}

/** What validation says of a network. */
export interface Verdict {
  /** The higher the better. */
  readonly score: number;
}

/** Rows of one split. */
export type SplitRows = Pick<Trial, "train" | "validation" | "test">;

/** A network at its best validation. */
export interface Fitted<Found extends Verdict> {
  /** Probabilities of the test rows, [rows, classes]. */
  readonly test: Float32Array;
  /** What validation said. */
  readonly verdict: Found;
  /** Epochs up to then. */
  readonly epoch: number;
}

/** What came of the grid. */
export interface HearTraining<Found extends Verdict> {
  /** The combination that is best on the first split's validation rows; of equal ones the first. */
  readonly choice: GridPoint;
  /** All that were tried. */
  readonly grid: readonly (GridPoint & {
    readonly validation: number;
    readonly epoch: number;
  })[];
  /** With that combination, in the order of the splits. */
  readonly splits: readonly Fitted<Found>[];
}

/** What training works with. */
export interface HearContext {
  /** Trains. */
  readonly device: Device;
  /** All rows. */
  readonly rows: Rows;
  /** Values of a row. */
  readonly dim: number;
  /** Classes. */
  readonly classes: number;
  /** See `MlpSettings`. */
  readonly loss: ClassLoss;
  /** How. */
  readonly protocol: HearProtocol;
  /** Called with the share of the work that is done. */
  readonly onProgress?: (share: number) => void;
  /** Aborts. */
  readonly signal?: AbortSignal;
}

/**
 * Tries the grid on the first split and trains the best combination on the others.
 *
 * @param judge says how good probabilities [rows, classes] of a split's validation rows are
 * @throws {NoDataError} if a split has less than two rows to learn from, which batch normalisation
 * needs
 * @throws {InterruptedError} when the signal aborted.
 */
export async function trainHear<Found extends Verdict>(
  context: HearContext,
  splits: readonly SplitRows[],
  judge: (split: number, probabilities: Float32Array) => Found,
): Promise<HearTraining<Found>> {
  const { protocol, onProgress } = context;
  if (splits.some(({ train }) => train.length < 2)) {
    throw new NoDataError("HEAR's perceptrons need two clips or more to learn from");
  }
  const points = gridPointsOf(protocol);
  const all = points.length + splits.length - 1;
  let done = 0;
  const fitted = async (split: number, point: GridPoint, draw: number) => {
    const result = await fit(
      { ...context, onProgress: (share) => onProgress?.((done + share) / all) },
      splits[split],
      point,
      new Prng(protocol.seed, STREAMS.fit, split, draw),
      (probabilities) => judge(split, probabilities),
    );
    onProgress?.(++done / all);
    return result;
  };
  const grid: (GridPoint & { validation: number; epoch: number })[] = [];
  let best: { readonly at: number; readonly fit: Fitted<Found> } | undefined;
  for (const [at, point] of points.entries()) {
    const fit = await fitted(0, point, at);
    grid.push({ ...point, validation: fit.verdict.score, epoch: fit.epoch });
    if (!best || fit.verdict.score > best.fit.verdict.score) best = { at, fit };
  }
  const { at, fit: first } = best!;
  const rest: Fitted<Found>[] = [];
  for (let i = 1; i < splits.length; i++) rest.push(await fitted(i, points[at], at));
  return { choice: points[at], grid, splits: [first, ...rest] };
}

async function fit<Found extends Verdict>(
  { device, rows, dim, classes, loss, protocol, onProgress, signal }: HearContext,
  { train, validation, test }: SplitRows,
  point: GridPoint,
  random: Prng,
  judge: (probabilities: Float32Array) => Found,
): Promise<Fitted<Found>> {
  const { hidden, dropout, batch, epochs, every, patience } = protocol;
  using mlp = new Mlp(device, { dim, classes, loss, hidden, dropout, ...point }, random);
  const predict = async (which: readonly number[]) =>
    Float32Array.from(probabilitiesOf(await mlp.logits(rows, which), classes, loss));
  let best: Omit<Fitted<Found>, "test"> | undefined;
  let worse = 0;
  let queued = 0;
  for (let epoch = 1; epoch <= epochs && worse < patience; epoch++) {
    for (const part of batches(shuffled(train, random), batch)) {
      await yieldToEventLoop();
      if (signal?.aborted) throw new InterruptedError("interrupted");
      mlp.step(rows, part);
      if (++queued % MOST_QUEUED === 0) await device.sync();
    }
    if (epoch % every !== 0 && epoch !== epochs) continue;
    const verdict = judge(await predict(validation));
    if (!best || verdict.score > best.verdict.score) {
      best = { verdict, epoch };
      mlp.keep();
      worse = 0;
    } else worse++;
    onProgress?.(epoch / epochs);
  }
  mlp.restore();
  return { ...best!, test: await predict(test) };
}

/** Parts of some rows; one row alone, which has no variance, goes with those before it. */
export function batches(rows: readonly number[], size: number): number[][] {
  const parts: number[][] = [];
  for (let first = 0; first < rows.length;) {
    const end = rows.length - first === size + 1 ? rows.length : first + size;
    parts.push(rows.slice(first, end));
    first = end;
  }
  return parts;
}
