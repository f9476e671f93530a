/**
 * The options of `deno task compare`: its own, and those of `pretrain` and `probe`.
 *
 * @module
 */
import { type ObjectiveName, OBJECTIVES } from "../../../model/objectives/objectives.ts";
import { flag, group, omit, option, pick } from "../../cli/option.ts";
import { dataset, shard } from "../../cli/shared_options.ts";
import { choice, file, folder, repeated, several, whole } from "../../cli/value_types.ts";
import { PRETRAIN_OPTIONS } from "../../config/options.ts";
import { PROBE_OPTIONS } from "../probe/options.ts";
import { MOST_VALUES } from "./intervals.ts";

const OBJECTIVE_NAMES = Object.keys(OBJECTIVES) as ObjectiveName[];

/** Options of `pretrain` but for those that a comparison sets itself. */
const TRAINING_OPTIONS = omit(PRETRAIN_OPTIONS, [
  ...["objective", "seed", "out", "resume", "quiet"] as const,
  // That name is `probe`'s here.
  "pool",
  // Runs that are compared are of one length.
  "hours",
]);
/** Names of options that go on to `pretrain`. */
export const TRAINING_NAMES: readonly string[] = ["config", ...Object.keys(TRAINING_OPTIONS)];

/** Options of `probe` that do not share a name with one of `pretrain` that means something else. */
const PROBING_OPTIONS = pick(PROBE_OPTIONS, [
  "protocol",
  "metric",
  "repeats",
  "patience",
  "mode",
  "pool",
  "blocks",
  "bands",
  "seconds",
  "cache",
]);
/** Names of options that go on to `probe`. */
export const PROBING_NAMES: readonly string[] = Object.keys(PROBING_OPTIONS);

/** Options by name. */
export const COMPARE_OPTIONS = {
  objectives: option(
    several(choice(OBJECTIVE_NAMES, "NAME"), { distinct: true }),
    "What is compared.",
    { default: OBJECTIVE_NAMES },
  ),
  seeds: option(
    several(whole(0, 2 ** 32 - 1), { most: MOST_VALUES, distinct: true }),
    "Each objective is trained once with each.",
    { default: [1, 2, 3] },
  ),
  dataset: option(
    repeated(folder()),
    `${dataset.help.slice(0, -1)}; may be given several times.`,
    { required: true },
  ),
  out: option(
    folder(),
    "Folder of runs, probes and tables; one that was begun is gone on with.",
    { required: true },
  ),
  "keep-checkpoints": flag(
    "Keeps the checkpoints of finished runs. Without it encoder, config.json and logs stay.",
  ),
  quiet: flag("No progress; what is done, and the tables."),
  tuned: flag("Probes everything also as the tuned baseline of probe is probed; the default."),
  ...pick(TRAINING_OPTIONS, ["data", "preset", "steps"]),
  ...group("Probing", {
    ...PROBING_OPTIONS,
    "no-tuned": flag("Only the log-mel baselines are tuned as well; takes a third of the time."),
  }),
  ...group("Training", {
    config: option(
      file(),
      "TOML or JSONC file with pretrain's options by name; the command line wins.",
    ),
    ...omit(TRAINING_OPTIONS, ["data", "preset", "steps"]),
  }),
  ...group("Several machines", { shard }),
};
