/**
 * The options of `deno task probe --finetune` beside those that it shares with the linear probe.
 *
 * @module
 */
import * as v from "valibot";
import { wholeNumber } from "../../cli/values.ts";
import { HEAR_WORDS } from "../hear/options.ts";
import { type OptionWord, PROBE_WORDS, real } from "../probe/options.ts";

/** Options that mean something only with --finetune. */
export const FINETUNE_WORDS = {
  warmup: {
    metavar: "N",
    description: "With --finetune: epochs until the learning rate has its peak.",
    defaultText: "5, at most half of the epochs",
    schema: v.optional(wholeNumber(0, 1e6)),
    allowed: "a whole number from 0",
  },
  mixup: {
    metavar: "A",
    description: "With --finetune: clips are mixed by shares from Beta(A, A); 0 mixes none.",
    defaultText: "0.3",
    schema: v.optional(real(0, 4), "0.3"),
    allowed: "a number from 0 to 4",
  },
  "patch-out": {
    metavar: "X",
    description:
      "With --finetune: about the share of patches that training leaves out, in whole rows and columns.",
    defaultText: "0.5",
    schema: v.optional(real(0, 0.9), "0.5"),
    allowed: "a number from 0 to 0.9",
  },
  crop: {
    metavar: "N",
    description:
      "With --finetune: frames (10 ms) of a training crop, which begins anywhere in its clip; rounded to whole patches.",
    defaultText: "the longest clip's, at most the encoder's",
    schema: v.optional(wholeNumber(1, 1e6)),
    allowed: "a whole number from 1",
  },
  tested: {
    metavar: "start|whole",
    description:
      "With --finetune: clips are tested whole, in chunks, or by a training crop's frames from their start, as EVAR does.",
    defaultText: "whole",
    schema: v.optional(v.picklist(["start", "whole"]), "whole"),
    allowed: "start or whole",
  },
  optimizer: {
    metavar: "adamw|sgd",
    description: "With --finetune: AdamW with betas 0.9 and 0.95, or SGD with momentum 0.9.",
    defaultText: "adamw",
    schema: v.optional(v.picklist(["adamw", "sgd"]), "adamw"),
    allowed: "adamw or sgd",
  },
  "layer-decay": {
    metavar: "X",
    description: "With --finetune: rate of each layer as a share of the rate of the one after it.",
    defaultText: "1",
    schema: v.optional(real(0.01, 1), "1"),
    allowed: "a number from 0.01 to 1",
  },
} as const satisfies Record<string, OptionWord>;

/** Options of other probes that mean nothing with --finetune. */
export const FOREIGN: readonly string[] = [
  ...["protocol", "standardise", "mode", "pool", "seconds", "cache"],
  ...["untrained", "tuned", "no-baseline"],
  ...Object.keys(HEAR_WORDS),
];

/** All options that --finetune reads. */
export const ALL_WORDS = { ...PROBE_WORDS, ...FINETUNE_WORDS } as const;

/** What options that both have are without being given. */
export const FINETUNE_DEFAULTS = {
  rate: 5e-4,
  batch: 32,
  epochs: 50,
  warmup: 5,
  repeats: 1,
  seed: 42,
  criterion: "metric",
  weightDecay: 1e-4,
  heldOut: 0.1,
} as const;
