/**
 * The options of `deno task probe`.
 *
 * @module
 */
import { flag, group, option, type Values } from "../../cli/option.ts";
import {
  adapter,
  bands,
  checkpoint,
  dataset,
  embeddingChoices,
  heads,
  json,
  mode,
  pool,
  shard,
  workers,
} from "../../cli/shared_options.ts";
import { choice, file, folder, number, parsed, several, whole } from "../../cli/value_types.ts";
import { FINETUNE_DEFAULTS, FINETUNE_OPTIONS } from "../finetune/options.ts";
import { HEAR } from "../hear/grid_search.ts";
import { HEAR_OPTIONS } from "../hear/options.ts";
import { DRAWS, type Shots } from "./few_shots.ts";
import { type Protocol, PROTOCOLS } from "./protocol.ts";

/** What protocols have, as a default text: the paper's value, then those that are not the same. */
function byProtocol(
  value: (protocol: Partial<Protocol>) => unknown,
  more = "",
): { defaultText: string } {
  const usual = `${value(PROTOCOLS.matpac)}`;
  const others = Object.entries({ evar: PROTOCOLS.evar, hear: HEAR, finetune: FINETUNE_DEFAULTS })
    .map(([name, it]) => [name, value(it)])
    .filter(([, it]) => it !== undefined && `${it}` !== usual)
    .map(([name, it]) => `; ${name}: ${it}`);
  return { defaultText: `${usual}${others.join("")}${more}` };
}

/** Options by name; those without a group are the most used. */
export const PROBE_OPTIONS = {
  checkpoint,
  dataset,
  finetune: flag("Trains the encoder together with a head of batch norm and a linear layer."),
  protocol: option(
    choice(["matpac", "evar", "hear"]),
    "How probes are trained; other options change single points of it.",
    { default: "matpac" },
  ),
  metric: option(choice(["accuracy", "balanced", "mAP", "AUC"]), "What scores are.", {
    defaultText: "accuracy, or mAP where clips have several labels",
  }),
  untrained: flag("Also probes the same network as it is before training."),
  json,
  svg: option(file(), "Draws the confusion matrix."),
  save: option(
    file(),
    "Saves a probe of all folds (or of train) for embed --probe; with --finetune the encoder, " +
      "and beside it its head as such a probe (.probe.safetensors).",
  ),
  quiet: flag("No progress and no table for each class."),
  ...group("Training", {
    lr: option(
      several(number({ above: 0, to: 1e3 })),
      "Learning rate; of several, each probe takes what is best on validation clips.",
      byProtocol(({ rates }) => rates?.map((it) => it.toExponential())),
    ),
    batch: option(whole(1, 65536), "Clips of an update.", byProtocol(({ batch }) => batch)),
    epochs: option(whole(1), "Most epochs.", byProtocol(({ epochs }) => epochs)),
    patience: option(
      whole(1),
      "Epochs (hear: validations) without a better one after which training stops.",
      byProtocol(({ patience }) => patience, "; finetune: all epochs"),
    ),
    repeats: option(
      whole(1, 1000),
      "Repeats with other initial values, order and validation clips.",
      byProtocol(({ repeats }) => repeats, `; shots: ${DRAWS}`),
    ),
    seed: option(whole(0), "Seed of the first repeat.", byProtocol(({ seed }) => seed)),
    standardise: option(
      choice(["yes", "no"]),
      "Whether each value is standardised over the training clips.",
      byProtocol(({ standardise }) =>
        standardise === undefined ? undefined : standardise ? "yes" : "no"
      ),
    ),
    best: option(
      choice(["loss", "metric"]),
      "What on validation clips picks the epoch.",
      byProtocol(({ criterion }) => criterion),
    ),
    "weight-decay": option(
      number({ from: 0, to: 1e3 }),
      "L2 penalty; of AdamW decoupled decay.",
      byProtocol(({ weightDecay }) => weightDecay, "; shots: 1"),
    ),
    validation: option(
      number({ from: 0.001, to: 0.9 }),
      "Share of training clips that validates where meta.csv names no validation clips.",
      byProtocol(({ heldOut }) => heldOut),
    ),
  }),
  ...group("Features", {
    mode: { ...mode, help: "Embeddings of MATPAC and its kin: see embed." },
    pool: { ...pool, defaultText: "as the encoder's file says; with --protocol: mean" },
    bands: { ...bands, defaultText: `${bands.defaultText}; finetune with patch-out: mean` },
    ...embeddingChoices,
    seconds: option(
      number({ from: 0.025, to: 1e5, unit: "seconds" }),
      "Cuts clips to their first X seconds and fills shorter ones up with silence.",
      { defaultText: "whole clips" },
    ),
    cache: option(
      folder(),
      "Where features are kept, by the content of encoder and audio; none keeps none.",
      { defaultText: "probe in the user's cache folder, or in $TESSERA_CACHE" },
    ),
    shard: {
      ...shard,
      help: shard.help.replace(
        "Does part I of N of the work and ends",
        "Computes and keeps the features of part I of N of the clips and ends",
      ).replace("puts the parts together", "finds them and probes"),
    },
  }),
  ...group("Few labels", {
    shots: option(
      several(
        parsed(
          "N",
          "a whole number from 1 or all",
          (word): Shots | undefined =>
            word === "all" ? word : /^[1-9]\d{0,4}$/.test(word) ? Number(word) : undefined,
        ),
        { distinct: true },
      ),
      "Learns from so many clips of each class, or from all, by logistic regression and nearest " +
        "neighbours, each with --repeats other draws of the clips. 1,5,10,all is usual.",
    ),
  }),
  ...group("Baselines", {
    tuned: flag("Also probes every encoder as the tuned baseline is probed."),
    knn: flag(
      "Also judges the encoder by the 20 nearest neighbours of a clip (cosine), without training.",
    ),
    "no-baseline": flag("Leaves the log-mel baselines out."),
  }),
  ...FINETUNE_OPTIONS,
  ...HEAR_OPTIONS,
  ...group("Encoder and machine", { heads, workers, adapter }),
};

/** Typed values of the options. */
export type ProbeValues = Values<typeof PROBE_OPTIONS>;

/** Options of other probes that mean nothing with --finetune. */
export const NOT_WITH_FINETUNE: readonly string[] = [
  ...["protocol", "standardise", "mode", "pool", "seconds", "cache", "shard"],
  ...["untrained", "tuned", "knn", "no-baseline", "shots"],
  ...Object.keys(embeddingChoices),
  ...Object.keys(HEAR_OPTIONS),
];

/** Options of linear probes that mean nothing with --shots. */
export const NOT_WITH_SHOTS: readonly string[] = [
  ...["protocol", "finetune", "svg", "save", "lr", "batch", "epochs", "patience", "standardise"],
  ...["best", "validation", "tuned", "knn"],
  ...Object.keys(HEAR_OPTIONS),
];

/** What was given of values that stand for points of a protocol. */
export function changesOf<Changes extends object>(changes: Changes): Partial<Changes> {
  const given = Object.entries(changes).filter(([, it]) => it !== undefined);
  return Object.fromEntries(given) as Partial<Changes>;
}
