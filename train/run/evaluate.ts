/**
 * A quick look at what the encoder knows during training: what a linear probe makes of it on a
 * labelled folder.
 *
 * The student's encoder sees whole clips without a mask; a clip's embedding is its last layer,
 * bands side by side, pooled over time as the run's encoder says (model/README.md, Embeddings,
 * Probes). The probe is that of
 * `deno task probe` with fewer epochs.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { studentNetwork } from "../../model/encoder/embed.ts";
import { type Clip, Embedder } from "../../model/encoder/embed_queue.ts";
import type { ClipReadout } from "../../model/encoder/pooling.ts";
import type { LogMel } from "../../model/frontend/log_mel.ts";
import type { MaskedModel } from "../../model/objectives/masked_model.ts";
import { AudioError } from "../audio/decoded_audio.ts";
import { loadWaveform } from "../audio/decode.ts";
import { InterruptedError, NoDataError } from "../errors.ts";
import { yieldToEventLoop } from "../io/event_loop.ts";
import type { LabelledClip, LabelledFolder } from "../data/labelled_folder.ts";
import type { EvaluationScore } from "../metrics/metrics_row.ts";
import type { MetricsLog } from "./metrics_log.ts";
import { metricFor, type Protocol, PROTOCOLS } from "../downstream/probe/protocol.ts";
import { runProbe } from "../downstream/probe/probe.ts";
import { probeData } from "../downstream/probe/splits.ts";
import type { Progress } from "../cli/progress.ts";

/**
 * One repeat of at most 50 epochs, ten times faster than the paper's protocol on standardised
 * embeddings: at the paper's rate and without standardising a small folder would hardly move the
 * layer in so few updates, and what an epoch is worth would change with the scale of the
 * embeddings, which grows during training. All draws come from the same seed every time, so that
 * scores along a run, and of runs with other seeds, differ by the embeddings alone.
 */
export const QUICK_PROBE: Protocol = {
  ...PROTOCOLS.matpac,
  repeats: 1,
  epochs: 50,
  patience: 10,
  rates: [1e-3],
  standardise: true,
};

/** A clip with what the encoder makes of it. */
export interface Embedded {
  /** The clip. */
  readonly clip: LabelledClip;
  /** [dimensions] */
  readonly embedding: Float32Array;
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
  readonly model: MaskedModel;
  /** As in training. */
  readonly frontend: LogMel;
  /** What it is tried on. */
  readonly folder: LabelledFolder;
  /** What embeddings of clips are; default the mean of the last block. */
  readonly readout?: ClipReadout;
  /** Called once per clip that cannot be used. */
  readonly onSkip?: (path: string, reason: string) => void;
  /** Told how far it is. */
  readonly onStage?: (what: string, done: number, total: number) => void;
  /** Mono 16 kHz audio of a file; default {@link loadWaveform}. */
  readonly load?: (path: string) => Promise<Float32Array>;
  /** Ends it; its reason is thrown then. */
  readonly signal?: AbortSignal;
}

/**
 * Tries a model on a labelled folder as often as asked. It changes nothing that training reads.
 */
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
   * Probes the model as it is.
   *
   * @throws {NoDataError} if the usable clips leave nothing to learn from or nothing to try.
   */
  async score(): Promise<EvaluationScore> {
    const { device, folder, onStage } = this.#options;
    const embedded = await this.embed();
    if (embedded.length === 0) {
      throw new NoDataError(`${folder.dir}: none of ${folder.clips.length} clips can be used`);
    }
    const data = probeData(folder, embedded.map(({ clip }) => clip));
    const metric = metricFor(data, undefined);
    const dim = embedded[0].embedding.length;
    const features = new Float32Array(embedded.length * dim);
    embedded.forEach(({ embedding }, i) => features.set(embedding, i * dim));
    const onProgress = (share: number) =>
      onStage?.("evaluation: linear probe, percent", Math.round(100 * share), 100);
    const protocol = QUICK_PROBE;
    onProgress(0);
    const { mean } = await runProbe({ device, data, features, metric, protocol, onProgress })
      .catch((error) => {
        if (!(error instanceof NoDataError)) throw error;
        const { size } = this.#unusable;
        throw new NoDataError(
          `${folder.dir}: ${size} of ${folder.clips.length} clips cannot be used; ${error.message}`,
        );
      });
    // As after embedding.
    device.trim();
    return metric === "mAP" ? { eval_map: mean } : { eval_accuracy: mean };
  }

  /** Embeddings of all usable clips in the folder's order. */
  async embed(): Promise<Embedded[]> {
    const { device, model, frontend, folder, readout, onStage } = this.#options;
    const stage = (count: number) => onStage?.("evaluation: clips", count, folder.clips.length);
    stage(0);
    using embedder = new Embedder(studentNetwork(model), {}, frontend);
    const done = new Map<LabelledClip, Float32Array>();
    for await (
      const [clip, { values }] of embedder.embed(this.#clips(), {
        ...readout,
        batch: CHUNKS_AT_ONCE,
      })
    ) {
      done.set(clip, values);
      await yieldToEventLoop();
      stage(done.size);
    }
    // Sizes differ from training's; what the pool holds of them is of no use to it.
    device.trim();
    return folder.clips.flatMap((clip) => {
      const embedding = done.get(clip);
      return embedding ? [{ clip, embedding }] : [];
    });
  }

  async *#clips(): AsyncGenerator<Clip<LabelledClip>> {
    for (const clip of this.#options.folder.clips) {
      this.#options.signal?.throwIfAborted();
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
  /** Receives scores. */
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
    const { progress } = options;
    this.#evaluator = new Evaluator({
      ...progress && { onStage: (...at) => progress.stage(...at) },
      ...options,
    });
  }

  /**
   * Evaluates between two updates. When the signal aborts it ends without a score.
   *
   * @param updates updates done
   * @throws {NoDataError} as {@link Evaluator.score}.
   */
  async run(updates: number): Promise<void> {
    const { device, metrics, progress, folder } = this.#options;
    // What is queued is not the evaluation's time.
    await device.sync();
    const before = performance.now();
    const score = await this.#evaluator.score().catch((error) => {
      const { signal } = this.#options;
      const interrupted = signal?.aborted && error === signal.reason;
      if (!interrupted && !(error instanceof InterruptedError)) throw error;
      return undefined;
    });
    if (!score) return;
    const seconds = (performance.now() - before) / 1000;
    metrics.evaluated(score, seconds);
    const [text] = Object.entries(score).map(([name, value]) =>
      `${name} ${(100 * value).toFixed(2)} %`
    );
    progress?.note(
      `after step ${updates}: ${text}, linear probe on ${folder.dir} (${seconds.toFixed(1)} s)`,
    );
  }
}
