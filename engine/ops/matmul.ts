/**
 * Matrix products and linear layers.
 *
 * @module
 */
import { needOptions, needTensors } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refBroadcast, refFrom, refPhi, refUnbroadcast, refZeros } from "../reference.ts";
import { composite } from "../scope.ts";
import {
  broadcastShapes,
  broadcastStrides,
  collapseAxes,
  sameShape,
  type Shape,
  show,
  sizeOf,
} from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { fill, materialize } from "../launch/copy.ts";
import { gemm, type GemmArguments, type MatrixOperand } from "../launch/gemm.ts";
import { elementwise } from "../launch/elementwise.ts";
import { sumTo } from "./reduce.ts";
import { reshape } from "./view.ts";

/** f64 product of [m, k] and [k, n] slices, optionally transposed as stored. */
function refProduct(
  a: Float64Array,
  b: Float64Array,
  m: number,
  n: number,
  k: number,
  transposed: { a?: boolean; b?: boolean } = {},
): Float64Array {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let p = 0; p < k; p++) {
      const x = transposed.a ? a[p * m + i] : a[i * k + p];
      for (let j = 0; j < n; j++) c[i * n + j] += x * (transposed.b ? b[j * k + p] : b[p * n + j]);
    }
  }
  return c;
}

/**
 * A product over all tensors of it, zeros where nothing is summed.
 *
 * @returns whether the row sums that were asked for are there
 */
export function multiply(product: GemmArguments): boolean {
  if (product.k > 0) return gemm(product);
  fill(product.c.tensor, 0);
  return false;
}

interface LinearAttributes {
  /** Apply the exact GELU to the result. */
  readonly gelu: boolean;
  /** Whether a bias is the third input. */
  readonly bias: boolean;
  /** Whether a residual is the last input. */
  readonly residual: boolean;
}

/** GELU and its derivative in float64. */
export const refGelu = {
  /** The function. */
  value: (x: number): number => x * refPhi(x),
  /** Its derivative. */
  slope: (x: number): number => refPhi(x) + x * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI),
};

/** A linear layer in float64, before GELU. */
export function refLinear(
  [x, weight, ...rest]: readonly RefArray[],
  { bias, residual }: Omit<LinearAttributes, "gelu">,
): RefArray {
  const [n, k] = weight.shape;
  const m = sizeOf(x.shape.slice(0, -1));
  const y = refProduct(x.data, weight.data, m, n, k, { b: true });
  const shape = [...x.shape.slice(0, -1), n];
  const extra = residual ? rest[rest.length - 1].data : undefined;
  return refFrom(shape, (i) => y[i] + (bias ? rest[0].data[i % n] : 0) + (extra ? extra[i] : 0));
}

/** Gradients of input, weight and bias of a linear layer for one of its result, in float64. */
export function refLinearBackward(x: RefArray, weight: RefArray, dz: RefArray): RefArray[] {
  const [n, k] = weight.shape;
  const m = sizeOf(x.shape.slice(0, -1));
  return [
    { shape: x.shape, data: refProduct(dz.data, weight.data, m, k, n) },
    { shape: weight.shape, data: refProduct(dz.data, x.data, n, k, m, { a: true }) },
    refUnbroadcast(dz.data, [m, n], [n]),
  ];
}

/** Operands of {@link linearForward}. */
export interface LinearOperands {
  /** Name of the op in messages. */
  readonly name: string;
  /** [..., in] */
  readonly x: Tensor;
  /** [out, in] */
  readonly weight: Tensor;
  /** [out] */
  readonly bias?: Tensor;
  /** [..., out] */
  readonly residual?: Tensor;
  /** Whether GELU follows. */
  readonly gelu: boolean;
}

/**
 * A linear layer's result, and the derivative of GELU at what it was before. Records nothing.
 *
 * @throws {ShapeError} if sizes do not fit.
 */
