/**
 * Probes as files: what a linear layer needs to put names to clips.
 *
 * @module
 */
import { bytesOf, encodeHeader, readSafetensors } from "../../../model/formats/safetensors.ts";
import { NoDataError, UsageError } from "../../errors.ts";
import { writeAtomic } from "../../io/atomic_write.ts";
import type { FeatureOptions } from "./features.ts";
import { probabilitiesOf } from "./metrics.ts";

/** Says what kind of file it is. */
const FORMAT = "tessera-probe";

/** What a probe file holds. */
export interface ProbeFile {
  /** Names of the classes. */
  readonly classes: readonly string[];
  /** Whether a clip can be of several: probabilities are of each class by itself then. */
  readonly multiLabel: boolean;
  /** How embeddings are made. */
  readonly features: FeatureOptions;
  /** SHA-256 of the encoder's file. */
  readonly checkpoint: string;
  /** Where it comes from: dataset, protocol, score. */
  readonly about: Readonly<Record<string, string | number>>;
  /** [classes, dim]. */
  readonly weight: Float32Array;
  /** [classes]. */
  readonly bias: Float32Array;
  /** [dim] each; embeddings are standardised with them. */
  readonly statistics?: { readonly mean: Float32Array; readonly std: Float32Array };
}

/** A class with its probability. */
export interface Prediction {
  /** Name. */
  readonly label: string;
  /** From 0 to 1. */
  readonly probability: number;
}

/** A probe that predicts. */
export class Probe {
  /** Takes what a file holds. */
  constructor(readonly file: ProbeFile) {}

  /** Values of an embedding. */
  get dim(): number {
    return this.file.weight.length / this.file.classes.length;
  }

  /**
   * The likeliest classes of a clip, the likeliest first.
   *
   * @param embedding [dim], made with the probe's `features` by its encoder
   * @param top how many at most
   * @throws {RangeError} for an embedding of another size.
   */
  predict(embedding: ArrayLike<number>, top: number): Prediction[] {
    const { classes, multiLabel } = this.file;
    const loss = multiLabel ? "binary" : "cross-entropy";
    const probabilities = probabilitiesOf(this.logits(embedding), classes.length, loss);
    return classes
      .map((label, k): Prediction => ({ label, probability: probabilities[k] }))
      .sort((a, b) => b.probability - a.probability)
      .slice(0, top);
  }

  /** Logits of all classes, in order. */
  logits(embedding: ArrayLike<number>): Float64Array {
    const { weight, bias, statistics } = this.file;
    const { dim } = this;
    if (embedding.length !== dim) {
      throw new RangeError(`the probe takes ${dim} values, not ${embedding.length}`);
    }
    if (!Array.from(embedding).every(Number.isFinite)) {
      throw new RangeError("the embedding holds a NaN or an infinity");
    }
    const x = Float64Array.from(
      embedding,
      (value, i) => statistics ? (value - statistics.mean[i]) / statistics.std[i] : value,
    );
    return Float64Array.from(
      bias,
      (offset, k) => x.reduce((sum, value, i) => sum + value * weight[k * dim + i], offset),
    );
  }
}

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
export async function loadProbe(path: string): Promise<Probe> {
  let bytes: Uint8Array;
  try {
    bytes = await Deno.readFile(path);
  } catch (error) {
    throw new UsageError(`${path}: cannot be read`, (error as Error).message);
  }
  try {
    return new Probe(parsed(bytes));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new NoDataError(`${path} is no probe that probe --save wrote: ${reason}`);
  }
}

function parsed(bytes: Uint8Array): ProbeFile {
  const { tensors, metadata } = readSafetensors(bytes);
  if (metadata.format !== FORMAT) throw new Error(`its metadata do not say ${FORMAT}`);
  const classes: unknown = JSON.parse(metadata.classes);
  const features = JSON.parse(metadata.features) as FeatureOptions;
  if (!Array.isArray(classes) || !classes.every((it) => typeof it === "string")) {
    throw new Error("its classes are no list of names");
  }
  const values = (name: string, size: number | undefined): Float32Array => {
    const data = tensors.get(name)?.data;
    if (
      !(data instanceof Float32Array) || (size !== undefined && data.length !== size) ||
      !data.every(Number.isFinite)
    ) {
      throw new Error(`${name} is missing, of another size or not finite`);
    }
    return data;
  };
  const weight = values("weight", undefined);
  const dim = weight.length / classes.length;
  if (!Number.isInteger(dim) || dim === 0) throw new Error("its weights do not fit its classes");
  return {
    classes,
    multiLabel: metadata.multi_label === "true",
    features,
    checkpoint: metadata.checkpoint,
    about: JSON.parse(metadata.about),
    weight,
    bias: values("bias", classes.length),
    ...(tensors.has("mean") && {
      statistics: { mean: values("mean", dim), std: values("std", dim) },
    }),
  };
}
