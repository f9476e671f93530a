/**
 * The options of `deno task table`.
 *
 * @module
 */
import { flag, group, option, pick } from "../../cli/option.ts";
import { shard } from "../../cli/shared_options.ts";
import { choice, file, folder, repeated } from "../../cli/value_types.ts";
import { PROBE_OPTIONS } from "../probe/options.ts";

/** Options that go on to every probe. */
const PROBING = pick(PROBE_OPTIONS, [
  ...["metric", "tuned", "lr", "batch", "epochs", "patience", "repeats", "seed"] as const,
  ...["standardise", "best", "weight-decay", "validation", "seconds"] as const,
  ...["mode", "pool", "bands", "blocks", "join", "split", "official", "vector"] as const,
]);
/** Names of options that go on to `probe`. */
export const PROBING_NAMES: readonly string[] = Object.keys(PROBING);

/** Options by name. */
export const TABLE_OPTIONS = {
  checkpoints: option(
    repeated(file("F...")),
    "Encoders: runs, checkpoints, official files of MATPAC and its kin, ATST, BEATs, MAE-AST, " +
      "PaSST and HTS-AT, or what import made of them.",
    { required: true },
  ),
  datasets: option(
    repeated(folder("DIR...")),
    "Labelled folders: audio/ and meta.csv, as deno task dataset makes them.",
    { required: true },
  ),
  out: option(
    folder("FOLDER"),
    "Folder of table.md, table.json, table.html and scores.csv; one that was begun is gone on " +
      "with.",
    { required: true },
  ),
  protocol: option(
    choice(["matpac", "evar", "hear"]),
    "How embeddings are judged; see probe. evar cuts the clips of known sets to its seconds.",
    { default: "matpac" },
  ),
  quiet: flag("No progress; what is done, and the table."),
  ...group("Probing", PROBING),
  ...group("Encoders and machine", {
    ...pick(PROBE_OPTIONS, ["heads", "workers", "adapter"]),
    shard,
  }),
};

/**
 * Words in which each of several values has its option's name: `--checkpoints a b` is
 * `--checkpoints a --checkpoints b`.
 */
export function spread(argv: readonly string[]): string[] {
  let name: string | undefined;
  return argv.flatMap((word) => {
    if (word.startsWith("-")) {
      name = word === "--checkpoints" || word === "--datasets" ? word : undefined;
      return name === undefined ? [word] : [];
    }
    return name === undefined ? [word] : [name, word];
  });
}
