/** `deno task prepare`: a folder of audio to a store of log-mel spectrograms. */

import { openWatchedDevice } from "../cli/kernel_line.ts";
import { command } from "../cli/command.ts";
import { option } from "../cli/option.ts";
import { WaitLine } from "../cli/wait_line.ts";
import { RateLine } from "../cli/rate_line.ts";
import { adapter, maxHours, quiet, shard, shardFacts, workers } from "../cli/shared_options.ts";
import { choice, folder, whole } from "../cli/value_types.ts";
import { damageText } from "../io/json_lines.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { shardText } from "../io/shards.ts";
import { hasShards, prepareStore } from "../store/prepare.ts";

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "prepare",
  options: {
    data: option(folder(), "Folder of audio; its subfolders are taken too.", { required: true }),
    out: option(
      folder("STORE"),
      "Folder of the store. What is complete there is kept, so a run that was ended can be " +
        "repeated.",
      { required: true },
    ),
    dtype: option(
      choice(["f32", "f16"]),
      "Number format; f16 takes half the space and rounds to about 0.05 % of a value.",
      { default: "f32" },
    ),
    "min-frames": option(
      whole(1),
      "Clips of fewer frames (10 ms) are left out of manifest.tsv; 101 gives the official " +
        "scripts' list.",
      { default: 1 },
    ),
    "max-hours": maxHours,
    shard,
    workers,
    adapter,
    quiet,
  },
  footer: "With --shard a part makes its clips alone, and the call without it, which needs no " +
    "adapter then, writes manifest.tsv, stats.json and skipped.jsonl, the same as one process.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { values, words } = COMMAND.read(argv);
  const {
    data,
    out,
    dtype,
    "min-frames": minFrames,
    "max-hours": maxHours,
    shard,
    workers,
    adapter,
    quiet,
  } = values;
  const facts = shardFacts(words, ["data", "dtype", "min-frames"]);
  const merges = shard === undefined && await hasShards(out);
  using device = merges ? undefined : await openWatchedDevice({ adapter }, quiet);
  using pool = new WorkerPool(workers ?? navigator.hardwareConcurrency, maxHours);
  using line = new RateLine({ quiet });
  using wait = new WaitLine(() => `looking through ${data}`, { quiet });
  const { total, made, kept, skipped, seconds, whole, damaged } = await prepareStore({
    ...{ data, out, dtype, minFrames, device, pool, signal, shard, facts },
    onProgress: (it) => {
      wait[Symbol.dispose]();
      line.update(it.made + it.skipped, it.total - it.kept, it.seconds);
    },
  });
  line.finish();
  const damage = damageText(`${out}/prepare.jsonl`, damaged);
  if (damage !== "") console.error(damage);
  const parts = [
    `${made} clips made (${(seconds / 3600).toFixed(2)} h of audio)`,
    `${kept} kept`,
    `${skipped} of ${total} files skipped${
      skipped > 0 && whole ? `, see ${out}/skipped.jsonl` : ""
    }`,
    whole ? `${whole.listed} in manifest.tsv` : `shard ${shardText(shard!)} is complete`,
  ];
  console.log(parts.join("; "));
  if (whole) {
    console.log(`mean ${whole.mean.toFixed(4)}, standard deviation ${whole.std.toFixed(4)}`);
  }
  return 0;
}
