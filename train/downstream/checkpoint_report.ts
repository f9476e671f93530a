/**
 * Checkpoints in words: what model one is, what it lacks, statistics of its tensors.
 *
 * @module
 */
import { type CheckpointModel, SYSTEM_TITLES } from "../../model/formats/checkpoint_file.ts";
import type { PretrainedFindings } from "../../model/pretrained/load.ts";
import type { CheckpointGeometry } from "../../model/formats/checkpoint_geometry.ts";
import { printable } from "../../engine/formats/printable.ts";
import { countOf, type StoredTensor, valuesOf } from "../../model/formats/stored_tensor.ts";

/** Statistics of a tensor over its finite values; NaN where it has none. */
export interface TensorStatistics {
  /** Mean. */
  readonly mean: number;
  /** Standard deviation, of the values as a whole population. */
  readonly std: number;
  /** Smallest value. */
  readonly min: number;
  /** Largest value. */
  readonly max: number;
  /** Values that are NaN or infinite. */
  readonly nonFinite: number;
}

/** Computes statistics piece by piece, in float64, merging the pieces' moments. */
export function statisticsOf(tensor: StoredTensor): TensorStatistics {
  let count = 0, mean = 0, squares = 0, min = Infinity, max = -Infinity, nonFinite = 0;
  for (const piece of tensor.chunks()) {
    const values = valuesOf(piece, tensor.dtype);
    let finite = 0, sum = 0;
    for (let i = 0; i < values.length; i++) {
      const it = values[i];
      if (!Number.isFinite(it)) continue;
      finite++;
      sum += it;
      if (it < min) min = it;
      if (it > max) max = it;
    }
    nonFinite += values.length - finite;
    if (finite === 0) continue;
    const own = sum / finite;
    let ownSquares = 0;
    for (let i = 0; i < values.length; i++) {
      if (Number.isFinite(values[i])) ownSquares += (values[i] - own) ** 2;
    }
    const total = count + finite;
    squares += ownSquares + (own - mean) ** 2 * count * finite / total;
    mean += (own - mean) * finite / total;
    count = total;
  }
  if (count === 0) return { mean: NaN, std: NaN, min: NaN, max: NaN, nonFinite };
  return { mean, std: Math.sqrt(squares / count), min, max, nonFinite };
}

/** Sizes of a model in one line. */
export function geometryLine(geometry: CheckpointGeometry): string {
  const { width, depth, heads, melBands, frames, patch, predictor, head, choices, classes } =
    geometry;
  const several = (count: number | null, what: string) =>
    `${count ?? "unknown"} ${what}${count === 1 ? "" : "s"}`;
  return [
    `width ${width}, ${several(depth, "block")}, ${several(heads, "head")}`,
    `${melBands} bands x ${frames} frames in patches of ${patch.join(" x ")}`,
    ...(geometry.classToken ? [] : ["no class token"]),
    ...(predictor
      ? [
        `predictor: width ${predictor.width}, ${several(predictor.depth, "block")}, ${
          several(predictor.heads, "head")
        }`,
      ]
      : []),
    ...(choices > 0 ? [`${choices} competing heads`] : []),
    ...(head ? [`head: ${head.hidden}, ${head.bottleneck}, ${head.prototypes} prototypes`] : []),
    ...(classes > 0 ? [`${classes} classes`] : []),
  ].join("; ");
}

/** Which encoder of another system a file holds; it is whole, or there would be none. */
export function encoderLines(
  { title, width, depth, heads, parameters, unused }: PretrainedFindings,
): string[] {
  return [
    `model: encoder of ${title}, ${parameters.toLocaleString("en")} parameters: width ${width}, ` +
    `${depth} blocks, ${heads} heads`,
    "nothing is missing",
    ...(unused.length > 0 ? [`not used: ${unused.map(printable).join(", ")}`] : []),
  ];
}

/** What model a checkpoint is, in two lines. */
export function modelLines(model: CheckpointModel): string[] {
  const parts = model.parts.map(({ name }) => name).join(", ");
  return [
    `model: ${SYSTEM_TITLES[model.system]} (${parts}), ${
      model.differences.parameters.toLocaleString("en")
    } values`,
    `geometry: ${geometryLine(model.geometry)}`,
  ];
}

/** Names under a title, ten at most; nothing for none. */
export function listLines(title: string, names: readonly string[]): string[] {
  if (names.length === 0) return [];
  const most = 10;
  const more = names.length > most ? [`  and ${names.length - most} more`] : [];
  return [
    `${title} (${names.length}):`,
    ...names.slice(0, most).map((it) => `  ${printable(it)}`),
    ...more,
  ];
}

/** What a model lacks, has in another shape, and has beyond. */
export function differenceLines({ differences }: CheckpointModel): string[] {
  return [
    ...listLines("missing", differences.missing),
    ...listLines(
      "of another shape",
      differences.misshaped.map((it) => `${it.name} [${it.shape}], not [${it.expected}]`),
    ),
    ...listLines("surplus, kept under their own names", differences.surplus),
  ];
}

/** Values in some tensors. */
export function valuesIn(tensors: Iterable<StoredTensor>): number {
  let sum = 0;
  for (const { shape } of tensors) sum += countOf(shape);
  return sum;
}
