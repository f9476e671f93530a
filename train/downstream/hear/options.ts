/**
 * The options of `deno task probe --protocol hear` beside those that it shares with linear probes.
 *
 * @module
 */
import { group, option } from "../../cli/option.ts";
import { number, several, whole } from "../../cli/value_types.ts";
import { HEAR } from "./grid_search.ts";
import { EVENT_RULES, ONSET_TOLERANCE } from "./timestamp_task.ts";

const milliseconds = number({ from: 0, to: 1e6, metavar: "MS", unit: "milliseconds" });

const EVENT_OPTIONS = group("With --protocol hear and events.csv", {
  tolerance: option(
    milliseconds,
    "How far apart onsets may be. HEAR has 200 for DCASE 2016, 50 for MAESTRO.",
    { default: ONSET_TOLERANCE },
  ),
  median: option(
    milliseconds,
    "Width of the median filter over frames; 0 for none. HEAR has 150 for MAESTRO.",
    { default: EVENT_RULES[0].median },
  ),
  "min-duration": option(
    several(milliseconds),
    "Shortest event; of several, validation files choose. HEAR has 50 for MAESTRO.",
    { default: EVENT_RULES.map(({ least }) => least) },
  ),
});

/** Options that mean something only with --protocol hear. */
export const HEAR_OPTIONS = {
  ...group("With --protocol hear", {
    "grid-points": option(
      whole(1, 1000),
      "Combinations of the grid that are tried, in shuffled order.",
      { default: HEAR.gridPoints },
    ),
    hidden: option(whole(1, 65536), "Width of hidden layers.", { default: HEAR.hidden }),
  }),
  ...EVENT_OPTIONS,
};

/** Options of linear probes that mean nothing to HEAR's. */
export const LINEAR_ONLY: readonly string[] = [
  "repeats",
  "knn",
  "standardise",
  "best",
  "weight-decay",
  "save",
  "tuned",
];
/** Options of scene tasks that mean nothing to timestamp tasks. */
export const SCENE_ONLY: readonly string[] = [
  "metric",
  "svg",
  "pool",
  "blocks",
  "seconds",
  "cache",
];
/** Options of timestamp tasks that mean nothing to scene tasks. */
export const TIMESTAMP_ONLY: readonly string[] = Object.keys(EVENT_OPTIONS);
