/**
 * Probes as files: what a linear layer needs to put names to clips.
 *
 * @module
 */
import * as v from "../../deps/valibot.ts";
import type { CheckpointFile } from "../../../model/formats/checkpoint_file.ts";
import { listed, printable } from "../../../engine/formats/printable.ts";
import { bytesOf, encodeHeader } from "../../../engine/formats/safetensors.ts";
import { wholeBytes } from "../../../model/formats/stored_tensor.ts";
import { CLIP_POOLS } from "../../../model/encoder/pooling.ts";
import { NoDataError, UsageError } from "../../errors.ts";
import { openCheckpointFile } from "../../io/checkpoint_file.ts";
import { writeAtomic } from "../../io/atomic_write.ts";
import { Probe, type ProbeFile } from "./probe_layer.ts";

/** Says what kind of file it is. */
const FORMAT = "tessera-probe";
/** Longest clips: a day. */
const MOST_SECONDS = 86_400;

/** Writes a probe. @throws {DiskFullError} if there is no room */
export async function saveProbe(path: string, probe: ProbeFile): Promise<void> {
  const { classes, multiLabel, features, checkpoint, about, weight, bias, statistics } = probe;
  const dim = weight.length / classes.length;
  const tensor = (shape: readonly number[], data: Float32Array) =>
    ({ dtype: "F32", shape, data }) as const;
  const entries = [
    ["weight", tensor([classes.length, dim], weight)],
    ["bias", tensor([classes.length], bias)],
    ...(statistics
      ? [
        ["mean", tensor([dim], statistics.mean)] as const,
        ["std", tensor([dim], statistics.std)] as const,
      ]
      : []),
  ] as const;
  const metadata = {
    format: FORMAT,
    classes: JSON.stringify(classes),
    multi_label: String(multiLabel),
    features: JSON.stringify(features),
    checkpoint,
    about: JSON.stringify(about),
  };
  await writeAtomic(path, [
    encodeHeader(entries, metadata),
    ...entries.map(([, { data }]) => bytesOf(data)),
  ]);
}

/**
 * Reads a probe.
 *
 * @throws {UsageError} if the file cannot be read
 * @throws {NoDataError} if it is no probe, or is damaged.
 */
export function loadProbe(path: string): Probe {
  try {
    using opened = openCheckpointFile(path);
    return new Probe(probeIn(opened.file));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const { message } = error as Error;
    const reason = message.startsWith(`${path}: `) ? message.slice(path.length + 2) : message;
    throw new NoDataError(`${path} is no probe that probe --save wrote: ${reason}`);
  }
}

/** JSON in a text. */
const json = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }): unknown => {
    try {
      return JSON.parse(dataset.value);
    } catch {
      addIssue({ message: "no JSON" });
      return NEVER;
    }
  }),
);
const seconds = v.optional(v.pipe(v.number(), v.gtValue(0), v.maxValue(MOST_SECONDS)));
/** Metadata of a file. */
const METADATA = v.object({
  classes: v.pipe(
    json,
    v.array(v.pipe(v.string(), v.nonEmpty())),
    v.nonEmpty(),
    v.check((names) => new Set(names).size === names.length, "a name occurs twice"),
  ),
  multi_label: v.picklist(["true", "false"]),
  // Strict: what is not known here could change what the values mean.
  features: v.pipe(
    json,
    v.strictObject({
      mode: v.optional(v.picklist(["precise", "fast", "msm-mae"])),
      pool: v.picklist(CLIP_POOLS),
      bands: v.optional(v.picklist(["concat", "mean"])),
      blocks: v.optional(v.pipe(
        v.array(v.pipe(v.number(), v.integer(), v.minValue(0))),
        v.nonEmpty(),
        v.check((them) => new Set(them).size === them.length, "a block occurs twice"),
      )),
      join: v.optional(v.picklist(["concat", "mean"])),
      official: v.optional(v.union([v.boolean(), v.literal("downstream")])),
      vector: v.optional(v.picklist(["features", "logits", "all", "tokens", "patches"])),
      split: seconds,
      seconds,
      leastSeconds: seconds,
    }),
  ),
  checkpoint: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "no SHA-256")),
  about: v.pipe(json, v.record(v.string(), v.union([v.string(), v.number(), v.null()]))),
});

function probeIn({ format, tensors, metadata }: CheckpointFile): ProbeFile {
  if (format !== "safetensors" || metadata.format !== FORMAT) {
    throw new Error(`its metadata do not say ${FORMAT}`);
  }
  const { success, output, issues } = v.safeParse(METADATA, metadata);
  if (!success) {
    const [issue] = issues;
    const at = v.getDotPath(issue)?.split(".").slice(0, 2).join(".") ?? "metadata";
    throw new Error(`its ${printable(at)} is not as it should be: ${printable(issue.message)}`);
  }
  const { classes, multi_label, features, checkpoint, about } = output;
  const values = (name: string, shape: readonly number[]): Float32Array => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`${name} is missing`);
    if (tensor.dtype !== "F32" || String(tensor.shape) !== String(shape)) {
      throw new Error(
        `${name} is ${tensor.dtype} of shape ${listed(tensor.shape)}, not F32 of [${shape}]`,
      );
    }
    const data = new Float32Array(wholeBytes(tensor).buffer);
    if (!data.every(Number.isFinite)) throw new Error(`${name} is not finite`);
    return data;
  };
  const dim = tensors.get("weight")?.shape.at(-1) ?? 0;
  if (dim === 0) throw new Error("it has no weights");
  const file = {
    ...{ classes, features, checkpoint, about },
    multiLabel: multi_label === "true",
    weight: values("weight", [classes.length, dim]),
    bias: values("bias", [classes.length]),
  };
  if (!tensors.has("mean") && !tensors.has("std")) return file;
  const statistics = { mean: values("mean", [dim]), std: values("std", [dim]) };
  if (!statistics.std.every((it) => it > 0)) throw new Error("std is not above 0");
  return { ...file, statistics };
}
