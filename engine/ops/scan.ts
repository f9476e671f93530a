/**
 * Running sums, products and extrema along an axis, and products over axes.
 *
 * @module
 */
import { needTensors } from "../arguments.ts";
import { fill } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { extentOf, foldOf, scanInto } from "../launch/scan.ts";
import { defineOp, type Op, type RefArray } from "../op.ts";
import { refAlong } from "../reference.ts";
import { composite } from "../scope.ts";
import { normalizeAxis, type Shape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { attrsOf, expand, keptShape, type ReduceOptions, squeeze } from "./reduce.ts";
import { permute, reshape } from "./view.ts";

interface AxisAttrs {
  readonly axis: number;
}

const cumsumOp = /* @__PURE__ */ defineOp<AxisAttrs>({
  name: "cumsum",
  dtypes: "same",
  half: true,
  forward([x], { axis }) {
    const y = x.device.empty(x.shape, x.dtype);
    scanInto(y, x, axis, { kind: "sum" });
    return [y];
  },
  backward({ grads: [dy] }, { axis }) {
    const dx = dy!.device.empty(dy!.shape, dy!.dtype);
    scanInto(dx, dy!, axis, { kind: "sum", reverse: true });
    return [dx];
  },
  reference: {
    forward: ([x], { axis }) => [refAlong(x, axis, (row) => running(row, (a, b) => a + b))],
    backward: (
      _,
      { axis },
      [dy],
    ) => [refAlong(dy, axis, (row) => running(row.toReversed(), (a, b) => a + b).toReversed())],
  },
});

function running(row: readonly number[], join: (a: number, b: number) => number): number[] {
  const result = [...row];
  for (let k = 1; k < row.length; k++) result[k] = join(result[k - 1], row[k]);
  return result;
}

/** Products of all elements of a row but one. */
const others = (row: readonly number[]): number[] =>
  row.map((_, i) => row.reduce((product, value, k) => k === i ? product : product * value, 1));

const cumprodOp = /* @__PURE__ */ defineOp<AxisAttrs>({
  name: "cumprod",
  dtypes: "same",
  half: true,
  forward([x], { axis }, save) {
    const y = x.device.empty(x.shape, x.dtype);
    scanInto(y, x, axis, { kind: "prod" });
    save(x);
    return [y];
  },
  // dx_i = (x_0 … x_(i-1)) s_i with s_i = dy_i + x_(i+1) s_(i+1): no quotients, so zeros may be.
  backward({ grads: [dy], saved: [x] }, { axis }) {
    const { device, shape } = x;
    const [before, after] = [device.empty(shape), device.empty(shape)];
    scanInto(before, x, axis, { kind: "prod", exclusive: true });
    scanInto(after, dy!, axis, { kind: "linear", reverse: true }, { beside: x });
    const dx = device.empty(shape, x.dtype);
    elementwise(dx, [before, after], { expression: "a * b" });
    return [dx];
  },
  reference: {
    forward: ([x], { axis }) => [refAlong(x, axis, (row) => running(row, (a, b) => a * b))],
    backward: ([x], { axis }, [dy]) => [
      refAlong(x, axis, (row, slope) => {
        const dx = row.map(() => 0);
        slope.forEach((d, k) => others(row.slice(0, k + 1)).forEach((p, i) => dx[i] += d * p));
        return dx;
      }, dy),
    ],
  },
});

function defineExtremum(name: "cummax" | "cummin"): Op<AxisAttrs> {
  const kind = name === "cummax" ? "max" : "min";
  const wins = (a: number, b: number) =>
    Number.isNaN(a) || !Number.isNaN(b) && (kind === "max" ? a >= b : a <= b);
  /** Where the extremum so far stands, the last of equal ones. */
  const places = (row: readonly number[]): number[] =>
    running([...row.keys()], (best, k) => wins(row[k], row[best]) ? k : best);
  return defineOp<AxisAttrs>({
    name,
    dtypes: "same",
    half: true,
    auxiliary: [1],
    forward([x], { axis }, save) {
      const values = x.device.empty(x.shape, x.dtype);
      const indices = x.device.empty(x.shape, "u32");
      scanInto(indices, x, axis, { kind }, { values });
      save(indices);
      return [values, indices];
    },
    backward({ grads: [dy], saved: [indices] }, { axis }) {
      const dx = dy!.device.empty(dy!.shape, dy!.dtype);
      scanInto(dx, dy!, axis, { kind: "segments", reverse: true }, { beside: indices });
      return [dx];
    },
    reference: {
      forward: ([x], { axis }) => [
        refAlong(x, axis, (row) => places(row).map((at) => row[at])),
        refAlong(x, axis, places),
      ],
      backward: ([x], { axis }, [dy]) => [
        refAlong(x, axis, (row, slope) => {
          const dx = row.map(() => 0);
          places(row).forEach((at, k) => dx[at] += slope[k]);
          return dx;
        }, dy),
      ],
    },
  });
}

const cummaxOp = /* @__PURE__ */ defineExtremum("cummax");
const cumminOp = /* @__PURE__ */ defineExtremum("cummin");

const prodOp = /* @__PURE__ */ defineOp<AxisAttrs>({
  name: "prod",
  dtypes: "same",
  half: true,
  forward([x], { axis }, save) {
    const y = x.device.empty(without(x.shape, axis), x.dtype);
    if (x.size === 0) fill(y, 1);
    else {
      const product = foldOf(x, extentOf(x.shape, axis), "prod");
      elementwise(y, [product.view(y.shape)], { expression: "a" });
    }
    save(x);
    return [y];
  },
  // The product of all others, so that zeros may be.
  backward({ grads: [dy], saved: [x] }, { axis }) {
    const { device, shape } = x;
    const [before, after] = [device.empty(shape), device.empty(shape)];
    scanInto(before, x, axis, { kind: "prod", exclusive: true });
    scanInto(after, x, axis, { kind: "prod", exclusive: true, reverse: true });
    const dx = device.empty(shape, x.dtype);
    const spread = expand(dy!, shape, shape.map((_, i) => i === axis));
    elementwise(dx, [before, after, spread], { expression: "a * b * c" });
    return [dx];
  },
  reference: {
    forward: ([x], { axis }) => {
      const shape = without(x.shape, axis);
      const { data } = refAlong(x, axis, (row) => running([1, ...row], (a, b) => a * b).slice(-1));
      return [{ shape, data }];
    },
    backward: ([x], { axis }, [dy]) => {
      const kept: RefArray = {
        shape: keptShape(x.shape, x.shape.map((_, i) => i === axis)),
        data: dy.data,
      };
      return [refAlong(x, axis, (row, [d]) => others(row).map((p) => d * p), kept)];
    },
  },
});

const without = (shape: Shape, axis: number): number[] => shape.filter((_, i) => i !== axis);

function attrs(name: string, x: Tensor, axis: number): AxisAttrs {
  needTensors(name, { x });
  return { axis: normalizeAxis(name, axis, x.shape.length) };
}

/**
 * Running sum along an axis: `y_k = x_0 + … + x_k`. Sums go in blocks, so rounding grows with the
 * logarithm of the length; integers wrap around.
 *
 * @param axis negative from the end; default the last
 * @returns the shape and type of `x`
 * @throws {ShapeError} if the axis does not exist.
 */
export function cumsum(x: Tensor, axis = -1): Tensor {
  return cumsumOp.apply([x], attrs("cumsum", x, axis))[0];
}

/** Running product along an axis, with right gradients beside zeros; see {@link cumsum}. */
export function cumprod(x: Tensor, axis = -1): Tensor {
  return cumprodOp.apply([x], attrs("cumprod", x, axis))[0];
}

/** Running extrema, and where they stand. */
export interface Running {
  /** Largest or smallest elements so far. */
  readonly values: Tensor;
  /** Their indices along the axis, u32, the last of equal ones; without a gradient. */
  readonly indices: Tensor;
}

/** Largest element so far along an axis; a NaN stays. See {@link cumsum}. */
export function cummax(x: Tensor, axis = -1): Running {
  const [values, indices] = cummaxOp.apply([x], attrs("cummax", x, axis));
  return { values, indices };
}

/** Smallest element so far along an axis; a NaN stays. See {@link cumsum}. */
export function cummin(x: Tensor, axis = -1): Running {
  const [values, indices] = cumminOp.apply([x], attrs("cummin", x, axis));
  return { values, indices };
}

/**
 * Product over axes; 1 of nothing. Its gradient is right beside zeros; integers wrap around.
 *
 * @returns the shape of `x` without the axes, or with size 1 in their place (`keepDims`)
 * @throws {ShapeError} if an axis does not exist or is named twice.
 */
export function prod(x: Tensor, options: ReduceOptions = {}): Tensor {
  const reduction = attrsOf("prod", x, options, undefined, true);
  const { reduced } = reduction;
  const axes = [...reduced.keys()];
  const kept = axes.filter((axis) => !reduced[axis]);
  return composite(() => {
    const last = permute(x, [...kept, ...axes.filter((axis) => reduced[axis])]);
    const sizes = kept.map((axis) => x.shape[axis]);
    const count = x.shape.reduce((n, size, axis) => reduced[axis] ? n * size : n, 1);
    const [y] = prodOp.apply([reshape(last, [...sizes, count])], { axis: kept.length });
    return reshape(y, squeeze(x.shape, reduction));
  });
}
