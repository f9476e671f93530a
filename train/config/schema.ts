/**
 * The schema of `pretrain`'s options: one entry per option gives its type, its default,
 * what a message says is allowed, and its line of `--help`.
 */

import * as v from "valibot";
import { MASK_KINDS } from "../../model/objectives/masking.ts";
import { type ObjectiveName, OBJECTIVES } from "../../model/objectives/objectives.ts";
import { PRESETS, type Span, type TrainingDefaults } from "../../model/objectives/presets.ts";
import {
  type Deviation,
  type DeviationName,
  deviations,
  sideOf,
} from "../../model/objectives/recipe.ts";
import type { OptionSpec } from "../cli/parser.ts";

/** What an entry says about itself beside its type. */
type EntryInfo = {
  /** How a word of the command line becomes a value. */
  readonly kind: "number" | "text" | "list" | "flag";
  /** Stands for the value in help. */
  readonly metavar?: string;
  /** Completes the sentence "must be …". */
  readonly allowed: string;
  /** Replaces the schema's default in help, where that depends on other options. */
  readonly defaultText?: string;
};

type AnySchema = v.GenericSchema<unknown, unknown>;

function entry<const S extends AnySchema>(schema: S, help: string, info: EntryInfo) {
  return v.pipe(
    schema,
    v.metadata<v.InferOutput<S>, EntryInfo & { help: string }>({ ...info, help }),
  );
}

const positive = v.pipe(v.number(), v.finite(), v.gtValue(0));
/** An array in a file, words with commas between them on the command line. */
function numbers<const S extends v.GenericSchema<number[], unknown>>(schema: S) {
  return v.union([
    schema,
    v.pipe(
      v.string(),
      v.transform((it) => it.split(",").map((word) => word.trim() === "" ? NaN : Number(word))),
      schema,
    ),
  ]);
}
const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1));
const MAX_COUNT = 2 ** 31 - 1;
function count(min: number) {
  return v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(MAX_COUNT));
}
function countInfo(min: number, defaultText?: string) {
  const allowed = `a whole number from ${min}`;
  return { kind: "number", metavar: "N", allowed, ...(defaultText && { defaultText }) } as const;
}
function byPreset(value: (training: TrainingDefaults) => string | number): string {
  return Object.entries(PRESETS).map(([name, it]) => `${name} ${value(it.training)}`).join(", ");
}
function spanText(span: Span): string | number {
  if ("steps" in span) return span.steps;
  return "epochs" in span ? `${span.epochs} epochs` : `${span.fraction * 100} % of the run`;
}
const path = v.pipe(v.string(), v.minLength(1));
/** A pair in a file, a word such as 16x8 on the command line. */
const patchSides = v.strictTuple([
  v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(80)),
  v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1024)),
]);
const patchSize = v.union([
  patchSides,
  v.pipe(
    v.string(),
    v.regex(/^\d{1,4}x\d{1,4}$/),
    v.transform((it) => it.split("x").map(Number)),
    patchSides,
  ),
]);
const OBJECTIVE_NAMES = Object.keys(OBJECTIVES) as ObjectiveName[];

/** A value that moves from a start to an end. */
function rampEntry<const S extends v.GenericSchema<number, number>>(
  value: S,
  help: string,
  allowed: string,
  preset: (training: TrainingDefaults) => readonly [number, number],
) {
  return entry(v.optional(numbers(v.strictTuple([value, value]))), help, {
    kind: "text",
    metavar: "X,X",
    allowed: `${allowed} with a comma between them`,
    defaultText: byPreset((it) => preset(it).join(",")),
  });
}

function sideEntry(row: Deviation) {
  const sides = ["paper", "released"] as const;
  const taken = sides.map((it) => sideOf(it, row));
  return entry(
    v.optional(v.picklist(sides)),
    `${row.topic[0].toUpperCase()}${row.topic.slice(1)}: paper ${row.paper.text}; ` +
      `released ${row.released.text}.`,
    {
      kind: "text",
      metavar: sides.join("|"),
      allowed: sides.join(" or "),
      defaultText: taken[0] === "neither"
        ? "as the data has"
        : taken[0] === taken[1]
        ? taken[0]
        : "--recipe",
    },
  );
}
/** One option for each row of SPEC section 9 that a run can choose a side of. */
const SIDE_ENTRIES = Object.fromEntries(
  deviations().map(([name, row]) => [`recipe-${name}`, sideEntry(row)]),
) as Record<`recipe-${DeviationName}`, ReturnType<typeof sideEntry>>;

