/**
 * Fine-tuning of an encoder on a labelled folder, `deno task probe --finetune`: every fold trains
 * anew from the same encoder (model/README.md, Fine-tuning).
 *
 * Read on in this order: initial_encoder.ts reads the encoder, spectrogram_clips.ts the clips;
 * augment.ts draws mixup and patch-out; model.ts is encoder and head with their loss, trainer.ts
 * the update, own_trainee.ts all of it; pretrained_trainee.ts is the same of encoders of other
 * systems; output_files.ts writes what was trained. Splits and scores are those of ../probe.
 *
 * @module
 */
import { type PendingRead, warmupCosine } from "../../../engine/mod.ts";
import type { Bands } from "../../../model/encoder/embed.ts";
import { yieldToEventLoop } from "../../io/event_loop.ts";
import type { CheckpointTensor } from "../../run/checkpoint.ts";
import { DivergedError, InterruptedError, NoDataError } from "../../errors.ts";
import type { Prng } from "../../../engine/prng.ts";
import { type ClipClasses, meanLoss, type Scores } from "../probe/metrics.ts";
import { type Metric, PROTOCOLS } from "../probe/protocol.ts";
import { type ProbeResult, scorer, summaryOf, type TestedTrial } from "../probe/summary.ts";
import type { ProbeFile } from "../probe/probe_layer.ts";
import {
  finalTrial,
  type ProbeData,
  shuffled,
  STREAMS,
  type Trial,
  trialRandom,
  trialsOf,
} from "../probe/splits.ts";
import type { UpdateSettings } from "./trainer.ts";

/** How an encoder is fine-tuned. */
export interface FineTuneSettings extends UpdateSettings {
  /** Epochs of each fold. */
  readonly epochs: number;
  /** Clips of an update; what fills no batch waits for another epoch. */
  readonly batch: number;
  /** Peak of the learning rate, from which it falls to 1e-7 as a cosine. */
  readonly rate: number;
  /** Epochs until the peak, from 0. */
  readonly warmup: number;
  /** Shares of mixed clips come from Beta(mixup, mixup); 0 mixes none. */
  readonly mixup: number;
  /** About the share of patches that are left out in training. */
  readonly patchOut: number;
  /**
   * Frames of a training crop, which begins anywhere in its clip; whole patches, at most the
   * encoder's.
   */
  readonly frames: number;
  /**
   * Clips are tried by as many frames from their start, or whole; shorter ones with silence behind,
   * as in training.
   */
  readonly tested: "start" | "whole";
  /** What the head sees of the bands. */
  readonly bands: Bands;
  /** Whether the patch embedding keeps its values. */
  readonly frozenPatchEmbed: boolean;
  /** What on validation clips picks the epoch; among equal ones by metric the loss decides. */
  readonly criterion: "loss" | "metric";
  /** Epochs without a better one after which a fold ends. */
  readonly patience: number;
  /** How often everything is done, each time with other draws. */
  readonly repeats: number;
  /** Draws of repeat `r` come from `seed + r`. */
  readonly seed: number;
  /** Share of the training clips that is validation where the folder names none. */
  readonly heldOut: number;
}

/** How far it is. */
export interface FineTuneProgress {
  /** Folds of all repeats that are done, of how many. */
  readonly trial: readonly [done: number, all: number];
  /** Epochs of this one that are done, with a fraction. */
  readonly epoch: number;
  /** Mean loss of the last whole epoch, once there is one. */
  readonly loss?: number;
  /** Validation's metric after it. */
  readonly validation?: number;
}

/** An encoder with a head in training. */
export interface Trainee extends Disposable {
  /**
   * One update. Work is submitted, not awaited.
   *
   * @param clips by number
   * @param random draws crops and mixtures
   * @param rate of the head
   * @returns the loss before the update, on its way
   */
  step(clips: readonly number[], random: Prng, rate: number): PendingRead;
  /** Logits of clips by number, [clips, classes], with running statistics. */
  logits(clips: readonly number[]): Promise<Float32Array>;
  /** Keeps parameters and running statistics as they are. */
  keep(): void;
  /** Brings back what was kept. */
  restore(): void;
  /** What was trained. */
  finished(): Promise<FineTuned>;
}

/** What of the settings the course of a fold follows. */
export type FineTuneCourse = Pick<
  FineTuneSettings,
  | "epochs"
  | "batch"
  | "rate"
  | "warmup"
  | "criterion"
  | "patience"
  | "repeats"
  | "seed"
  | "heldOut"
>;

/** What {@link runFineTune} works with. */
export interface FineTuneContext {
  /** Begins anew for a fold; `random` draws the head. */
  readonly begin: (random: Prng) => Trainee | Promise<Trainee>;
  /** Values that the head sees. */
  readonly dim: number;
  /** Clips and classes. */
  readonly data: ProbeData;
  /** What tells how good it is. */
  readonly metric: Metric;
  /** How. */
  readonly settings: FineTuneCourse;
  /** Called after every update and epoch. */
  readonly onProgress?: (progress: FineTuneProgress) => void;
  /** Aborts. */
  readonly signal?: AbortSignal;
}

/** An epoch of a fold. */
export interface FineTuneEpoch {
  /** Mean training loss. */
  readonly loss: number;
  /** Validation's metric. */
  readonly validation: number;
  /** Validation's loss. */
  readonly validation_loss: number;
}

