/** `deno task prepare`: a folder of audio to a store of log-mel spectrograms. */

import * as v from "valibot";
import { openDevice } from "../../engine/mod.ts";
import { type CommandSpec, helpText, parseArguments } from "../cli/parser.ts";
import { COMMON_OPTIONS, COMMON_WORDS, valueReader, wholeNumber } from "../cli/values.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { type PrepareOptions, prepareStore } from "../store/prepare.ts";
import { RateLine } from "../cli/rate_line.ts";

const SPEC: CommandSpec = {
  program: "deno task prepare",
  summary:
    "Turns a folder of audio into a store: a log-mel .npy per clip, manifest.tsv, stats.json.",
  options: [
    {
      name: "data",
      kind: "value",
      metavar: "DIR",
      description: "Folder of audio; its subfolders are taken too.",
    },
    {
      name: "out",
      kind: "value",
      metavar: "STORE",
      description:
        "Folder of the store. What is complete there is kept, so a run that was ended can be repeated.",
    },
    {
      name: "dtype",
      kind: "value",
      metavar: "f32|f16",
      description: "Number format; f16 takes half the space and rounds to about 0.05 % of a value.",
      defaultText: "f32",
    },
    {
      name: "min-frames",
      kind: "value",
      metavar: "N",
      description:
        "Clips of fewer frames (10 ms) are left out of manifest.tsv; 101 gives the official scripts' list.",
      defaultText: "1",
    },
    ...COMMON_OPTIONS,
    { name: "quiet", kind: "flag", description: "No progress line." },
  ],
};

const WORDS = {
  data: { schema: COMMON_WORDS.path, allowed: "a folder" },
  out: { schema: COMMON_WORDS.path, allowed: "a folder" },
  dtype: { schema: v.optional(v.picklist(["f32", "f16"]), "f32"), allowed: "f32 or f16" },
  "min-frames": {
    schema: v.optional(wholeNumber(1, 2 ** 31 - 1), "1"),
    allowed: "a whole number from 1",
  },
  workers: COMMON_WORDS.workers,
  adapter: COMMON_WORDS.adapter,
} as const;

/** Text of `--help`. */
export function help(): string {
  return helpText(SPEC);
}

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const given = parseArguments(SPEC, argv);
  const value = valueReader(SPEC.program, WORDS, given);
  const options: Omit<PrepareOptions, "device" | "pool"> = {
    data: value("data"),
    out: value("out"),
    dtype: value("dtype"),
    minFrames: value("min-frames"),
    signal,
  };
  const workers = value("workers") ?? navigator.hardwareConcurrency;
  using device = await openDevice({ adapter: value("adapter") });
  using pool = new WorkerPool(workers);
  using line = new RateLine({ quiet: given.quiet === true });
  const { total, made, kept, skipped, seconds, listed, mean, std } = await prepareStore({
    ...options,
    device,
    pool,
    onProgress: (it) => line.update(it.made + it.skipped, it.total - it.kept, it.seconds),
  });
  line.finish();
  const parts = [
    `${made} clips made (${(seconds / 3600).toFixed(2)} h of audio)`,
    `${kept} kept`,
    `${skipped} of ${total} files skipped${
      skipped > 0 ? `, see ${options.out}/skipped.jsonl` : ""
    }`,
    `${listed} in manifest.tsv`,
  ];
  console.log(parts.join("; "));
  console.log(`mean ${mean.toFixed(4)}, standard deviation ${std.toFixed(4)}`);
  return 0;
}
