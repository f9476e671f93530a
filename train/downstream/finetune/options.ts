/**
 * The options of `deno task probe --finetune` beside those that it shares with the linear probe.
 *
 * @module
 */
import { flag, group, option } from "../../cli/option.ts";
import { choice, number, whole } from "../../cli/value_types.ts";

/** What options that other probes have, too, are without being given. */
export const FINETUNE_DEFAULTS = {
  rates: [5e-4],
  batch: 32,
  epochs: 50,
  warmup: 5,
  repeats: 1,
  seed: 42,
  criterion: "metric",
  weightDecay: 1e-4,
  heldOut: 0.1,
} as const;

/** Options that mean something only with --finetune. */
export const FINETUNE_OPTIONS = group("With --finetune", {
  warmup: option(whole(0), "Epochs until the learning rate has its peak.", {
    defaultText: `${FINETUNE_DEFAULTS.warmup}, at most half of the epochs`,
  }),
  mixup: option(
    number({ from: 0, to: 4, metavar: "A" }),
    "Clips are mixed by shares from Beta(A, A); 0 mixes none.",
    { default: 0.3 },
  ),
  "patch-out": option(
    number({ from: 0, to: 0.9 }),
    "About the share of patches that training leaves out, in whole rows and columns.",
    { default: 0.5 },
  ),
  crop: option(
    whole(1),
    "Frames (10 ms) of a training crop, which begins anywhere in its clip; rounded to whole " +
      "patches.",
    { defaultText: "the longest clip's, at most the encoder's" },
  ),
  tested: option(
    choice(["start", "whole"]),
    "Clips are tested whole, in chunks, or by a training crop's frames from their start, as EVAR " +
      "does.",
    { default: "whole" },
  ),
  optimizer: option(
    choice(["adamw", "sgd"]),
    "AdamW with betas 0.9 and 0.95, or SGD with momentum 0.9.",
    { default: "adamw" },
  ),
  "layer-decay": option(
    number({ from: 0.01, to: 1 }),
    "Rate of each layer as a share of the rate of the one after it.",
    { default: 1 },
  ),
  "freeze-patch-embed": flag("The patch embedding keeps its values."),
});
