/**
 * What benchmarks of kernels bound by memory are made of.
 *
 * @module
 */
import type { Device, Tensor } from "../engine/mod.ts";
import type { CaseSpec } from "./case.ts";
import type { Benchmark } from "./harness.ts";
import { naive } from "./naive/kernels.ts";

/**
 * A kernel over `size` elements; `moved` and `flops` count per element, special functions as one
 * operation.
 */
export interface Entry {
  readonly name: string;
  readonly tier: Benchmark["tier"];
  readonly needs?: Benchmark["needs"];
  readonly size: number;
  /** Floats read and written. */
  readonly moved: number;
  readonly flops: number;
  make(device: Device): CaseSpec;
}

/**
 * An elementwise plain kernel over f32 `inputs` of one shape; `EXPR` as in naive/elementwise.wgsl.
 */
export function plainMap(inputs: readonly Tensor[], EXPR: string): Tensor {
  const y = inputs[0].device.empty(inputs[0].shape);
  naive(
    "elementwise",
    { INPUTS: inputs.length, EXPR, T: "f32", TY: "f32" },
    [...inputs, y],
    {},
    y.size,
  );
  return y;
}