/** Entries by option name, in the order of `--help`. */
export const ENTRIES = {
  data: entry(
    v.optional(v.pipe(v.array(path)), []),
    "Folder of audio, folder of .npy log-mels, or manifest .tsv; may be given several times.",
    {
      kind: "list",
      metavar: "PATH",
      allowed: "a path or a list of paths",
      defaultText: "built-in synthetic corpus",
    },
  ),
  "data-weights": entry(
    v.optional(numbers(v.pipe(v.array(positive), v.minLength(1)))),
    "One number for each --data: clips come from them in that proportion.",
    {
      kind: "text",
      metavar: "X,X",
      allowed: "numbers above 0 with commas between them",
      defaultText: "every clip once per epoch",
    },
  ),
  standardise: entry(
    v.optional(v.picklist(["paper", "store"]), "paper"),
    "Mean and standard deviation that log-mel values are standardised with: the paper's -7.056 and 4.193, or those " +
      "that prepare left in the stores.",
    {
      kind: "text",
      metavar: "paper|store",
      allowed: "paper or store",
    },
  ),
  workers: entry(
    v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(256))),
    "Threads that read and decode clips ahead of the GPU; 0 does it between updates.",
    {
      kind: "number",
      metavar: "N",
      allowed: "a whole number from 0 to 256",
      defaultText: "one less than there are cores, from 1 to 16",
    },
  ),
  out: entry(
    v.optional(path),
    "Run directory.",
    {
      kind: "text",
      metavar: "DIR",
      allowed: "a path",
      defaultText: "runs/<time>-<preset>",
    },
  ),
  objective: entry(
    v.optional(v.picklist(OBJECTIVE_NAMES), "matpac"),
    `What is learned: ${
      OBJECTIVE_NAMES.map((it) => `${it} ${OBJECTIVES[it].summary}`).join("; ")
    }.`,
    {
      kind: "text",
      metavar: "NAME",
      allowed: OBJECTIVE_NAMES.join(", "),
    },
  ),
  recipe: entry(
    v.optional(v.picklist(["paper", "released"]), "paper"),
    "Which source is followed where paper and released code differ.",
    {
      kind: "text",
      metavar: "paper|released",
      allowed: "paper or released",
    },
  ),
  ...SIDE_ENTRIES,
  preset: entry(
    v.optional(v.picklist(["tiny", "small", "base"]), "tiny"),
    "Size of the model, with its training numbers; base is the paper's.",
    {
      kind: "text",
      metavar: "tiny|small|base",
      allowed: "tiny, small or base",
    },
  ),
  steps: entry(
    v.optional(count(1)),
    "Length of the run in updates.",
    countInfo(1, byPreset((it) => spanText(it.length))),
  ),
  epochs: entry(
    v.optional(positive),
    "Length of the run in passes over the data, instead of --steps.",
    {
      kind: "number",
      metavar: "N",
      allowed: "a number above 0",
    },
  ),
  batch: entry(
    v.optional(count(1)),
    "Clips per update.",
    countInfo(1, byPreset((it) => it.batch)),
  ),
  "micro-batch": entry(
    v.optional(count(1)),
    "Clips per pass; gradients add up to those of --batch clips, of which it is a divisor. Fewer need less memory.",
    countInfo(1, "--batch"),
  ),
  precision: entry(
    v.optional(v.picklist(["f32", "mixed"]), "f32"),
    "Number format of weights and activations in forward and backward passes; mixed: 16-bit floats with a dynamic loss " +
      "scale, and f32 for master weights, optimizer, teachers and losses.",
    {
      kind: "text",
      metavar: "f32|mixed",
      allowed: "f32 or mixed",
    },
  ),
  lr: entry(
    v.optional(positive),
    "Peak learning rate; under the released recipe base's does not grow with the batch.",
    {
      kind: "number",
      metavar: "X",
      allowed: "a number above 0",
      defaultText: byPreset(({ peakRate: { paper } }) =>
        `${paper.rate}${paper.perBatchOf256 ? " for 256 clips per update" : ""}`
      ),
    },
  ),
  warmup: entry(
    v.optional(count(0)),
    "Updates over which the learning rate rises from zero.",
    countInfo(0, byPreset((it) => spanText(it.warmup))),
  ),
  "ema-encoder": rampEntry(
    share,
    "First and last decay of the teacher encoder's average, linear over the run. A half-life of a few percent of the " +
      "run's updates is usual: a decay of 0.99 halves in 69 updates, 0.999 in 693.",
    "two numbers from 0 to 1",
    (it) => it.emaEncoder,
  ),
  "ema-head": rampEntry(
    share,
    "First and last decay of the teacher head's average, linear over the run.",
    "two numbers from 0 to 1",
    (it) => it.emaHead,
  ),
  "teacher-temp": rampEntry(
    positive,
    "First and last temperature of the teacher's softmax; it rises at the start of the run.",
    "two numbers above 0",
    (it) => it.teacherTemp,
  ),
  mask: entry(
    v.optional(v.picklist(MASK_KINDS), "random"),
    "What is masked: single patches; rows and columns of patches, as many patches in all; or columns, which are moments " +
      "with all their bands.",
    {
      kind: "text",
      metavar: MASK_KINDS.join("|"),
      allowed: "random, structured or time",
    },
  ),
  "mask-run": entry(
    v.optional(count(1)),
    "Under --mask time: neighbouring columns that are masked together; such runs may overlap.",
    countInfo(1, "1"),
  ),
  "target-layers": entry(
    v.optional(numbers(v.pipe(v.array(count(1)), v.minLength(1)))),
    "m2d, matpac, matpac-plus: teacher's blocks, counted from 1, whose normalised outputs are averaged to be the target.",
    {
      kind: "text",
      metavar: "N,N",
      allowed: "whole numbers from 1 with commas between them",
      defaultText: "the last one after the teacher's norm",
    },
  ),
  "target-centre": entry(
    v.optional(v.picklist(["none", "clip"]), "none"),
    "clip: targets lose their mean over the clip's masked patches and are standardised, so that telling clips apart is " +
      "not enough to predict them. For short runs; not in the papers.",
    { kind: "text", metavar: "none|clip", allowed: "none or clip" },
  ),
  "mask-ratio": entry(
    v.optional(v.pipe(v.number(), v.gtValue(0), v.ltValue(1))),
    "Share of the patches that the student does not see.",
    {
      kind: "number",
      metavar: "X",
      allowed: "a number above 0 and below 1",
      defaultText: "0.75 for msm-mae, else 0.7",
    },
  ),
  patch: entry(
    v.optional(patchSize),
    "Bands and frames of a patch; MSM-MAE's were 16x16, 16x8, 16x4, 8x16 and 80x4.",
    {
      kind: "text",
      metavar: "BxF",
      allowed: "bands and frames from 1 to 80 and from 1 to 1024 with an x between them",
      defaultText: "16x16",
    },
  ),
  "no-class-token": entry(
    v.optional(v.boolean(), false),
    "Encode the patches without a class token before them.",
    { kind: "flag", allowed: "true or false" },
  ),
  "decoder-positions": entry(
    v.optional(v.picklist(["1d", "2d"])),
    "Position table of the predictor: counted in one line, or by frequency and time.",
    {
      kind: "text",
      metavar: "1d|2d",
      allowed: "1d or 2d",
      defaultText: "1d for msm-mae, else 2d",
    },
  ),
  "norm-pix": entry(
    v.optional(v.boolean(), false),
    "msm-mae: standardise each patch that is to be painted by its own mean and variance.",
    { kind: "flag", allowed: "true or false" },
  ),
  "mcl-heads": entry(
    v.optional(v.pipe(count(1), v.maxValue(64))),
    "matpac-plus: predictor heads that compete.",
    { ...countInfo(1, "5"), allowed: "a whole number from 1 to 64" },
  ),
  alpha: entry(
    v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1))),
    "matpac, matpac-plus: weight of prediction against classification; 1 is prediction alone.",
    {
      kind: "number",
      metavar: "X",
      allowed: "a number from 0 to 1",
      defaultText: "0.5",
    },
  ),
  seed: entry(
    v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32 - 1)), 1337),
    "Start of every random choice.",
    {
      kind: "number",
      metavar: "N",
      allowed: `a whole number from 0 to ${2 ** 32 - 1}`,
    },
  ),
  "crop-frames": entry(
    v.optional(count(2)),
    "Frames (10 ms) of a training crop, a multiple of a patch's.",
    {
      kind: "number",
      metavar: "N",
      allowed: "a whole number from 2",
      defaultText: "208 for tiny and for msm-mae's base, else 608",
    },
  ),
  resume: entry(
    v.optional(v.boolean(), false),
    "Go on from the newest checkpoint in --out, with that run's settings.",
    {
      kind: "flag",
      allowed: "true or false",
    },
  ),
  init: entry(
    v.optional(path),
    "Checkpoint whose weights (only those) the run starts from, or encoder.safetensors of a run of any " +
      "objective: a teacher that the file lacks starts as the student.",
    {
      kind: "text",
      metavar: "FILE",
      allowed: "a path",
    },
  ),
  "log-every": entry(
    v.optional(count(1)),
    "Updates between two rows of metrics.",
    countInfo(1, byPreset((it) => it.logEvery)),
  ),
  "save-every": entry(
    v.optional(count(1)),
    "Updates between two checkpoints.",
    countInfo(1, byPreset((it) => it.saveEvery)),
  ),
  eval: entry(
    v.optional(path),
    "Labelled folder (audio/ and meta.csv) on which the student's encoder is tried during training: accuracy of a " +
      "linear probe, or mAP where clips have several labels.",
    {
      kind: "text",
      metavar: "DATASET",
      allowed: "a path",
      defaultText: "none",
    },
  ),
  "eval-every": entry(
    v.optional(count(1)),
    "Updates between two evaluations; one is made before the first update and one after the last, too.",
    countInfo(1, "--save-every"),
  ),
  keep: entry(
    v.optional(count(1), 3),
    "Newest checkpoints that are kept.",
    countInfo(1),
  ),
  "keep-best": entry(
    v.optional(count(0), 1),
    "Checkpoints kept beside the newest: those with the lowest mean loss since the checkpoint before (of at most " +
      "256 updates). A low loss need not mean good features.",
    countInfo(0),
  ),
  recompute: entry(
    v.optional(v.boolean(), false),
    "Compute transformer blocks again in the backward pass instead of keeping their activations.",
    { kind: "flag", allowed: "true or false" },
  ),
  "memory-limit": entry(
    v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
    "Most GPU memory that the run may take; one that needs more is refused before it starts.",
    {
      kind: "number",
      metavar: "BYTES",
      allowed: "a whole number from 1",
      defaultText: "none",
    },
  ),
  anomaly: entry(
    v.optional(v.boolean(), false),
    "Look through every value and stop at the first NaN or infinity, naming the op; several times slower.",
    { kind: "flag", allowed: "true or false" },
  ),
  tune: entry(
    v.optional(v.picklist(["auto", "on", "off"]), "auto"),
    "Time kernel variants on this adapter before the first update and remember the fastest in the user's cache " +
      "folder; auto: on GPUs, software adapters have fitted defaults.",
    { kind: "text", metavar: "auto|on|off", allowed: "auto, on or off" },
  ),
  variant: entry(
    v.optional(v.pipe(v.array(v.pipe(v.string(), v.regex(/^[a-z-]+=[\w-]+$/)))), []),
    "Kernel variant to use wherever it fits, such as gemm=tiled-64x64; may be given several times.",
    {
      kind: "list",
      metavar: "FAMILY=NAME",
      allowed: "a kernel family, =, and one of its variants",
      defaultText: "none",
    },
  ),
  deterministic: entry(
    v.optional(v.boolean(), false),
    "Default kernel variants, whatever was measured: the same bits on every machine with this adapter.",
    { kind: "flag", allowed: "true or false" },
  ),
  profile: entry(
    v.optional(count(1)),
    "Updates to profile after three to warm up; writes profile.txt and profile.json (a Chrome trace).",
    countInfo(1, "none"),
  ),
  adapter: entry(
    v.optional(v.picklist(["auto", "gpu", "software"]), "auto"),
    "WebGPU adapter.",
    {
      kind: "text",
      metavar: "auto|gpu|software",
      allowed: "auto, gpu or software",
    },
  ),
  quiet: entry(
    v.optional(v.boolean(), false),
    "No progress line.",
    { kind: "flag", allowed: "true or false" },
  ),
};

/** Schema of all options together; other keys are refused. */
export const OPTIONS_SCHEMA = v.strictObject(ENTRIES);

/** Name of an option, without dashes. */
export type OptionName = keyof typeof ENTRIES;

/** Options with defaults filled in, before preset and recipe are looked up. */
export type Options = v.InferOutput<typeof OPTIONS_SCHEMA>;

/** What the option `name` says about itself. */
export function infoOf(name: OptionName): EntryInfo & { readonly help: string } {
  return v.getMetadata(ENTRIES[name]);
}

/** Whether `name` is an option. */
export function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(ENTRIES, name);
}

/** The options as the command line and `--help` see them. */
export function optionSpecs(): OptionSpec[] {
  return (Object.keys(ENTRIES) as OptionName[]).map((name) => {
    const { kind, metavar, help, defaultText } = infoOf(name);
    const preset: unknown = v.getDefault(ENTRIES[name]);
    const shown = defaultText ??
      (preset === undefined || kind === "flag" ? undefined : `${preset}`);
    return {
      name,
      kind: kind === "number" || kind === "text" ? "value" : kind,
      description: help,
      ...(metavar !== undefined && { metavar }),
      ...(shown !== undefined && { defaultText: shown }),
    };
  });
}
