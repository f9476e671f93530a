/**
 * What other engines are asked to do: the same numbers in, the same results out. Shared by both
 * processes.
 *
 * @module
 */

import type { Geometry } from "../../model/vit/geometry.ts";
import { type PresetName, PRESETS } from "../../model/objectives/presets.ts";

/** Ops whose results are compared. */
export type ComparedOp = "matmul" | "attention" | "layernorm" | "softmax" | "add" | "chain";

/** A computation with operands that both sides make alike. */
export interface Workload {
  /** Name of our benchmark. */
  readonly name: string;
  readonly op: ComparedOp | "update" | "embed";
  /** Shapes of the operands; the last one of a backward pass is the gradient of the result. */
  readonly shapes: readonly (readonly number[])[];
  readonly backward?: boolean;
  /** Of a softmax. */
  readonly temperature?: number;
  /** Sizes of a model; its weights are the peer's own, and results are not compared. */
  readonly geometry?: Geometry;
  /** How often our benchmark does it; default once. */
  readonly calls?: number;
}

/** A workload whose results are compared. */
export type ComparedWorkload = Workload & { readonly op: ComparedOp };

/** Whether results are compared. */
export function isCompared(workload: Workload): workload is ComparedWorkload {
  return workload.geometry === undefined;
}

const HEADS = [8, 12, 134, 64];

/** A model's update or embedding of clips. */
function ofModel(
  name: string,
  op: "update" | "embed",
  preset: PresetName,
  batch: number,
  cropFrames = 608,
): Workload {
  const geometry = { ...PRESETS[preset].geometry, cropFrames };
  return { name, op, geometry, shapes: [[batch, geometry.melBands, cropFrames]] };
}

/** All of them. */
export const WORKLOADS: readonly Workload[] = [
  { name: "gemm/nn/1024x768x768", op: "matmul", shapes: [[1024, 768], [768, 768]] },
  { name: "attention/forward/b8h12t134d64", op: "attention", shapes: [HEADS, HEADS, HEADS] },
  {
    name: "attention/forward+backward/b8h12t134d64",
    op: "attention",
    shapes: [HEADS, HEADS, HEADS, HEADS],
    backward: true,
  },
  { name: "layernorm/forward/1072x768", op: "layernorm", shapes: [[1072, 768], [768], [768]] },
  { name: "softmax/forward/1064x2048", op: "softmax", shapes: [[1064, 2048]], temperature: 0.1 },
  { name: "small/add/captured/1024", op: "add", shapes: [[1024], [1024]], calls: 100 },
  { name: "small/matmul/64x64x64", op: "matmul", shapes: [[64, 64], [64, 64]], calls: 100 },
  { name: "fused/eight/8388608", op: "chain", shapes: [[8388608], [8388608]] },
  ofModel("step/tiny", "update", "tiny", 16, 208),
  ofModel("step/tiny/608x16", "update", "tiny", 16),
  ofModel("step/base", "update", "base", 4),
  ...(["tiny", "base"] as const).flatMap((preset) =>
    [8, 1].map((batch) => ofModel(`embed/${preset}/608x${batch}`, "embed", preset, batch))
  ),
];

/** Epsilon of the layer norm. */
export const EPS = 1e-6;

/**
 * Operand `index` of a workload: numbers spread evenly over [-1, 1], from a multiplicative hash of
 * the position.
 */
export function operand({ shapes }: Workload, index: number): Float32Array<ArrayBuffer> {
  const size = shapes[index].reduce((a, b) => a * b, 1);
  return Float32Array.from({ length: size }, (_, i) => {
    let x = Math.imul(i + 1 + index * 0x10001, 0x9e3779b1);
    x = Math.imul(x ^ (x >>> 15), 0x85ebca6b);
    return ((x ^ (x >>> 13)) >>> 0) / 2 ** 31 - 1;
  });
}

/** Values of a result that are compared: some thousand, spread over all of it. */
export function excerpt(values: ArrayLike<number>): number[] {
  const step = Math.max(1, Math.floor(values.length / 1009));
  return Array.from({ length: Math.floor(values.length / step) }, (_, i) => values[i * step]);
}

/** To the child: what to do. */
export type Request =
  | { readonly do: "prepare"; readonly workload: Workload }
  | { readonly do: "sample"; readonly minimumMs: number };

/** From the child, one line of JSON per request; `results` are excerpts, `ms` is per run. */
export type Answer =
  | { readonly ready: string }
  | { readonly results: readonly (readonly number[])[] }
  | { readonly ms: number }
  | { readonly unsupported: string }
  | { readonly error: string };

/** Of a fresh process, ms. */
export interface StartupTimes {
  /** Importing the engine. */
  readonly import_ms: number;
  /** Finding the device, the first op, and reading its result. */
  readonly first_op_ms: number;
  /** One op on two numbers and reading the result, once warm. */
  readonly read_ms: number;
}

/** What an answer line starts with, since libraries print lines of their own. */
export const MARK = "@bench ";