export function linearForward(
  { name, x, weight, bias, residual, gelu }: LinearOperands,
): { y: Tensor; slope?: Tensor } {
  const [n, k] = weight.shape;
  if (weight.shape.length !== 2 || x.shape[x.shape.length - 1] !== k) {
    throw new ShapeError(
      `${name}: input ${show(x.shape)} against weight ${show(weight.shape)} [out, in]`,
    );
  }
  const shape = [...x.shape.slice(0, -1), n];
  if (bias && !sameShape(bias.shape, [n])) {
    throw new ShapeError(
      `${name}: bias ${show(bias.shape)} against weight ${show(weight.shape)} [out, in]`,
    );
  }
  if (residual && !sameShape(residual.shape, shape)) {
    throw new ShapeError(
      `${name}: residual ${show(residual.shape)} against result ${show(shape)}`,
    );
  }
  const y = x.device.empty(shape, x.dtype);
  const slope = gelu ? x.device.empty(shape, x.dtype) : undefined;
  if (k === 0) {
    // A sum of nothing, and what is added to it.
    const added = [bias, residual].filter((it) => it !== undefined);
    const sum = ["T(0.0)", "a", "a + b"][added.length];
    elementwise(y, added, { expression: gelu ? `gelu_$V(${sum})` : sum });
    if (slope) elementwise(slope, added, { expression: `gelu_grad_$V(${sum})` });
  } else {
    gemm({
      a: { tensor: x, ld: k },
      b: { tensor: weight, ld: k, transposed: true },
      c: { tensor: y, ld: n },
      m: sizeOf(x.shape.slice(0, -1)),
      n,
      k,
      bias,
      residual,
      slope,
    });
  }
  return { y, slope };
}

/** Operands of {@link linearBackward}. */
export interface LinearGradients {
  /** [..., in] */
  readonly x: Tensor;
  /** [out, in] */
  readonly weight: Tensor;
  /** Gradient of the result before GELU, [..., out]. */
  readonly dz: Tensor;
  /** Whether gradients of input, weight and bias are asked for. */
  readonly needs: readonly [x: boolean, weight: boolean, bias: boolean];
  /** Where those of weight and bias go; default new memory. */
  readonly into: readonly [weight?: Tensor, bias?: Tensor];
  /** Added to the gradient of the input. */
  readonly arrived?: Tensor;
  /** Factor of the gradient of the input: the derivative of GELU before it. */
  readonly factor?: Tensor;
}

/** Gradients of input, weight and bias of a linear layer. Records nothing. */
export function linearBackward(
  { x, weight, dz, needs, into, arrived, factor }: LinearGradients,
): [dx?: Tensor, dweight?: Tensor, dbias?: Tensor] {
  const { device, dtype } = x;
  const [n, k] = weight.shape;
  const m = sizeOf(x.shape.slice(0, -1));
  const dx = needs[0] ? device.empty(x.shape, dtype) : undefined;
  if (dx) {
    multiply({
      a: { tensor: dz, ld: n },
      b: { tensor: weight, ld: k },
      c: { tensor: dx, ld: k },
      m,
      n: k,
      k: n,
      residual: arrived,
      factor,
    });
  }
  const dweight = needs[1] ? into[0] ?? device.empty(weight.shape, dtype) : undefined;
  const dbias = needs[2] ? into[1] ?? device.empty([n], dtype) : undefined;
  // The product for the weight reads what the bias gets the sums of.
  const summed = dweight && multiply({
    a: { tensor: dz, ld: n, transposed: true },
    b: { tensor: x, ld: k },
    c: { tensor: dweight, ld: k },
    m: n,
    n: k,
    k: m,
    rowSums: dbias,
  });
  if (dbias && !summed) sumTo(dz, [n], dbias);
  return [dx, dweight, dbias];
}

