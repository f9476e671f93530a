/**
 * The options of `deno task probe --protocol hear` beside those that it shares with linear probes.
 *
 * @module
 */
import * as v from "valibot";
import { wholeNumber } from "../../cli/values.ts";
import { type OptionWord, PROBE_WORDS, real } from "../probe/options.ts";

/** Options that mean something only with --protocol hear. */
export const HEAR_WORDS = {
  "grid-points": {
    metavar: "N",
    description:
      "With --protocol hear: combinations of the grid that are tried, in shuffled order.",
    defaultText: "8",
    schema: v.optional(wholeNumber(1, 1000)),
    allowed: "a whole number from 1 to 1000",
  },
  hidden: {
    metavar: "N",
    description: "With --protocol hear: width of hidden layers.",
    defaultText: "1024",
    schema: v.optional(wholeNumber(1, 65536)),
    allowed: "a whole number from 1 to 65536",
  },
  tolerance: {
    metavar: "MS",
    description:
      "With --protocol hear and events.csv: how far apart onsets may be. HEAR has 200 for DCASE 2016, 50 for MAESTRO.",
    defaultText: "200",
    schema: v.optional(real(0, 1e6)),
    allowed: "milliseconds from 0",
  },
  median: {
    metavar: "MS",
    description:
      "With --protocol hear and events.csv: width of the median filter over frames; 0 for none. HEAR has 150 for MAESTRO.",
    defaultText: "250",
    schema: v.optional(real(0, 1e6)),
    allowed: "milliseconds from 0",
  },
  "min-duration": {
    metavar: "MS[,MS...]",
    description:
      "With --protocol hear and events.csv: shortest event; of several, validation files choose. HEAR has 50 for MAESTRO.",
    defaultText: "125,250",
    schema: v.optional(v.pipe(
      v.string(),
      v.minLength(1),
      v.transform((it) => it.split(",").map(Number)),
      v.array(v.pipe(v.number(), v.minValue(0), v.maxValue(1e6))),
    )),
    allowed: "milliseconds from 0, separated by commas",
  },
} as const satisfies Record<string, OptionWord>;

/** Options of linear probes that mean nothing to HEAR's. */
export const LINEAR_ONLY = [
  "repeats",
  "standardise",
  "best",
  "weight-decay",
  "save",
  "tuned",
] as const;
/** Options of scene tasks that mean nothing to timestamp tasks, and the other way round. */
export const SCENE_ONLY = ["metric", "svg", "pool", "seconds", "cache"] as const;
export const TIMESTAMP_ONLY = ["tolerance", "median", "min-duration"] as const;

/** All options that --protocol hear reads. */
export const ALL_WORDS = { ...PROBE_WORDS, ...HEAR_WORDS } as const;
