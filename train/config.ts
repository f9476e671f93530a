/**
 * From the command line and an optional file to one typed, complete configuration.
 *
 * Layers, later ones winning: the settings of the run that is resumed, the file given by
 * `--config`, the command line. Schema and texts are in config_schema.ts.
 */

import { parse as parseJsonc } from "@std/jsonc";
import { join } from "@std/path";
import { parse as parseToml } from "@std/toml";
import * as v from "valibot";
import {
  type Geometry,
  peakLearningRate,
  type PresetName,
  PRESETS,
  type RecipeName,
  type Span,
} from "../model/presets.ts";
import { type CommandSpec, helpText, parseArguments } from "./cli/parser.ts";
import {
  infoOf,
  isOptionName,
  type OptionName,
  type Options,
  OPTIONS_SCHEMA,
  optionSpecs,
} from "./config_schema.ts";
import { UsageError } from "./errors.ts";

/** Everything a training run needs to know; written to config.json as it stands. */
export interface ResolvedConfig {
  /** Sources of clips; empty means the synthetic corpus. */
  readonly data: readonly string[];
  /** Run directory. */
  readonly out: string;
  /** What is learned. */
  readonly objective: "matpac";
  /** Which source is followed where paper and released code differ. */
  readonly recipe: RecipeName;
  /** Size of the model. */
  readonly preset: PresetName;
  /** The preset's sizes with `--crop-frames` and `--mask-ratio` applied. */
  readonly geometry: Geometry;
  /** Length of the run; epochs become updates once the number of clips is known. */
  readonly length: { readonly steps: number } | { readonly epochs: number };
  /** Clips per update. */
  readonly batch: number;
  /** Number format of the computation. */
  readonly precision: "f32";
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
  /** Weight of prediction against classification. */
  readonly alpha: number;
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
  /** Checkpoints kept. */
  readonly keep: number;
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

const PRETRAIN: CommandSpec = {
  program: "deno task pretrain",
  summary: "Pre-trains MATPAC on audio and leaves a run directory.",
  options: [
    {
      name: "config",
      kind: "value",
      metavar: "FILE",
      description: "TOML or JSONC file with these options by name; the command line wins.",
    },
    ...optionSpecs(),
  ],
};

// They belong to one invocation, not to the run that is resumed.
const NOT_INHERITED: readonly OptionName[] = [
  "out",
  "resume",
  "init",
  "memory-limit",
  "anomaly",
  "tune",
  "profile",
  "quiet",
  "micro-batch",
];

interface Layer {
  /** Named in messages, after the value: "on the command line", "in run.toml". */
  readonly source: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** The text of `deno task pretrain --help`. */
export function pretrainHelp(): string {
  return helpText(PRETRAIN);
}

/**
 * Reads `argv` (without the command's name), the file it names and, under `--resume`, the
 * configuration of that run. `now` names the default run directory.
 *
 * @throws UsageError naming key, value and what is allowed
 */
export function resolveConfig(argv: readonly string[], now: Date = new Date()): ResolvedConfig {
  const { config: file, ...words } = parseArguments(PRETRAIN, argv);
  const layers: Layer[] = [{
    source: "on the command line",
    values: Object.fromEntries(Object.entries(words).map(([k, it]) => [k, fromWord(k, it)])),
  }];
  if (typeof file === "string") layers.unshift(readLayer(file));
  if (last(layers, "resume") === true) {
    const out = last(layers, "out");
    if (typeof out !== "string") {
      throw new UsageError("--resume: needs --out DIR, the run to go on with");
    }
    layers.unshift(inherited(out));
  }
  return complete(check(layers), now);
}

function last(layers: readonly Layer[], key: OptionName): unknown {
  return layers.findLast((it) => it.values[key] !== undefined)?.values[key];
}

/** A word of the command line as the type its option has; what does not fit stays a word. */
function fromWord(name: string, word: string | readonly string[] | true): unknown {
  if (!isOptionName(name) || infoOf(name).kind !== "number" || typeof word !== "string") {
    return word;
  }
  return word.trim() === "" || Number.isNaN(Number(word)) ? word : Number(word);
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
    values = parse(Deno.readTextFileSync(file));
  } catch (error) {
    throw new UsageError(
      `--config ${file}: cannot be read`,
      error instanceof Error ? error.message : String(error),
    );
  }
  if (typeof values !== "object" || values === null || Array.isArray(values)) {
    throw new UsageError(`--config ${file}: must hold a table of options`);
  }
  const table: Record<string, unknown> = { ...values };
  // One path may stand without the brackets of a list.
  if (typeof table.data === "string") table.data = [table.data];
  return { source: `in ${file}`, values: table };
}

function inherited(out: string): Layer {
  const file = join(out, "config.json");
  let values: Record<string, unknown>;
  try {
    values = { ...JSON.parse(Deno.readTextFileSync(file)).options };
  } catch (error) {
    throw new UsageError(
      `--resume: no run to go on with in ${out}`,
      error instanceof Error ? error.message : String(error),
    );
  }
  for (const name of NOT_INHERITED) delete values[name];
  return { source: `in ${file}`, values };
}

/** Merges the layers and checks the result against the schema. */
function check(layers: readonly Layer[]): Options {
  const merged: Record<string, unknown> = {};
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
  const result = v.safeParse(OPTIONS_SCHEMA, merged);
  if (result.success) return result.output;
  const lines = new Set(result.issues.map((issue) => {
    const key = String(issue.path?.[0]?.key ?? "");
    const where = `(${sources.get(key)})`;
    if (!isOptionName(key)) {
      return `${key} ${where}: no such option; allowed are ${
        Object.keys(OPTIONS_SCHEMA.entries).join(", ")
      }`;
    }
    return `--${key} ${show(merged[key])} ${where}: must be ${infoOf(key).allowed}`;
  }));
  const [first, ...rest] = lines;
  throw new UsageError(first, rest.length > 0 ? rest.join("\n") : undefined);
}

function show(value: unknown): string {
  return typeof value === "string" ? value || '""' : JSON.stringify(value) ?? String(value);
}

function complete(given: Options, now: Date): ResolvedConfig {
  const { geometry: sizes, training } = PRESETS[given.preset];
  const batch = given.batch ?? training.batch;
  if (given["micro-batch"] !== undefined && given["micro-batch"] !== batch) {
    throw new UsageError(
      `--micro-batch ${given["micro-batch"]}: must be the value of --batch (${batch}); ` +
        "accumulation is not there yet",
    );
  }
  if (given.resume && given.init !== undefined) {
    throw new UsageError("--init: not together with --resume, which has weights of its own");
  }
  const geometry: Geometry = {
    ...sizes,
    cropFrames: given["crop-frames"] ?? sizes.cropFrames,
    maskRatio: given["mask-ratio"] ?? sizes.maskRatio,
  };
  const visible = Math.trunc(patches(geometry) * (1 - geometry.maskRatio));
  if (visible < 1 || visible >= patches(geometry)) {
    throw new UsageError(
      `--mask-ratio ${geometry.maskRatio}: leaves ${visible} of ${patches(geometry)} patches ` +
        "visible; must leave at least one visible and one masked",
    );
  }
  const length = given.steps !== undefined
    ? { steps: given.steps }
    : given.epochs !== undefined
    ? { epochs: given.epochs }
    : training.length;
  const lr = given.lr ?? peakLearningRate(training.peakRate[given.recipe], batch);
  const logEvery = given["log-every"] ?? training.logEvery;
  const saveEvery = given["save-every"] ?? training.saveEvery;
  const out = given.out ?? join("runs", `${stamp(now)}-${given.preset}`);
  return {
    data: given.data,
    out,
    objective: given.objective,
    recipe: given.recipe,
    preset: given.preset,
    geometry,
    length,
    batch,
    precision: given.precision,
    lr,
    warmup: given.warmup === undefined ? training.warmup : { steps: given.warmup },
    emaEncoder: training.emaEncoder,
    emaHead: training.emaHead,
    teacherTemp: training.teacherTemp,
    teacherTempWarmup: training.teacherTempWarmup,
    alpha: given.alpha,
    seed: given.seed,
    resume: given.resume,
    ...(given.init !== undefined && { init: given.init }),
    logEvery,
    saveEvery,
    keep: given.keep,
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
      ...given,
      out,
      ...length,
      batch,
      lr,
      "mask-ratio": geometry.maskRatio,
      "crop-frames": geometry.cropFrames,
      "log-every": logEvery,
      "save-every": saveEvery,
    },
  };
}

/** Patches of a crop: rows of bands times columns of frames, what fills no patch dropped. */
function patches({ melBands, cropFrames, patchSize }: Geometry): number {
  return Math.floor(melBands / patchSize) * Math.floor(cropFrames / patchSize);
}

/** UTC as 20260131-235959: sorts, and is a file name everywhere. */
function stamp(now: Date): string {
  return now.toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "-");
}
