/**
 * Launching kernels that reduce along the last axis (kernels/rows.wgsl).
 *
 * @module
 */
import head from "../../kernels/rows.wgsl" with { type: "text" };
import { defineKernel, type Kernel } from "../kernel.ts";
import type { Params } from "../recorder.ts";
import { type Shape, sizeOf } from "../shape.ts";
import type { Constants } from "../template.ts";
import type { Tensor } from "../tensor.ts";
import { isBindable } from "./copy.ts";
import { rowChunks, rowsOf } from "./launch.ts";

const WORKGROUP = 64;
/** Vectors of a row that one invocation may hold in registers. */
const MOST_KEPT = 24;

/** Declares a kernel whose text continues kernels/rows.wgsl. */
export function defineRowKernel(name: string, source: string): Kernel {
  return defineKernel(name, `${head}\n${source}`);
}

/** Rows and row length of a tensor reduced along its last axis. */
export function rowsAndWidth(shape: Shape): { rows: number; width: number } {
  return { rows: sizeOf(shape.slice(0, -1)), width: shape[shape.length - 1] ?? 1 };
}

/** The dense tensor itself, or a new one where kernels cannot write to it. */
export function writable(target: Tensor | undefined, like: Tensor): Tensor {
  return target && isBindable(target) ? target : like.device.empty(like.shape);
}

/** An operand of a row kernel: `perRow` elements belong to each row; 0 binds the whole tensor every time. */
export interface RowOperand {
  /** A dense tensor. */
  readonly tensor: Tensor;
  /** Elements per row. */
  readonly perRow: number;
}

/**
 * Runs a kernel over `rows` rows of `width` elements, in pieces where a binding would exceed the adapter's limit.
 *
 * @param params all but `rows`
 */
export function runRows(
  kernel: Kernel,
  rows: number,
  width: number,
  operands: readonly RowOperand[],
  constants: Constants,
  params: Params,
): void {
  const { device } = operands[0].tensor;
  const vector = width % 4 === 0;
  const units = vector ? width / 4 : width;
  const lanes = units <= 8 * MOST_KEPT ? 8 : units <= 32 * MOST_KEPT ? 32 : 64;
  const per = Math.ceil(units / lanes);
  const all = {
    WG: WORKGROUP,
    W: vector ? 4 : 1,
    V: vector ? "vec4" : "f32",
    LANES: lanes,
    UNITS: units,
    KEEP: units % lanes === 0 && per <= MOST_KEPT,
    PER: per,
    ...constants,
  };
  const perRow = operands.map((operand) => operand.perRow);
  for (const [first, count] of rowChunks(device, rows, perRow)) {
    device.run(
      kernel,
      all,
      operands.map(({ tensor, perRow }) =>
        perRow === 0 ? tensor : rowsOf(tensor, first, count, perRow)
      ),
      { ...params, rows: count },
      Math.ceil(count / (WORKGROUP / lanes)),
    );
  }
}
