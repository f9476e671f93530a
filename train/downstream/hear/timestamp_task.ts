/**
 * HEAR 2021's timestamp tasks: one embedding per frame, events whose onsets are to be found.
 *
 * @module
 */
import type { ClipChoices, ClipEncoder } from "../clip_encoder.ts";
import { decodedClips, type DecodeOptions } from "../probe/features.ts";
import { halfInterval, meanOf } from "../probe/metrics.ts";
import type { ProbeData } from "../probe/splits.ts";
import type { EventFolder } from "./event_folder.ts";
import {
  type EventRule,
  eventsOf,
  frameTargets,
  type OnsetScore,
  onsetScores,
  type SoundEvent,
} from "./events.ts";
import { type HearContext, hearTrials, trainHear, type Verdict } from "./grid_search.ts";
import type { GridResult } from "./scene_task.ts";

/** The frames of a file. */
export interface FileFrames {
  /** [frames, dim]. */
  readonly values: Float32Array;
  /** [frames] where each begins, ms. */
  readonly times: Float32Array;
}

/**
 * Frames of audio files by path; those that cannot be used are missing.
 *
 * @throws {InterruptedError} when the signal aborted.
 */
export async function framesOf(
  encoder: ClipEncoder,
  paths: readonly string[],
  options: ClipChoices,
  decode: DecodeOptions & { readonly onProgress?: (done: number) => void },
): Promise<Map<string, FileFrames>> {
  const frames = new Map<string, FileFrames>();
  const clips = decodedClips(paths.map((path) => [path, path] as const), decode);
  for await (
    const [path, { values, times }] of encoder.embedEach(clips, { ...options, pool: "none" })
  ) {
    frames.set(path, { values, times: times! });
    decode.onProgress?.(frames.size);
  }
  return frames;
}

/** HEAR's for all tasks but MAESTRO, which has 150 ms and 50 ms. */
export const EVENT_RULES: readonly EventRule[] = [
  { median: 250, least: 125 },
  { median: 250, least: 250 },
];
/** ms between onsets: HEAR's for DCASE 2016; MAESTRO has 50. */
export const ONSET_TOLERANCE = 200;

/** What {@link runTimestamps} works with. */
export interface TimestampContext
  extends Pick<HearContext, "device" | "protocol" | "onProgress" | "signal"> {
  /** Files and their events. */
  readonly folder: EventFolder;
  /** Files that have frames. */
  readonly data: ProbeData;
  /** By path. */
  readonly frames: ReadonlyMap<string, FileFrames>;
  /** Ways to get events from probabilities; validation chooses. */
  readonly rules: readonly EventRule[];
  /** ms between onsets that count as the same. */
  readonly tolerance: number;
}

/** What a timestamp task scores. */
export interface TimestampResult extends GridResult {
  /** Values of a frame. */
  readonly dim: number;
  /** Mean over folds of the F-measure of onsets. */
  readonly mean: number;
  /** Half the 95 % interval of that mean; 0 of a single fold. */
  readonly ci95: number;
  /** Each fold, with the rule that its validation chose. */
  readonly folds: readonly (OnsetScore & EventRule & {
    readonly fold: string;
    readonly files: number;
    readonly epoch: number;
  })[];
  /** By class name, mean over folds. */
  readonly per_class: Readonly<Record<string, OnsetScore>>;
}

/**
 * Trains and tests perceptrons on frames.
 *
 * @throws {NoDataError} as `hearTrials`
 * @throws {InterruptedError} when the signal aborted.
 */
export async function runTimestamps(context: TimestampContext): Promise<TimestampResult> {
  const { data, protocol, rules, tolerance } = context;
  const files = filesOf(context);
  const classes = data.classes.length;
  const dim = files[0].values.length / files[0].times.length;
  const trials = hearTrials(data, protocol);
  const rowsIn = (which: readonly number[]) =>
    which.flatMap((i) => Array.from(files[i].times, (_, t) => files[i].first + t));
  const scores = (which: readonly number[], values: Float32Array, rule: EventRule) => {
    let at = 0;
    const found = which.map((i) => {
      const { times, events: truth } = files[i];
      const own = values.subarray(at, at += times.length * classes);
      return { truth, found: eventsOf(own, times, rule) };
    });
    return onsetScores(found, classes, tolerance);
  };
  const { choice, grid, splits } = await trainHear(
    { ...context, dim, classes, loss: "binary", rows: joined(files, dim, classes) },
    trials.map(({ train, validation, test }) => ({
      train: rowsIn(train),
      validation: rowsIn(validation),
      test: rowsIn(test),
    })),
    (split, values): Verdict & { readonly rule: EventRule } =>
      rules
        .map((rule) => ({ rule, score: scores(trials[split].validation, values, rule).f }))
        // Of equal ones the later, as hear-eval-kit.
        .reduce((best, it) => it.score >= best.score ? it : best),
  );
  const tested = splits.map(({ test, epoch, verdict: { rule } }, i) => ({
    ...{ fold: trials[i].fold, files: trials[i].test.length, epoch, ...rule },
    score: scores(trials[i].test, test, rule),
  }));
  const each = tested.map(({ score }) => score.f);
  return {
    ...{ dim, choice, grid, mean: meanOf(each), ci95: halfInterval(each) },
    folds: tested.map(({ score: { classes: _, ...score }, ...fold }) => ({ ...fold, ...score })),
    per_class: Object.fromEntries(data.classes.map((name, k) => {
      const mean = (key: keyof OnsetScore) =>
        meanOf(tested.map(({ score }) => score.classes[k][key]));
      return [name, { f: mean("f"), precision: mean("precision"), recall: mean("recall") }];
    })),
  };
}

interface LabelledFrames extends FileFrames {
  readonly events: readonly SoundEvent[];
  /** Number of its first row among those of all files. */
  readonly first: number;
}

function filesOf({ folder, data, frames }: TimestampContext): LabelledFrames[] {
  const numbers = new Map(data.classes.map((name, k) => [name, k]));
  let first = 0;
  return data.clips.map(({ path }) => {
    const own = frames.get(path)!;
    const events = (folder.events.get(path) ?? []).map(({ label, onset, offset }) => ({
      label: numbers.get(label)!,
      onset,
      offset,
    }));
    const file = { ...own, events, first };
    first += own.times.length;
    return file;
  });
}

function joined(files: readonly LabelledFrames[], dim: number, classes: number) {
  const rows = files.reduce((sum, { times }) => sum + times.length, 0);
  const [features, targets] = [new Float32Array(rows * dim), new Float32Array(rows * classes)];
  for (const { values, times, events, first } of files) {
    features.set(values, first * dim);
    targets.set(frameTargets(events, times, classes), first * classes);
  }
  return { features, targets };
}