const linearOp = /* @__PURE__ */ defineOp<LinearAttributes>({
  name: "linear",
  savedFor: [[1], [0], [0, 1, 2], []],
  half: true,
  forward([x, weight, ...rest], { gelu, bias, residual }, save) {
    const added = {
      bias: bias ? rest[0] : undefined,
      residual: residual ? rest[rest.length - 1] : undefined,
    };
    const { y, slope } = linearForward({ name: "linear", x, weight, ...added, gelu });
    save(x);
    save(weight);
    if (slope) save(slope);
    // For gradients of gradients alone.
    if (slope && bias) save(rest[0]);
    return [y];
  },
  backward(
    { grads: [dy], saved: [x, weight, slope], needs, into, arrived },
    { gelu, bias, residual },
  ) {
    let dz = dy!;
    if (gelu) {
      dz = dy!.device.empty(dy!.shape, dy!.dtype);
      elementwise(dz, [slope, dy!], { expression: "b * a" });
    }
    const [dx, dweight, dbias] = linearBackward({
      ...{ x, weight, dz },
      needs: [needs[0], needs[1], bias && needs[2]],
      into: [into(1), bias ? into(2) : undefined],
      arrived: weight.shape[0] > 0 ? arrived(0) : undefined,
    });
    const result: (Tensor | undefined)[] = [dx, dweight];
    if (bias) result.push(dbias);
    if (residual) result.push(dy);
    return result;
  },
  reference: {
    forward(inputs, attrs) {
      const z = refLinear(inputs, attrs);
      return [attrs.gelu ? refFrom(z.shape, (i) => refGelu.value(z.data[i])) : z];
    },
    backward(inputs, attrs, [dy]) {
      const [x, weight] = inputs;
      const z = refLinear(inputs, attrs);
      const dz = attrs.gelu ? refFrom(z.shape, (i) => dy.data[i] * refGelu.slope(z.data[i])) : dy;
      const [dx, dweight, dbias] = refLinearBackward(x, weight, dz);
      const result = [dx, dweight];
      if (attrs.bias) result.push(dbias);
      if (attrs.residual) result.push(dz);
      return result;
    },
  },
});

/** Options of {@link linear}. */
export interface LinearOptions {
  /** Apply the exact GELU to the result, in the same kernel. Not together with `residual`. */
  readonly gelu?: boolean;
  /** Added to the result in the same kernel; of the result's shape. */
  readonly residual?: Tensor;
}

/**
 * `x W^T + bias`, optionally followed by GELU or a residual addition, in one kernel. Sums over no
 * inputs are 0.
 *
 * @param x [..., in]
 * @param weight [out, in], torch's layout
 * @param bias [out]
 * @returns [..., out]
 * @throws {ShapeError} if sizes do not fit, or `gelu` and `residual` are both given.
 */
export function linear(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: LinearOptions = {},
): Tensor {
  needOptions("linear", options, ["gelu", "residual"]);
  const { gelu = false, residual } = options;
  needTensors("linear", { x, weight }, { bias, residual });
  if (gelu && residual) throw new ShapeError("linear: gelu and residual exclude each other");
  const inputs = [x, weight];
  if (bias) inputs.push(bias);
  if (residual) inputs.push(residual);
  return linearOp.apply(inputs, {
    gelu,
    bias: bias !== undefined,
    residual: residual !== undefined,
  })[0];
}

/**
 * How gemm can read a possibly strided [..., rows, columns] view broadcast to `batch`, or
 * undefined.
 */
function asOperand(tensor: Tensor, batch: Shape): MatrixOperand | undefined {
  const rank = tensor.shape.length;
  const [rows, columns] = tensor.shape.slice(-2);
  const [rowStep, columnStep] = tensor.strides.slice(-2);
  const batches = collapseAxes(batch, [
    broadcastStrides(tensor.shape.slice(0, -2), tensor.strides.slice(0, rank - 2), batch),
  ]);
  if (batches.shape.length !== 1) return undefined;
  const batchStride = batches.shape[0] === 1 ? 0 : batches.strides[0][0];
  if (columnStep === 1 || columns === 1) {
    return { tensor, ld: rows === 1 ? columns : rowStep, batchStride };
  }
  if (rowStep === 1 || rows === 1) return { tensor, ld: columnStep, transposed: true, batchStride };
  return undefined;
}

function product(a: Tensor, b: Tensor, alpha = 1): Tensor {
  const [m, k] = a.shape.slice(-2);
  const n = b.shape[b.shape.length - 1];
  const batch = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  const c = a.device.empty([...batch, m, n], a.dtype);
  const operand = (t: Tensor): MatrixOperand =>
    asOperand(t, batch) ?? asOperand(materialize(t), batch) ??
      asOperand(expanded(t, batch), batch)!;
  multiply({
    a: operand(a),
    b: operand(b),
    c: { tensor: c, ld: n, batchStride: m * n },
    m,
    n,
    k,
    batch: sizeOf(batch),
    alpha,
  });
  return c;
}