/** A fine-tuned encoder and its head. */
export interface FineTuned {
  /** Encoder by official name. */
  readonly tensors: readonly (readonly [string, CheckpointTensor])[];
  /** Head, as probes are saved. */
  readonly head: Required<Pick<ProbeFile, "weight" | "bias" | "statistics">>;
}

/** What fine-tuning gives. */
export interface FineTuneResult {
  /** What it scores. */
  readonly result: ProbeResult;
  /** Epochs of each fold and repeat. */
  readonly history: readonly (readonly FineTuneEpoch[])[];
  /** Where asked for: trained on all folds, or the first repeat's on the training part. */
  readonly kept: FineTuned | undefined;
}

interface TrainedTrial extends TestedTrial {
  readonly history: readonly FineTuneEpoch[];
  readonly kept: FineTuned | undefined;
}

/** Streams of random numbers beside those of {@link STREAMS}. */
const BATCHES = 11;
/** Where the cosine ends. */
const LEAST_RATE = 1e-7;

/**
 * Fine-tunes and tests in all folds and repeats, one after the other.
 *
 * @param keep whether to return a fine-tuned encoder; where folds are left out in turn it is
 * trained for that
 * @throws {NoDataError} as {@link trialsOf}, or if there are fewer than two training clips
 * @throws {DivergedError} if the loss is not finite
 * @throws {InterruptedError} when the signal aborted.
 */
export async function runFineTune(
  context: FineTuneContext,
  keep: boolean,
): Promise<FineTuneResult> {
  const { data, settings, dim, metric, onProgress } = context;
  const protocol = { ...PROTOCOLS.evar, ...settings };
  const trials = trialsOf(data, protocol);
  const split = data.protocol === "split";
  const all = keep && !split ? [...trials, finalTrial(data, protocol)] : trials;
  const trained: TrainedTrial[] = [];
  const kept = split ? 0 : trials.length;
  for (const [i, trial] of all.entries()) {
    const report = (progress: Omit<FineTuneProgress, "trial">) =>
      onProgress?.({ ...progress, trial: [i, all.length] });
    trained.push(await trainTrial(context, trial, keep && i === kept, report));
  }
  const tested = trained.slice(0, trials.length);
  return {
    result: summaryOf({ data, metric, dim }, trials, tested),
    history: tested.map(({ history }) => history),
    kept: trained[kept]?.kept,
  };
}

async function trainTrial(
  context: FineTuneContext,
  trial: Trial,
  keep: boolean,
  report: (progress: Omit<FineTuneProgress, "trial">) => void,
): Promise<TrainedTrial> {
  const { begin, data, settings, signal } = context;
  const { epochs, rate, warmup, criterion, patience } = settings;
  const { truth, classes, multiLabel } = data;
  const batch = Math.min(settings.batch, trial.train.length);
  if (batch < 2) throw new NoDataError("--finetune: needs two training clips or more");
  const random = trialRandom(settings, trial, BATCHES);
  using trainee = await begin(trialRandom(settings, trial, STREAMS.initial));
  const scores = async (clips: readonly number[]): Promise<Scores> => ({
    values: await trainee.logits(clips),
    classes: classes.length,
  });
  const known: ClipClasses = trial.validation.map((clip) => truth[clip]);
  const judge = scorer(context.metric);
  const steps = Math.floor(trial.train.length / batch);
  const schedule = warmupCosine(
    rate,
    warmup * steps,
    epochs * steps,
    Math.min(LEAST_RATE, rate),
  );
  const history: FineTuneEpoch[] = [];
  let best = 0;
  for (let epoch = 1; epoch <= epochs && epoch - 1 - best < patience; epoch++) {
    const order = shuffled(trial.train, random);
    let total = 0;
    let pending: PendingRead | undefined;
    const collect = async () => total += (await pending!.values())[0][0] as number;
    for (let step = 0; step < steps; step++) {
      await yieldToEventLoop();
      if (signal?.aborted) throw new InterruptedError("interrupted");
      const clips = order.slice(step * batch, (step + 1) * batch);
      const update = (epoch - 1) * steps + step;
      const read = trainee.step(clips, random, schedule(update));
      // The device works on this one meanwhile.
      if (pending) await collect();
      pending = read;
      const before = history[history.length - 1];
      report({ epoch: epoch - 1 + (step + 1) / steps, ...before });
    }
    await collect();
    if (!Number.isFinite(total)) {
      throw new DivergedError(
        `--finetune: the loss is not finite in epoch ${epoch}; a lower --lr may help`,
        epoch * steps,
      );
    }
    const found = await scores(trial.validation);
    const now = {
      loss: total / steps,
      validation: judge(found, known),
      validation_loss: meanLoss(found, known, multiLabel ? "binary" : "cross-entropy"),
    };
    history.push(now);
    if (best === 0 || isBetter(now, history[best - 1], criterion)) {
      best = epoch;
      trainee.keep();
    }
    report({ epoch, ...now });
  }
  trainee.restore();
  return {
    test: await scores(trial.test),
    epoch: best,
    rate,
    history,
    kept: keep ? await trainee.finished() : undefined,
  };
}

/** Among equal metrics, of which few validation clips have few values, the lower loss is better. */
function isBetter(
  now: FineTuneEpoch,
  before: FineTuneEpoch,
  criterion: FineTuneSettings["criterion"],
): boolean {
  if (criterion === "metric" && now.validation !== before.validation) {
    return now.validation > before.validation;
  }
  return now.validation_loss < before.validation_loss;
}
