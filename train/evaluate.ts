/**
 * A quick look at what the encoder knows during training: the share of clips of a labelled folder whose nearest class
 * centroid is right.
 *
 * The student's encoder sees whole clips without a mask; a clip's embedding is its last layer, bands side by side, mean
 * over time (SPEC sections 5.1 and 7.1). Embeddings are centred by the mean of the training clips and brought to unit
 * length; a centroid is the mean of its class, and the nearest is the one of smallest cosine distance. Centring is what
 * makes that distance say something: all embeddings share a large common part.
 *
 * @module
 */
import type { Device } from "../engine/mod.ts";
import { studentNetwork } from "../model/embed.ts";
import { type Clip, Embedder } from "../model/embed_queue.ts";
import type { LogMel } from "../model/frontend.ts";
import type { Matpac } from "../model/matpac.ts";
import { AudioError, loadWaveform } from "./data/audio.ts";
import { NoDataError } from "./data/errors.ts";
import { type LabelledClip, type LabelledFolder, trials } from "./data/labelled.ts";
import type { MetricsLog } from "./metrics.ts";
import type { Progress } from "./progress.ts";

/** A clip with what the encoder makes of it. */
export interface Embedded {
  /** The clip. */
  readonly clip: LabelledClip;
  /** [dimensions] */
  readonly embedding: Float64Array;
}

const dot = (a: Float64Array, b: Float64Array): number =>
  a.reduce((sum, x, i) => sum + x * b[i], 0);

function addTo(total: Float64Array, x: Float64Array): void {
  for (let i = 0; i < x.length; i++) total[i] += x[i];
}

/** `x - centre` at unit length; zeros stay zeros. */
function unit(x: Float64Array, centre: Float64Array): Float64Array {
  const y = x.map((value, i) => value - centre[i]);
  const length = Math.sqrt(dot(y, y));
  return length > 0 ? y.map((value) => value / length) : y;
}

/**
 * Share of the tried clips one of whose labels is the class of the nearest centroid; classes that no training clip has
 * cannot be right. Of equally near centroids the class counts that came first.
 */
export function centroidAccuracy(
  folder: Pick<LabelledFolder, "protocol">,
  embedded: readonly Embedded[],
): number {
  let [right, all] = [0, 0];
  for (const { tried, known } of trials(folder, embedded, ({ clip }) => clip.part)) {
    if (tried.length === 0 || known.length === 0) continue;
    const centre = new Float64Array(known[0].embedding.length);
    for (const { embedding } of known) addTo(centre, embedding);
    centre.forEach((sum, i) => centre[i] = sum / known.length);
    const centroids = new Map<string, Float64Array>();
    for (const { clip, embedding } of known) {
      const direction = unit(embedding, centre);
      for (const label of clip.labels) {
        if (!centroids.has(label)) centroids.set(label, new Float64Array(centre.length));
        addTo(centroids.get(label)!, direction);
      }
    }
    // Cosines do not see that these are sums, not means.
    const origin = new Float64Array(centre.length);
    const directions = [...centroids].map(([label, sum]) => ({ label, at: unit(sum, origin) }));
    for (const { clip, embedding } of tried) {
      // Nothing that is near could be right.
      if (clip.labels.length === 0) continue;
      const direction = unit(embedding, centre);
      const nearest = directions.map(({ label, at }) => ({ label, cosine: dot(direction, at) }))
        .reduce((best, it) => it.cosine > best.cosine ? it : best);
      if (clip.labels.includes(nearest.label)) right++;
      all++;
    }
  }
  return all === 0 ? NaN : right / all;
}

/** Chunks that are encoded at once, the longest of them as long as training's crops. */
export const CHUNKS_AT_ONCE = 16;
/** Bytes of decoded audio that are kept between evaluations. */
const KEPT_BYTES = 2 ** 28;

/** What {@link Evaluator} needs. */
export interface EvaluatorOptions {
  /** Runs the encoder. */
  readonly device: Device;
  /** Whose student is tried. */
  readonly model: Matpac;
  /** As in training. */
  readonly frontend: LogMel;
  /** What it is tried on. */
  readonly folder: LabelledFolder;
  /** Called once per clip that cannot be used. */
  readonly onSkip?: (path: string, reason: string) => void;
  /** Mono 16 kHz audio of a file; default {@link loadWaveform}. */
  readonly load?: (path: string) => Promise<Float32Array>;
}

