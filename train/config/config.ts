/**
 * From the command line and an optional file to one typed, complete configuration.
 *
 * Layers, later ones winning: the settings of the run that is resumed, the file given by
 * `--config`, the command line. The options themselves are in options.ts.
 *
 * @module
 */

import { parse as parseJsonc } from "../deps/jsonc.ts";
import { join } from "../deps/path.ts";
import { parse as parseToml } from "../deps/toml.ts";
import type { ClipPool } from "../../model/encoder/pooling.ts";
import type { Masking } from "../../model/objectives/masking.ts";
import type { Precision } from "../../model/objectives/masked_model.ts";
import { type ObjectiveName, OBJECTIVES, trainingFor } from "../../model/objectives/objectives.ts";
import {
  peakLearningRate,
  type PresetName,
  type RecipeName,
  type Span,
} from "../../model/objectives/presets.ts";
import type { Geometry } from "../../model/vit/geometry.ts";
import type { Recipe } from "../../model/objectives/recipe.ts";
import { command } from "../cli/command.ts";
import { flag, fromWords, judge, option } from "../cli/option.ts";
import { parseArguments } from "../cli/parser.ts";
import { file } from "../cli/value_types.ts";
import { type OptionName, type Options, PRETRAIN_OPTIONS } from "./options.ts";
import { modelOptions } from "./model_options.ts";
import type { CropChoice } from "../data/loader.ts";
import { UsageError } from "../errors.ts";
import { readFully } from "../io/bytes.ts";
import { openRegular } from "../io/regular_file.ts";