/** A dense copy whose batch axes are stretched; needed when several of them broadcast unevenly. */
function expanded(tensor: Tensor, batch: Shape): Tensor {
  const shape = [...batch, ...tensor.shape.slice(-2)];
  const copy = tensor.device.empty(shape, tensor.dtype);
  elementwise(copy, [tensor], { expression: "a" });
  return copy;
}

/** The last two axes swapped, without a copy. */
function swapped(tensor: Tensor): Tensor {
  const swap = (
    list: readonly number[],
  ) => [...list.slice(0, -2), list[list.length - 1], list[list.length - 2]];
  return tensor.view(swap(tensor.shape), swap(tensor.strides));
}

const matmulOp = /* @__PURE__ */ defineOp<null>({
  name: "matmul",
  savedFor: [[1], [0]],
  strided: true,
  half: true,
  forward([a, b], _, save) {
    save(a);
    save(b);
    return [product(a, b)];
  },
  backward({ grads: [dy], saved: [a, b], needs, shapes }) {
    const fit = (grad: Tensor, shape: Shape) =>
      sameShape(grad.shape, shape) ? grad : sumTo(grad, shape);
    return [
      needs[0] ? fit(product(dy!, swapped(b)), shapes[0]) : undefined,
      needs[1] ? fit(product(swapped(a), dy!), shapes[1]) : undefined,
    ];
  },
  reference: {
    forward([a, b]) {
      const [m, k] = a.shape.slice(-2);
      const n = b.shape[b.shape.length - 1];
      const batch = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
      const x = refBroadcast(a, [...batch, m, k]);
      const y = refBroadcast(b, [...batch, k, n]);
      const c = refZeros([...batch, m, n]);
      for (let i = 0; i < sizeOf(batch); i++) {
        c.data.set(
          refProduct(
            x.subarray(i * m * k, (i + 1) * m * k),
            y.subarray(i * k * n, (i + 1) * k * n),
            m,
            n,
            k,
          ),
          i * m * n,
        );
      }
      return [c];
    },
    backward([a, b], _, [dy]) {
      const [m, k] = a.shape.slice(-2);
      const n = b.shape[b.shape.length - 1];
      const batch = dy.shape.slice(0, -2);
      const x = refBroadcast(a, [...batch, m, k]);
      const y = refBroadcast(b, [...batch, k, n]);
      const dx = new Float64Array(x.length);
      const db = new Float64Array(y.length);
      for (let i = 0; i < sizeOf(batch); i++) {
        const g = dy.data.subarray(i * m * n, (i + 1) * m * n);
        dx.set(
          refProduct(g, y.subarray(i * k * n, (i + 1) * k * n), m, k, n, { b: true }),
          i * m * k,
        );
        db.set(
          refProduct(x.subarray(i * m * k, (i + 1) * m * k), g, k, n, m, { a: true }),
          i * k * n,
        );
      }
      return [
        refUnbroadcast(dx, [...batch, m, k], a.shape),
        refUnbroadcast(db, [...batch, k, n], b.shape),
      ];
    },
  },
});

/**
 * Matrix product over the last two axes; leading axes broadcast, transposed views cost no copy. A
 * vector is a row on the left and a column on the right, and the result lacks that axis, as in
 * NumPy: two vectors give their scalar product, of shape [].
 *
 * @param a [..., m, k] or [k]
 * @param b [..., k, n] or [k]
 * @returns [..., m, n]
 * @throws {ShapeError} if sizes do not fit.
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  needTensors("matmul", { a, b });
  const [row, column] = [a, b].map(({ shape }) => shape.length === 1);
  const [width] = a.shape.slice(-1);
  const [height] = b.shape.slice(column ? -1 : -2);
  if (a.shape.length === 0 || b.shape.length === 0 || width !== height) {
    throw new ShapeError(
      `matmul: ${show(a.shape)} against ${
        show(b.shape)
      }: [..., m, k] and [..., k, n], or vectors ` +
        "[k], are needed",
    );
  }
  if (!row && !column) return matmulOp.apply([a, b], null)[0];
  return composite(() => {
    const left = row ? reshape(a, [1, a.size]) : a;
    const right = column ? reshape(b, [b.size, 1]) : b;
    const [y] = matmulOp.apply([left, right], null);
    const shape = [...y.shape];
    if (column) shape.pop();
    if (row) shape.splice(column ? -1 : -2, 1);
    return reshape(y, shape);
  });
}