/** Tries a model on a labelled folder as often as wanted. It changes nothing that training reads. */
export class Evaluator {
  readonly #options: EvaluatorOptions;
  readonly #kept = new Map<LabelledClip, Float32Array>();
  readonly #unusable = new Set<LabelledClip>();
  #free = KEPT_BYTES;

  /** Decodes nothing yet. */
  constructor(options: EvaluatorOptions) {
    this.#options = options;
  }

  /**
   * Accuracy of the nearest centroid with the model as it is.
   *
   * @throws {NoDataError} if the usable clips leave nothing to try.
   */
  async accuracy(): Promise<number> {
    const { folder } = this.#options;
    const accuracy = centroidAccuracy(folder, await this.embed());
    if (Number.isNaN(accuracy)) {
      throw new NoDataError(
        `${folder.dir}: ${this.#unusable.size} of ${folder.clips.length} clips cannot be used, ` +
          "and the others leave nothing to try",
      );
    }
    return accuracy;
  }

  /** Embeddings of all usable clips, in no particular order but always the same. */
  async embed(): Promise<Embedded[]> {
    const { device, model, frontend } = this.#options;
    using embedder = new Embedder(studentNetwork(model), {}, frontend);
    const done: Embedded[] = [];
    for await (
      const [clip, { values }] of embedder.embed(this.#clips(), { batch: CHUNKS_AT_ONCE })
    ) {
      done.push({ clip, embedding: Float64Array.from(values) });
    }
    // Sizes differ from training's; what the pool holds of them is of no use to it.
    device.trim();
    return done;
  }

  async *#clips(): AsyncGenerator<Clip<LabelledClip>> {
    for (const clip of this.#options.folder.clips) {
      const audio = await this.#load(clip);
      if (audio) yield { key: clip, audio };
    }
  }

  async #load(clip: LabelledClip): Promise<Float32Array | undefined> {
    const kept = this.#kept.get(clip);
    if (kept || this.#unusable.has(clip)) return kept;
    try {
      const waveform = await (this.#options.load ?? loadWaveform)(clip.path);
      if (waveform.byteLength <= this.#free) {
        this.#free -= waveform.byteLength;
        this.#kept.set(clip, waveform);
      }
      return waveform;
    } catch (error) {
      if (!(error instanceof AudioError)) throw error;
      this.#unusable.add(clip);
      this.#options.onSkip?.(clip.path, error.message);
      return undefined;
    }
  }
}

/** What {@link RunEvaluation} needs beside an evaluator's options. */
export interface RunEvaluationOptions extends EvaluatorOptions {
  /** Updates between two evaluations. */
  readonly every: number;
  /** Receives accuracies. */
  readonly metrics: Pick<MetricsLog, "evaluated">;
  /** Shows them, unless it is quiet. */
  readonly progress?: Progress;
}

/** The evaluations of a run: before the first update, after every so many and after the last. */
export class RunEvaluation {
  readonly #options: RunEvaluationOptions;
  readonly #evaluator: Evaluator;

  /** Computes nothing yet. */
  constructor(options: RunEvaluationOptions) {
    this.#options = options;
    this.#evaluator = new Evaluator(options);
  }

  /** Whether one follows after `updates` of `total`. */
  isDue(updates: number, total: number): boolean {
    return updates % this.#options.every === 0 || updates === total;
  }

  /**
   * Evaluates between two updates.
   *
   * @param updates updates done
   * @throws {NoDataError} as {@link Evaluator.accuracy}.
   */
  async run(updates: number): Promise<void> {
    const { device, metrics, progress, folder } = this.#options;
    // What is queued is not the evaluation's time.
    await device.sync();
    const before = performance.now();
    const accuracy = await this.#evaluator.accuracy();
    const seconds = (performance.now() - before) / 1000;
    metrics.evaluated(accuracy, seconds);
    progress?.note(
      `after step ${updates}: nearest centroids are right for ${
        (100 * accuracy).toFixed(2)
      } % of ${folder.dir} (${seconds.toFixed(1)} s)`,
    );
  }
}
