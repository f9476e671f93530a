/**
 * The options of `deno task probe`.
 *
 * @module
 */
import * as v from "valibot";
import type { OptionSpec } from "../../cli/parser.ts";
import { COMMON_WORDS, wholeNumber } from "../../cli/values.ts";

/** An option's text in help, and what its value may be. */
export interface OptionWord extends Pick<OptionSpec, "metavar" | "description" | "defaultText"> {
  readonly schema: v.GenericSchema<unknown, unknown>;
  /** For messages. */
  readonly allowed: string;
}

/** A number in a range. */
export const real = (least: number, most: number) =>
  v.pipe(v.string(), v.minLength(1), v.transform(Number), v.minValue(least), v.maxValue(most));
const file = (description: string) => ({
  metavar: "FILE",
  description,
  schema: v.optional(COMMON_WORDS.path),
  allowed: "a file",
});

/** Options of `deno task probe` that take a value. */
export const PROBE_WORDS = {
  checkpoint: {
    metavar: "F",
    description:
      "The encoder: encoder.safetensors of a run or the run's folder, a checkpoint, or official weights (.pt).",
    schema: COMMON_WORDS.path,
    allowed: "a file",
  },
  dataset: {
    metavar: "DIR",
    description:
      "Labelled folder: audio/ and meta.csv with filename, label or category, and fold or split.",
    schema: COMMON_WORDS.path,
    allowed: "a folder",
  },
  protocol: {
    metavar: "matpac|evar|hear",
    description: "How probes are trained; the options below change single points of it.",
    defaultText: "matpac",
    schema: v.optional(v.picklist(["matpac", "evar", "hear"]), "matpac"),
    allowed: "matpac, evar or hear",
  },
  metric: {
    metavar: "accuracy|balanced|mAP|AUC",
    description: "What scores are.",
    defaultText: "accuracy, or mAP where clips have several labels",
    schema: v.optional(v.picklist(["accuracy", "balanced", "mAP", "AUC"])),
    allowed: "accuracy, balanced, mAP or AUC",
  },
  json: file("Writes all results as JSON."),
  svg: file("Draws the confusion matrix."),
  save: file(
    "Saves a probe of all folds (or of train) for embed --probe; with --finetune the encoder, and beside it its " +
      "head as such a probe (.probe.safetensors).",
  ),
  lr: {
    metavar: "X[,X...]",
    description: "Learning rate; of several, each probe takes what is best on validation clips.",
    defaultText: "1e-4; evar: 3e-5; hear: 3.2e-3,1e-3,3.2e-4,1e-4; finetune: 5e-4",
    schema: v.optional(v.pipe(
      v.string(),
      v.transform((it) => it.split(",").map(Number)),
      v.array(v.pipe(v.number(), v.gtValue(0), v.maxValue(1e3))),
    )),
    allowed: "positive numbers separated by commas",
  },
  batch: {
    metavar: "N",
    description: "Clips of an update.",
    defaultText: "128; evar: 200; hear: 1024; finetune: 32",
    schema: v.optional(wholeNumber(1, 65536)),
    allowed: "a whole number from 1 to 65536",
  },
  epochs: {
    metavar: "N",
    description: "Most epochs.",
    defaultText: "200; hear: 500; finetune: 50",
    schema: v.optional(wholeNumber(1, 1e6)),
    allowed: "a whole number from 1",
  },
  patience: {
    metavar: "N",
    description: "Epochs (hear: validations) without a better one after which training stops.",
    defaultText: "20; finetune: all epochs",
    schema: v.optional(wholeNumber(1, 1e6)),
    allowed: "a whole number from 1",
  },
  repeats: {
    metavar: "N",
    description: "Repeats with other initial values, order and validation clips.",
    defaultText: "5; evar: 3; finetune: 1",
    schema: v.optional(wholeNumber(1, 1000)),
    allowed: "a whole number from 1 to 1000",
  },
  seed: {
    metavar: "N",
    description: "Seed of the first repeat.",
    defaultText: "42",
    schema: v.optional(wholeNumber(0, 2 ** 31 - 1)),
    allowed: "a whole number from 0",
  },
  standardise: {
    metavar: "yes|no",
    description: "Whether each value is standardised over the training clips.",
    defaultText: "no; evar: yes",
    schema: v.optional(v.pipe(v.picklist(["yes", "no"]), v.transform((it) => it === "yes"))),
    allowed: "yes or no",
  },
  best: {
    metavar: "loss|metric",
    description: "What on validation clips picks the epoch.",
    defaultText: "loss; evar and finetune: metric",
    schema: v.optional(v.picklist(["loss", "metric"])),
    allowed: "loss or metric",
  },
  "weight-decay": {
    metavar: "X",
    description: "L2 penalty; of AdamW decoupled decay.",
    defaultText: "0; evar: 1e-8; finetune: 1e-4",
    schema: v.optional(real(0, 1e3)),
    allowed: "a number from 0",
  },
  validation: {
    metavar: "X",
    description: "Share of training clips that validates where meta.csv names no validation clips.",
    defaultText: "0.1",
    schema: v.optional(real(0.001, 0.9)),
    allowed: "a number from 0.001 to 0.9",
  },
  mode: {
    metavar: "precise|fast",
    description: "Embeddings: see embed.",
    defaultText: "precise",
    schema: v.optional(v.picklist(["precise", "fast"]), "precise"),
    allowed: "precise or fast",
  },
  pool: {
    metavar: "mean|max",
    description: "What is made of a clip's time steps.",
    defaultText: "mean",
    schema: v.optional(v.picklist(["mean", "max"]), "mean"),
    allowed: "mean or max",
  },
  bands: {
    metavar: "concat|mean",
    description: "Frequency bands of a step side by side, or averaged.",
    defaultText: "concat; finetune with patch-out: mean",
    schema: v.optional(v.picklist(["concat", "mean"]), "concat"),
    allowed: "concat or mean",
  },
  seconds: {
    metavar: "X",
    description: "Cuts clips to their first X seconds and fills shorter ones up with silence.",
    defaultText: "whole clips",
    schema: v.optional(real(0.025, 1e5)),
    allowed: "seconds from 0.025",
  },
  heads: {
    metavar: "N",
    description: "Attention heads of the encoder, for a file that does not say them.",
    ...COMMON_WORDS.heads,
  },
  cache: {
    metavar: "DIR",
    description: "Where features are kept, by the content of encoder and audio; none keeps none.",
    defaultText: "probe in the user's cache folder, or in $TESSERA_CACHE",
    schema: v.optional(COMMON_WORDS.path),
    allowed: "a folder or none",
  },
  workers: {
    metavar: "N",
    description: "Threads that decode and resample; 0 does it beside everything else.",
    defaultText: "one for each core",
    ...COMMON_WORDS.workers,
  },
  adapter: {
    metavar: "auto|gpu|software",
    description: "WebGPU adapter.",
    defaultText: "auto",
    ...COMMON_WORDS.adapter,
  },
} as const satisfies Record<string, OptionWord>;
