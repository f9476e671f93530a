/**
 * Trains linear layers to their best epoch on validation clips.
 *
 * @module
 */
import { InterruptedError } from "../../errors.ts";
import type { Prng } from "../../../engine/prng.ts";
import {
  type InitialLayer,
  LinearProbes,
  type LinearSettings,
  type ProbeTable,
} from "./linear_probes.ts";
import { yieldToEventLoop } from "../../io/event_loop.ts";
import { shuffled } from "./splits.ts";
import { type ClipClasses, meanLoss, type Scores } from "./metrics.ts";

/** Updates that may be queued on the device: a signal waits for them. */
const MOST_QUEUED = 64;

/** One linear layer to be trained; clips are rows of the table. */
export interface Problem {
  /** Clips to learn from. */
  readonly train: readonly number[];
  /** Clips that pick the epoch. */
  readonly validation: readonly number[];
  /** Clips to score; they take no part in training. */
  readonly test: readonly number[];
  /** Initial values. */
  readonly initial: InitialLayer;
  /** Draws the order of clips. */
  readonly random: Prng;
}

/** How problems are trained. */
export interface TrainSettings extends LinearSettings {
  /** Most epochs. */
  readonly epochs: number;
  /** Epochs without a better one after which a problem stops. */
  readonly patience: number;
  /**
   * What tells the best epoch: the lowest validation loss, or the highest of a metric; of equal
   * ones the first.
   */
  readonly criterion: "loss" | "metric";
  /** Whether of equally good epochs the last is taken. */
  readonly later?: boolean;
  /** Validation's metric. */
  readonly metric: (scores: Scores, truth: ClipClasses) => number;
}

/** A linear layer as it was at its best epoch. */
export interface Trained {
  /** [classes, dim]. */
  readonly weight: Float32Array;
  /** [classes]. */
  readonly bias: Float32Array;
  /** The best epoch, from 1; 0 for the initial values. */
  readonly epoch: number;
  /** Epochs done. */
  readonly epochs: number;
  /** What the best epoch was picked by. */
  readonly validation: number;
  /** Logits of the test clips. */
  readonly test: Scores;
}

/** What training needs beside problems. */
export interface TrainContext {
  /** Features and targets of all clips. */
  readonly table: ProbeTable;
  /** Classes of all clips. */
  readonly truth: ClipClasses;
  /** Called after each epoch with the share of all work that is done. */
  readonly onProgress?: (share: number) => void;
  /** Aborts. */
  readonly signal?: AbortSignal;
}

/**
 * Trains all problems, as many side by side as memory allows. A problem's result does not depend on
 * the others.
 *
 * @returns in the order of the problems
 * @throws {InterruptedError} when the signal aborted.
 */
export async function trainProblems(
  context: TrainContext,
  problems: readonly Problem[],
  settings: TrainSettings,
): Promise<Trained[]> {
  const { table, onProgress } = context;
  const results = new Array<Trained>(problems.length);
  const { batch } = settings;
  // Updates per epoch, and room of the last one: see linear.ts.
  const kind = ({ train: { length } }: Problem) =>
    `${Math.ceil(length / batch)} ${LinearProbes.room(length % batch || batch, settings)}`;
  const indices = problems.map((_, i) => i);
  const groups = [...Map.groupBy(indices, (i) => kind(problems[i])).values()];
  const most = LinearProbes.most(table.device, table.dim, settings);
  const parts = groups.flatMap((group) =>
    // Equal parts, so that the same kernels serve them.
    pieces(group, Math.ceil(group.length / Math.ceil(group.length / most)))
  );
  let before = 0;
  for (const part of parts) {
    const share = part.length / problems.length;
    const progress = (epochs: number) => onProgress?.(before + share * epochs / settings.epochs);
    const trained = await trainTogether(
      { ...context, onProgress: progress },
      part.map((i) => problems[i]),
      settings,
    );
    part.forEach((i, at) => results[i] = trained[at]);
    before += share;
    onProgress?.(before);
  }
  return results;
}

function pieces<Item>(items: readonly Item[], size: number): Item[][] {
  return Array.from(
    { length: Math.ceil(items.length / size) },
    (_, i) => items.slice(i * size, (i + 1) * size),
  );
}

/** How far a problem is. */
interface State {
  best: number;
  epoch: number;
  epochs: number;
  stopped: boolean;
}

/** @param problems with equally many updates per epoch and equal room in the last one */
async function trainTogether(
  { table, truth, onProgress, signal }: TrainContext,
  problems: readonly Problem[],
  settings: TrainSettings,
): Promise<Trained[]> {
  const { classes } = table;
  const { batch, epochs, patience, criterion, later = false, metric, loss } = settings;
  const classesOf = (clips: readonly number[]) => clips.map((clip) => truth[clip]);
  const known = problems.map(({ validation }) => classesOf(validation));
  using probes = new LinearProbes(table, problems.map(({ initial }) => initial), settings);
  const states = problems.map((): State => ({
    best: criterion === "loss" ? Infinity : -Infinity,
    epoch: 0,
    epochs: 0,
    stopped: false,
  }));
  let queued = 0;
  for (let epoch = 1; epoch <= epochs && !states.every(({ stopped }) => stopped); epoch++) {
    const orders = problems.map(({ train, random }) => shuffled(train, random));
    for (let first = 0; first < orders[0].length; first += batch) {
      if (++queued % MOST_QUEUED === 0) await table.device.sync();
      await yieldToEventLoop();
      if (signal?.aborted) throw new InterruptedError("interrupted");
      probes.step(orders.map((order) => order.slice(first, first + batch)));
    }
    const logits = await probes.logits(problems.map(({ validation }) => validation));
    const better = states.map((state, i) => {
      if (state.stopped) return false;
      const scores = { values: logits[i], classes };
      const value = criterion === "loss"
        ? meanLoss(scores, known[i], loss)
        : metric(scores, known[i]);
      const gain = criterion === "loss" ? state.best - value : value - state.best;
      const improved = gain > 0 || (later && gain === 0);
      if (improved) Object.assign(state, { best: value, epoch });
      state.epochs = epoch;
      state.stopped = epoch - state.epoch >= patience;
      return improved;
    });
    if (better.includes(true)) probes.keep(better);
    onProgress?.(epoch);
  }
  const layers = await probes.kept();
  const scores = await probes.logits(problems.map(({ test }) => test), "best");
  return states.map(({ best, epoch, epochs }, i) => ({
    ...layers[i],
    epoch,
    epochs,
    validation: best,
    test: { values: scores[i], classes },
  }));
}
