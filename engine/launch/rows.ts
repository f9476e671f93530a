/**
 * Launching kernels that reduce along the last axis (kernels/include/rows.wgsl).
 *
 * @module
 */
import type { Device } from "../device.ts";
import { BYTES_PER_ELEMENT, type DType, itemSizeOf } from "../dtype.ts";
import type { Kernel, Launch } from "../kernel.ts";
import type { Params } from "../recorder.ts";
import { type Shape, sizeOf } from "../shape.ts";
import type { Constants } from "../template.ts";
import type { Tensor } from "../tensor.ts";
import { isBindable } from "./copy.ts";
import { alignedRows, rowChunks, rowsOf } from "./elementwise.ts";

const WORKGROUP = 64;
/**
 * Vectors of a row that one invocation may hold in registers; lavapipe spills them to memory that
 * is cheap to reach.
 */
const MOST_KEPT = { gpu: 24, software: 64 };

/**
 * Loads of a row per invocation, in each loop of a kernel, up to which one workgroup does it; there
 * are up to four loops, and up to eight rows.
 */
const MOST_LOADS = 1024;

/** Rows and row length of a tensor reduced along its last axis. */
export function rowsAndWidth(shape: Shape): { rows: number; width: number } {
  return { rows: sizeOf(shape.slice(0, -1)), width: shape[shape.length - 1] ?? 1 };
}

/** The dense tensor itself, or a new one where kernels cannot write to it. */
export function writable(target: Tensor | undefined, like: Tensor): Tensor {
  return target && isBindable(target) ? target : like.device.empty(like.shape, like.dtype);
}

/**
 * An operand of a row kernel: `perRow` elements belong to each row; 0 binds the whole tensor every
 * time.
 */
export interface RowOperand {
  /** A dense tensor. */
  readonly tensor: Tensor;
  /** Elements per row. */
  readonly perRow: number;
}

/** How a row kernel is laid out. */
export interface RowLayout {
  /** Constants of kernels/include/rows.wgsl. */
  readonly constants: Constants;
  /** Rows that a workgroup takes side by side. */
  readonly teams: number;
  /** Whether rows are kept in registers. */
  readonly keep: boolean;
  /**
   * Whether they are too long for row kernels or bindings: ops/long_rows.ts composes what these
   * compute.
   */
  readonly long: boolean;
}

/** The layout for rows of `width` elements of `dtype`; the one place where it is decided. */
export function rowLayout(device: Device, width: number, dtype: DType): RowLayout {
  const { software, subgroupSize } = device.info;
  const vector = width % 4 === 0;
  const units = vector ? width / 4 : width;
  const subgroups = subgroupSize >= 8;
  const most = subgroups && software ? MOST_KEPT.software : MOST_KEPT.gpu;
  const lanes = units <= 8 * most ? 8 : units <= 32 * most ? 32 : 64;
  const per = Math.ceil(units / lanes);
  const keep = units % lanes === 0 && per <= most;
  return {
    constants: {
      WG: WORKGROUP,
      W: vector ? 4 : 1,
      V: vector ? "vec4" : "f32",
      E: dtype,
      HALF: dtype === "f16",
      LANES: lanes,
      UNITS: units,
      KEEP: keep,
      PER: per,
      SUBGROUPS: lanes <= Math.min(32, subgroupSize),
    },
    teams: WORKGROUP / lanes,
    keep,
    long: per > MOST_LOADS ||
      alignedRows(device, width, itemSizeOf(dtype)) * width * BYTES_PER_ELEMENT >
        device.bindingLimit,
  };
}

/** Whether the rows of a tensor are too long for row kernels. */
export function hasLongRows({ device, shape, dtype }: Tensor): boolean {
  return rowLayout(device, rowsAndWidth(shape).width, dtype).long;
}

/** Rounds of a row kernel that walks a row `passes` times unless it keeps it in registers. */
export const rowRounds = (
  { constants: { KEEP, PER }, params: { repeat } }: Launch,
  passes: number,
): number => repeat * (KEEP ? 1 : passes * (Number(PER) + 1) + 1) + 1;

/**
 * Rows that one invocation does, so that it loads what all rows need once: where loads cost more
 * than idle cores.
 */
export function repeats(device: Device, rows: number): number {
  return device.info.software ? Math.min(8, Math.max(1, Math.floor(rows / 128))) : 1;
}

/**
 * Runs a kernel over `rows` rows of `width` elements, in pieces where a binding would exceed the
 * adapter's limit; rows of nothing are left alone.
 *
 * @param operands the first one tells the dtype
 * @param params all but `rows` and `repeat`
 * @param repeat rows that one invocation does one after the other, for kernels that have this
 * parameter
 */
export function runRows(
  kernel: Kernel,
  rows: number,
  width: number,
  operands: readonly RowOperand[],
  constants: Constants,
  params: Params,
  repeat = 1,
): void {
  if (width === 0) return;
  const { device, dtype, itemSize } = operands[0].tensor;
  const layout = rowLayout(device, width, dtype);
  const perRow = operands.map((operand) => operand.perRow);
  for (const [first, count] of rowChunks(device, rows, perRow, itemSize)) {
    device.run(
      kernel,
      { ...layout.constants, ...constants },
      operands.map(({ tensor, perRow }) =>
        perRow === 0 ? tensor : rowsOf(tensor, first, count, perRow)
      ),
      { ...params, rows: count, repeat },
      Math.ceil(count / (layout.teams * repeat)),
    );
  }
}
