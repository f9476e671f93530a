/**
 * Options that several commands have.
 *
 * @module
 */
import type { ClipChoices } from "../downstream/clip_encoder.ts";
import { flag, option } from "./option.ts";
import type { RawArguments } from "./parser.ts";
import { CLIP_POOLS } from "../../model/encoder/pooling.ts";
import { choice, file, folder, number, parsed, several, whole } from "./value_types.ts";
import { shardOfJob } from "../cluster/launcher.ts";
import { UsageError } from "../errors.ts";
import type { Shard } from "../io/shards.ts";
import { environment } from "../io/environment.ts";

/** The encoder that a command works with. */
export const checkpoint = option(
  file("F"),
  "The encoder: encoder.safetensors of a run or the run's folder, a checkpoint, official " +
    "weights (.pt), or a Hugging Face folder.",
  { required: true },
);
/** Of commands that open an encoder. */
export const heads = option(
  whole(1, 4096),
  "Attention heads of the encoder, for a file that does not say them.",
  { defaultText: "as the file says, else one for each 64 of the width" },
);
/** A labelled folder. */
export const dataset = option(
  folder(),
  "Labelled folder: audio/ and meta.csv with filename, label or category, and fold or split.",
  { required: true },
);
/** What is made of the time steps of an embedding. */
export const pool = option(
  choice(CLIP_POOLS),
  "What is made of a clip's time steps: mean, maximum, or mean and behind it the deviation.",
  { defaultText: "as the encoder's file says, else mean" },
);
/** What is made of the bands of an embedding. */
export const bands = option(
  choice(["concat", "mean"]),
  "Frequency bands of a step side by side, the low one first, or averaged.",
  { defaultText: "concat; mean of MAE-AST, BEATs and HTS-AT" },
);
/** How the last chunk of a clip is filled up. */
export const mode = option(
  choice(["precise", "fast", "msm-mae"]),
  "Of MATPAC and its kin. precise: the last chunk is as short as the clip. fast: as in the " +
    "official code, chunks are filled up with dataset mean, which enters the result. msm-mae: " +
    "filled up likewise, and what was filled is dropped from the result, as MSM-MAE does.",
  { defaultText: "precise" },
);
/** What else there is to choose of an embedding, by the same names for all encoders. */
export const embeddingChoices = {
  blocks: option(
    several(whole(0, 4096), { distinct: true }),
    "Blocks, counted from 1, whose outputs are put side by side, 0 for what enters the first (of " +
      "MATPAC and its kin; none of HTS-AT, whose blocks have several widths).",
    { defaultText: "the last one; all of ATST-Frame" },
  ),
  join: option(choice(["concat", "mean"]), "Blocks side by side, or averaged.", {
    defaultText: "concat",
  }),
  split: option(
    number({ from: 0.1, to: 1e5, unit: "seconds" }),
    "Cuts clips into pieces of X seconds, embeds each by itself and averages them by length.",
    { defaultText: "chunks are the encoder's" },
  ),
  official: option(
    choice(["no", "yes", "downstream"]),
    "Chunks of ATST and HTS-AT count as in their programs, faults included, rather than by their " +
      "length; downstream: as in those of ATST-Frame's probes.",
    { default: "no" },
  ),
  vector: option(
    choice(["features", "logits", "all", "tokens", "patches"]),
    "Of PaSST: mean of class and distillation token (features), logits of its classes, or both " +
      "as in HEAR. Of AST, SSAST and AudioMAE: mean of the tokens before the patches, or of these.",
    { defaultText: "the system's" },
  ),
};

/** {@link Choices} by their options. */
export function choicesOf(
  { official, vector, mode, bands, blocks, join, split }: {
    readonly official: "no" | "yes" | "downstream";
  } & Pick<ClipChoices, "mode" | "bands" | "blocks" | "join" | "split" | "vector">,
): Omit<ClipChoices, "pool"> {
  const all = {
    ...{ mode, bands, blocks, join, split, vector },
    official: official === "downstream" ? official : official === "yes" || undefined,
  };
  return Object.fromEntries(Object.entries(all).filter(([, it]) => it !== undefined));
}
/** Threads of commands that decode audio. */
export const workers = option(
  whole(0, 256),
  "Threads that decode and resample; 0 does it beside everything else.",
  { defaultText: "one for each core" },
);
/** Of commands that decode files of any length. */
export const maxHours = option(
  number({ above: 0, unit: "hours" }),
  "Longer files of audio are skipped.",
  { defaultText: "24" },
);
/** Of commands that use a device. */
export const adapter = option(choice(["auto", "gpu", "software"]), "WebGPU adapter.", {
  default: "auto",
});
/** Reads `2/8`, or asks the launcher. @throws {UsageError} if that has started no others */
function shardFrom(word: string): Shard | undefined {
  if (word === "auto") {
    const own = shardOfJob(environment);
    if (own) return own;
    throw new UsageError(
      "--shard auto: this process is none of several that srun, mpirun or a Slurm array started",
      "give --shard I/N with the number of the part and of all parts",
    );
  }
  const [index, count] = /^([1-9]\d{0,5})\/([1-9]\d{0,5})$/.exec(word)?.slice(1).map(Number) ?? [];
  return index <= count ? { index, count } : undefined;
}
/** Of commands whose work can be divided; see train/io/shards.ts. */
export const shard = option(
  parsed("I/N|auto", "I/N with whole numbers, I from 1 to N, or auto", shardFrom),
  "Does part I of N of the work and ends; parts may run at the same time, on any machines that " +
    "share the folders. auto: as the task of a Slurm array or the rank under srun or mpirun. The " +
    "same command without --shard then puts the parts together.",
);
/** Options that do not change what comes of a work. */
const PASSING: readonly string[] = ["shard", "out", "quiet", "workers", "adapter"];
/**
 * Options that all shards of a work have in common, by name.
 *
 * @param besides others that are not
 */
export function shardFacts(
  words: RawArguments,
  besides: readonly string[] = [],
): Record<string, unknown> {
  const names = [...PASSING, ...besides];
  const given = Object.entries(words).filter(([name]) => !names.includes(name)).sort();
  return Object.fromEntries(given.map(([name, value]) => [`--${name}`, value]));
}
/** Of commands that write a checkpoint. */
export const force = flag("Replaces FILE where it is there already.");
/** Of commands that show a progress line. */
export const quiet = flag("No progress line.");
/** Of commands that print JSON instead of text. */
export const printJson = flag("Prints one JSON object instead of text.");
/** Of commands that write JSON beside what they print. */
export const json = option(file(), "Writes all results as JSON.");