/** Everything a training run needs to know; written to config.json as it stands. */
export interface ResolvedConfig {
  /** Sources of clips; empty means the synthetic corpus. */
  readonly data: readonly string[];
  /** Weight of each source; absent: every clip once per epoch. */
  readonly dataWeights?: readonly number[];
  /** Whose mean and standard deviation log-mel values are standardised with. */
  readonly standardise: "paper" | "store";
  /** Threads that read and decode. */
  readonly workers?: number;
  /** Longer files of audio are skipped. */
  readonly maxHours?: number;
  /** Run directory. */
  readonly out: string;
  /** What is learned. */
  readonly objective: ObjectiveName;
  /** Which source is followed where paper and released code differ. */
  readonly recipe: RecipeName;
  /** That recipe's choices with the `--recipe-*` options applied. */
  readonly choices: Recipe;
  /** Size of the model. */
  readonly preset: PresetName;
  /** The preset's sizes with `--crop-frames` and `--mask-ratio` applied. */
  readonly geometry: Geometry;
  /** What is masked. */
  readonly masking: Masking;
  /** How clips' embeddings are pooled by default. */
  readonly pool: ClipPool;
  /** Blocks of clips' embeddings by default; the last one alone where there is no word of them. */
  readonly blocks?: readonly number[];
  /** Length of the run; epochs become updates once the number of clips is known. */
  readonly length: { readonly steps: number } | { readonly epochs: number };
  /** Painting (MSM-MAE) before the objective: updates that come before those of `length`. */
  readonly paint?: { readonly steps: number; readonly lr: number };
  /** Masks that each clip is seen with in an update. */
  readonly masksPerClip: number;
  /** How crops of clips are taken. */
  readonly crops: CropChoice;
  /** Crops per update. */
  readonly batch: number;
  /** Clips per forward and backward pass; divides each process's part of {@link batch}. */
  readonly microBatch: number;
  /** Processes that share each update. */
  readonly ranks: number;
  /** Number format of forward and backward passes. */
  readonly precision: Precision;
  /** Peak learning rate. */
  readonly lr: number;
  /** Length of the rise of the learning rate. */
  readonly warmup: Span;
  /** Decay of the teacher encoder's average. */
  readonly emaEncoder: readonly [start: number, end: number];
  /** Decay of the teacher head's average. */
  readonly emaHead: readonly [start: number, end: number];
  /** Temperature of the teacher's softmax. */
  readonly teacherTemp: readonly [start: number, end: number];
  /** Length of the change of that temperature. */
  readonly teacherTempWarmup: Span;
  /** Weight of prediction against classification, in objectives that have both. */
  readonly alpha: number;
  /** Weight of the contrast of clips; 0 without. */
  readonly contrast: number;
  /** Why the run is as it is, where it was planned from sound, adapter and time. */
  readonly plan?: readonly string[];
  /** Start of every random choice. */
  readonly seed: number;
  /** Whether to go on from the newest checkpoint. */
  readonly resume: boolean;
  /** Weights to start from. */
  readonly init?: string;
  /** Updates between two rows of metrics. */
  readonly logEvery: number;
  /** Updates between two checkpoints. */
  readonly saveEvery: number;
  /** Labelled folder to evaluate on. */
  readonly eval?: string;
  /** Updates between two evaluations. */
  readonly evalEvery: number;
  /** Newest checkpoints kept. */
  readonly keep: number;
  /** Checkpoints of lowest loss kept beside them. */
  readonly keepBest: number;
  /** Whether blocks are computed again in the backward pass. */
  readonly recompute: boolean;
  /** Most bytes of GPU memory. */
  readonly memoryLimit?: number;
  /** Whether every value is looked through for NaN and infinity. */
  readonly anomaly: boolean;
  /** When kernel variants are timed. */
  readonly tune: "auto" | "on" | "off";
  /** Kernel variants by family that are used wherever they fit. */
  readonly variants: Readonly<Record<string, string>>;
  /** Whether measurements are ignored when choosing kernel variants. */
  readonly deterministic: boolean;
  /** Updates to profile. */
  readonly profile?: number;
  /** Which adapter is wanted. */
  readonly adapter: "auto" | "gpu" | "software";
  /** Whether there is no progress line. */
  readonly quiet: boolean;
  /** The same values under their option names: a file of them gives the same run again. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** The command as help and parsing see it. */
export const PRETRAIN = command({
  name: "pretrain",
  options: {
    ...PRETRAIN_OPTIONS,
    config: option(
      file(),
      "TOML or JSONC file with these options by name; the command line wins.",
    ),
    "dry-run": {
      ...flag("Prints configuration, sizes, length and memory of the run, and trains nothing."),
      group: "Run directory",
    },
    studio: {
      ...flag("Opens a page on which the run is watched while it trains, as task studio does."),
      group: "Run directory",
    },
  },
});

/** Whether the run is only to be described. */
export function isDryRun(argv: readonly string[]): boolean {
  return parseArguments(PRETRAIN.program, PRETRAIN.options, argv)["dry-run"] === true;
}

/** Whether the run is to be watched on a page. */
export function wantsStudio(argv: readonly string[]): boolean {
  return parseArguments(PRETRAIN.program, PRETRAIN.options, argv).studio === true;
}

// They belong to one invocation, not to the run that is resumed.
const NOT_INHERITED: readonly OptionName[] = [
  "out",
  "resume",
  "memory-limit",
  "anomaly",
  "tune",
  "profile",
  "quiet",
  "workers",
];

/** Most bytes of a file of options. */
const MAX_CONFIG_BYTES = 1 << 18;
/** Most equals signs in it: the reader of TOML takes the square of the number of keys. */
const MAX_CONFIG_KEYS = 1000;

interface Layer {
  /** Named in messages, after the value: "on the command line", "in run.toml". */
  readonly source: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/**
 * The options that make a run what it is, however often it is resumed: what its files hold of them.
 */
export function lastingOptions({ options }: Pick<ResolvedConfig, "options">): string {
  const lasting = Object.entries(options).filter(([name]) =>
    !(NOT_INHERITED as readonly string[]).includes(name)
  );
  // Inherited or given, in one order: the same run has the same text.
  return JSON.stringify(Object.fromEntries(lasting.sort(([a], [b]) => a < b ? -1 : 1)));
}

/** The text of `deno task pretrain --help`. */
export function pretrainHelp(): string {
  return PRETRAIN.help();
}

/**
 * Reads `argv` (without the command's name), the file it names and, under `--resume`, the
 * configuration of that run.
 *
 * @param now names the default run directory
 * @param ranks processes that share each update
 * @throws UsageError naming key, value and what is allowed
 */
export function resolveConfig(
  argv: readonly string[],
  now: Date = new Date(),
  ranks = 1,
): ResolvedConfig {
  return completed(check(layersOf(argv)), now, ranks);
}

/** Why some options are planned as they are, for people. */
export interface PlannedReason {
  readonly text: string;
  /** The options; none where it says what was found or measured. */
  readonly of: readonly OptionName[];
}

/** Values for options that nobody gave, and why they are so. */
export interface PlannedValues {
  /** By option name; file and command line win. */
  readonly values: Readonly<Record<string, unknown>>;
  /** In the order in which they are told. */
  readonly reasons: readonly PlannedReason[];
}

/**
 * As {@link resolveConfig}, with planned values below all others, and reasons of what was planned
 * and not given. Planned blocks belong to the planned way to pool: who asks for another one gets
 * the last block, as everywhere.
 */
export function resolvePlanned(
  argv: readonly string[],
  now: Date,
  { values, reasons }: PlannedValues,
): ResolvedConfig {
  const given = layersOf(argv);
  const isGiven = (name: OptionName) => last(given, name) !== undefined;
  const { blocks: _, ...others } = values;
  const planned = isGiven("pool") ? others : values;
  const layers = [{ source: "as planned", values: planned }, ...given];
  const plan = reasons.flatMap(({ text, of }) => {
    const own = of.filter((it) => isGiven(it) || it === "blocks" && isGiven("pool"));
    if (own.length === 0) return [text];
    const names = own.map((it) => `--${it}`).join(" and ");
    return own.length === of.length ? [] : [`${text} (but ${names} as given)`];
  });
  return { ...completed(check(layers), now), plan };
}

/** Options that say nothing of how a model is trained: a run that has no others is planned. */
const NOT_OF_TRAINING: ReadonlySet<string> = new Set<OptionName>([
  ...["data", "data-weights", "standardise", "max-hours", "workers", "out", "eval", "resume"],
  ...["quiet", "seed", "pool", "blocks", "hours", "precision", "micro-batch", "recompute"],
  ...[
    "memory-limit",
    "anomaly",
    "log-every",
    "save-every",
    "eval-every",
    "keep",
    "keep-best",
    "profile",
  ],
  ...["adapter", "tune", "variant", "deterministic"],
] as OptionName[]);

/** Of a planned run that is not told otherwise. */
const DEFAULT_HOURS = 1;

/**
 * Hours of training for a run that is to be planned; undefined where options say how to train, or
 * there is no data to plan for.
 *
 * @param ranks processes that share each update: several are not planned for
 * @throws {UsageError} for `--hours` together with what contradicts it
 */
export function plannedHours(argv: readonly string[], ranks = 1): number | undefined {
  const layers = layersOf(argv);
  const has = (name: OptionName) => last(layers, name) !== undefined;
  const { data, hours, resume } = check(layers);
  if (hours !== undefined) {
    const other = (["steps", "epochs", "recipe", "paint-steps"] as const).find(has);
    if (other) throw new UsageError(`--hours and --${other}: give one of them`);
    if (ranks > 1) throw new UsageError("--hours: several ranks are not planned for; give --steps");
    if (resume) throw new UsageError("--hours: a run that is resumed has its length");
    if (data.length === 0) throw new UsageError("--hours: needs --data, sounds to plan for");
    return hours;
  }
  const said = [...optionsOfTraining(argv)].filter((it) => it !== "init");
  return data.length > 0 && !resume && ranks === 1 && said.length === 0 ? DEFAULT_HOURS : undefined;
}

/** Names of options that are given and say how to train. */
export function optionsOfTraining(argv: readonly string[]): ReadonlySet<string> {
  const given = layersOf(argv).flatMap(({ values }) => Object.keys(values));
  return new Set(given.filter((it) => !NOT_OF_TRAINING.has(it)));
}

/** What the words and the files that they name say. */
function layersOf(argv: readonly string[]): Layer[] {
  const { config: file, "dry-run": _, studio: __, ...words } = parseArguments(
    PRETRAIN.program,
    PRETRAIN.options,
    argv,
  );
  const layers: Layer[] = [{
    source: "on the command line",
    values: fromWords(PRETRAIN_OPTIONS, words),
  }];
  if (typeof file === "string") layers.unshift(readLayer(file));
  if (last(layers, "resume") === true) {
    const out = last(layers, "out");
    if (typeof out !== "string") {
      throw new UsageError("--resume: needs --out DIR, the run to go on with");
    }
    // The run's own is inherited: it counts when there is no checkpoint yet.
    if (last(layers, "init") !== undefined) {
      throw new UsageError("--init: not together with --resume, which has weights of its own");
    }
    layers.unshift(inherited(out));
  }
  return layers;
}

function last(layers: readonly Layer[], key: OptionName): unknown {
  return layers.findLast((it) => it.values[key] !== undefined)?.values[key];
}

function readLayer(file: string): Layer {
  const parse = /\.toml$/i.test(file)
    ? parseToml
    : /\.jsonc?$/i.test(file)
    ? parseJsonc
    : undefined;
  if (parse === undefined) {
    throw new UsageError(`--config ${file}: must end in .toml, .json or .jsonc`);
  }
  let values: unknown;
  try {
    values = parse(readConfigText(file));
  } catch (error) {
    const { message } = error as Error;
    const isDeep = message.includes("call stack");
    throw new UsageError(
      `--config ${file}: cannot be read`,
      isDeep ? "its lists or tables nest too deep" : message,
    );
  }
  if (typeof values !== "object" || values === null || Array.isArray(values)) {
    throw new UsageError(`--config ${file}: must hold a table of options`);
  }
  return { source: `in ${file}`, values: { ...values } };
}

/**
 * The text of a file with a byte order mark or without one; Windows PowerShell writes UTF-16.
 *
 * @throws {Error} if it cannot be read, or is too long to hold options
 */
function readConfigText(file: string): string {
  using opened = openRegular(file);
  const bytes = readFully(opened, MAX_CONFIG_BYTES + 1);
  if (bytes.length > MAX_CONFIG_BYTES) {
    throw new Error(`it is longer than ${MAX_CONFIG_BYTES} bytes: no file of options`);
  }
  const [first, second] = bytes;
  const encoding = first === 0xff && second === 0xfe
    ? "utf-16le"
    : first === 0xfe && second === 0xff
    ? "utf-16be"
    : "utf-8";
  const text = new TextDecoder(encoding).decode(bytes);
  if (text.split("=", MAX_CONFIG_KEYS + 2).length > MAX_CONFIG_KEYS + 1) {
    throw new Error(`it has more than ${MAX_CONFIG_KEYS} equals signs: no file of options`);
  }
  return text;
}

function inherited(out: string): Layer {
  const file = join(out, "config.json");
  let values: Record<string, unknown>;
  try {
    values = { ...JSON.parse(readConfigText(file)).options };
  } catch (error) {
    throw new UsageError(
      `--resume: no run to go on with in ${out}`,
      error instanceof Error ? error.message : String(error),
    );
  }
  for (const name of NOT_INHERITED) delete values[name];
  return { source: `in ${file}`, values };
}

/** Merges the layers and judges the result. */
function check(layers: readonly Layer[]): Options {
  // Without a prototype, that `__proto__` is a name like any other.
  const merged: Record<string, unknown> = Object.create(null);
  const sources = new Map<string, string>();
  for (const { source, values } of layers) {
    if (values.steps !== undefined && values.epochs !== undefined) {
      throw new UsageError(`--steps and --epochs (${source}): give one of them`);
    }
    if (values.steps !== undefined) delete merged.epochs;
    if (values.epochs !== undefined) delete merged.steps;
    for (const [key, value] of Object.entries(values)) {
      merged[key] = value;
      sources.set(key, source);
    }
  }
  return judge(PRETRAIN_OPTIONS, merged, { sourceOf: (name) => ` (${sources.get(name)})` });
}

/** Whether a pass of so many crops has two of each of two clips at least. */
export function canContrast(microBatch: number): boolean {
  return microBatch % 2 === 0 && microBatch >= 4;
}

/**
 * The configuration of options that were judged.
 *
 * @param now names the default run directory
 * @param ranks processes that share each update
 * @throws {UsageError} for options that do not fit each other
 */
export function completed(given: Options, now: Date, ranks = 1): ResolvedConfig {
  // It is spent on the length.
  const { hours: _, ...lasting } = given;
  const { objective } = given;
  const training = trainingFor(objective, given.preset);
  const batch = given.batch ?? training.batch;
  if (batch % ranks !== 0) {
    throw new UsageError(`--batch ${batch}: ${ranks} ranks cannot share it equally`);
  }
  const microBatch = given["micro-batch"] ?? batch / ranks;
  if (batch % (microBatch * ranks) !== 0) {
    const what = ranks === 1 ? "--batch" : `a rank's part of --batch`;
    throw new UsageError(`--micro-batch ${microBatch}: must divide ${what} (${batch / ranks})`);
  }
  const { choices, geometry, masking } = modelOptions(given);
  if (given.contrast > 0 && !canContrast(microBatch)) {
    throw new UsageError(
      `--contrast ${given.contrast}: needs two crops of two clips at least in a pass, not ` +
        `${microBatch} crops`,
    );
  }
  if (given.contrast > 0 && given["masks-per-clip"] > 1) {
    throw new UsageError(`--contrast ${given.contrast}: crops have one mask, not --masks-per-clip`);
  }
  const [slowest, fastest] = given.speeds;
  if (slowest > fastest || slowest < 0.1 || fastest > 10) {
    throw new UsageError(`--speeds ${given.speeds}: must be the slower first, from 0.1 to 10`);
  }
  if (given.blocks?.some((it) => it > geometry.depth)) {
    throw new UsageError(`--blocks ${given.blocks}: the model has ${geometry.depth} blocks`);
  }
  const length = given.steps !== undefined
    ? { steps: given.steps }
    : given.epochs !== undefined
    ? { epochs: given.epochs }
    : training.length;
  const lr = given.lr ?? peakLearningRate(
    training.peakRate[choices.lrScaling === "batch" ? "paper" : "released"],
    batch,
  );
  const { "paint-steps": paintSteps } = given;
  if (paintSteps > 0 && objective === "msm-mae") {
    throw new UsageError("--paint-steps: msm-mae paints anyway, give --steps");
  }
  const logEvery = given["log-every"] ?? training.logEvery;
  const saveEvery = given["save-every"] ?? training.saveEvery;
  const evalEvery = given["eval-every"] ?? saveEvery;
  const out = given.out ?? join("runs", `${stamp(now)}-${given.preset}`);
  return {
    data: given.data,
    ...(given["data-weights"] !== undefined && { dataWeights: given["data-weights"] }),
    standardise: given.standardise,
    ...(given.workers !== undefined && { workers: given.workers }),
    ...(given["max-hours"] !== undefined && { maxHours: given["max-hours"] }),
    out,
    objective,
    recipe: given.recipe,
    choices,
    preset: given.preset,
    geometry,
    masking,
    pool: given.pool,
    ...(given.blocks && { blocks: given.blocks }),
    length,
    masksPerClip: given["masks-per-clip"],
    crops: { cropsPerClip: given.contrast > 0 ? 2 : 1, speeds: given.speeds },
    ...(paintSteps > 0 && { paint: { steps: paintSteps, lr: given["paint-lr"] ?? lr } }),
    batch,
    microBatch,
    ranks,
    precision: given.precision,
    lr,
    warmup: given.warmup === undefined ? training.warmup : { steps: given.warmup },
    emaEncoder: given["ema-encoder"] ?? training.emaEncoder,
    emaHead: given["ema-head"] ?? training.emaHead,
    teacherTemp: given["teacher-temp"] ?? training.teacherTemp,
    teacherTempWarmup: training.teacherTempWarmup,
    alpha: given.alpha ?? 0.5,
    contrast: given.contrast,
    seed: given.seed,
    resume: given.resume,
    ...(given.init !== undefined && { init: given.init }),
    logEvery,
    saveEvery,
    ...(given.eval !== undefined && { eval: given.eval }),
    evalEvery,
    keep: given.keep,
    keepBest: given["keep-best"],
    recompute: given.recompute,
    ...(given["memory-limit"] !== undefined && { memoryLimit: given["memory-limit"] }),
    anomaly: given.anomaly,
    tune: given.tune,
    variants: Object.fromEntries(given.variant.map((it) => it.split("="))),
    deterministic: given.deterministic,
    ...(given.profile !== undefined && { profile: given.profile }),
    adapter: given.adapter,
    quiet: given.quiet,
    options: {
      ...lasting,
      ...(OBJECTIVES[objective].has.classification && { alpha: given.alpha ?? 0.5 }),
      out,
      ...length,
      batch,
      lr,
      "mask-ratio": geometry.maskRatio,
      "crop-frames": geometry.cropFrames,
      "log-every": logEvery,
      "save-every": saveEvery,
      "eval-every": evalEvery,
    },
  };
}

/** UTC as 20260131-235959: sorts, and is a file name everywhere. */
function stamp(now: Date): string {
  return now.toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "-");
}
