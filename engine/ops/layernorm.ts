/**
 * Layer normalisation, of a tensor or of a sum of two.
 *
 * @module
 */
import { needNumber, needTensors } from "../arguments.ts";
import source from "../../kernels/layernorm.wgsl" with { type: "text" };
import paramsSource from "../../kernels/layernorm_params.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom, refZeros } from "../reference.ts";
import { sameShape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { fill } from "../launch/copy.ts";
import { rowChunks, rowsOf } from "../launch/elementwise.ts";
import { reduceInto } from "./reduce.ts";
import { longNorm, longNormGradients } from "./long_rows.ts";
import {
  hasLongRows,
  repeats,
  rowLayout,
  rowRounds,
  rowsAndWidth,
  runRows,
  writable,
} from "../launch/rows.ts";

const kernel = /* @__PURE__ */ defineKernel("layernorm", source, {
  rounds: (launch) => rowRounds(launch, launch.constants.BACKWARD ? 2 : 3),
});
const paramsKernel = /* @__PURE__ */ defineKernel("layernorm_params", paramsSource, {
  rounds: ({ params: { block } }) => Math.ceil(block / 4) + 5,
});
const WORKGROUP = 64;
/** Blocks of rows that keep an adapter busy. */
const BLOCKS = { software: 64, gpu: 4096 };
/**
 * Rows per block: with fewer, writing partial sums costs more than reading twice; f32 sums of more
 * lose digits.
 */
const BLOCK_ROWS = { least: 4, most: 128 };

interface NormAttrs {
  readonly eps: number;
}

/** Operands of {@link normForward}. */
export interface NormOperands {
  /** `[..., D]` */
  readonly x: Tensor;
  /** Added to x first. */
  readonly residual?: Tensor;
  /** `[D]` */
  readonly gamma: Tensor;
  /** `[D]`; without it rows are not centred: root-mean-square normalisation. */
  readonly beta?: Tensor;
  /** Added to the variance. */
  readonly eps: number;
}

/**
 * Normalised rows, the sum with the residual where there is one, and statistics for {@link
 * normBackward}.
 */
export function normForward(
  { x, residual, gamma, beta, eps }: NormOperands,
): { y: Tensor; total?: Tensor; stats: Tensor } {
  const { device } = x;
  const { rows, width } = rowsAndWidth(x.shape);
  const y = device.empty(x.shape, x.dtype);
  const stats = device.empty([rows, 4]);
  const total = residual && device.empty(x.shape, x.dtype);
  if (x.size === 0) return { y, total, stats };
  if (hasLongRows(x)) {
    longNorm({ x, residual, gamma, beta, eps }, { y, total, stats });
    return { y, total, stats };
  }
  const operands = [
    { tensor: x, perRow: width },
    { tensor: gamma, perRow: 0 },
    { tensor: y, perRow: width },
    { tensor: stats, perRow: 4 },
  ];
  if (beta) operands.push({ tensor: beta, perRow: 0 });
  if (residual) {
    operands.push({ tensor: residual, perRow: width }, { tensor: total!, perRow: width });
  }
  const constants = {
    CENTRE: beta !== undefined,
    RESIDUAL: residual !== undefined,
    BACKWARD: false,
    DX: false,
    PARAMS: false,
  };
  runRows(kernel, rows, width, operands, constants, { count: width, eps }, repeats(device, rows));
  return { y, total, stats };
}

/** Operands and results of {@link normBackward}. */
export interface NormGradients {
  /** What was normalised: x, or the sum. */
  readonly x: Tensor;
  /** `[D]` */
  readonly gamma: Tensor;
  /** Of {@link normForward}. */
  readonly stats: Tensor;
  /** Gradient of the normalised rows. */
  readonly dy: Tensor;
  /** Gradient of the sum or another one of x, which is added to dx. */
  readonly dtotal?: Tensor;
  /** Receives the gradient of x, if one is needed. */
  readonly dx?: Tensor;
  /** Receive the gradients of gamma and, if rows were centred, of beta. */
  readonly parameters: readonly Tensor[];
  /** Whether rows were centred. */
  readonly centre: boolean;
}

/**
 * Gradients of {@link normForward}: in one pass over the rows where registers and the number of
 * rows allow.
 */
export function normBackward(
  { x, gamma, stats, dy, dtotal, dx, parameters, centre }: NormGradients,
): void {
  const { device, dtype, itemSize } = x;
  const { rows, width } = rowsAndWidth(x.shape);
  if (x.size === 0) {
    parameters.forEach((sum) => fill(sum, 0));
    return;
  }
  const blocks = device.info.software ? BLOCKS.software : BLOCKS.gpu;
  const share = Math.ceil(rows / blocks);
  const layout = rowLayout(device, width, dtype);
  const fused = parameters.length > 0 && layout.keep &&
    (device.info.software || share >= BLOCK_ROWS.least);
  const constants = {
    CENTRE: centre,
    RESIDUAL: dtotal !== undefined,
    BACKWARD: true,
    DX: dx !== undefined,
    PARAMS: fused,
  };
  const params = { count: width, eps: 0 };
  if (layout.long) {
    longNormGradients({ x, gamma, stats, dy, dtotal, dx, parameters, centre });
    return;
  }
  if (!fused && dx) {
    const operands = [
      { tensor: x, perRow: width },
      { tensor: gamma, perRow: 0 },
      { tensor: dy, perRow: width },
      { tensor: stats, perRow: 4 },
      ...[dx, ...(dtotal ? [dtotal] : [])].map((tensor) => ({ tensor, perRow: width })),
    ];
    runRows(kernel, rows, width, operands, constants, params, repeats(device, rows));
  }
  if (parameters.length === 0) return;

  const block = Math.min(BLOCK_ROWS.most, Math.max(BLOCK_ROWS.least, share));
  const chunks = rowChunks(device, rows, [width, 4], itemSize);
  const sums = parameters.map((out) =>
    chunks.length === 1 ? out : device.empty([chunks.length, width])
  );
  chunks.forEach(([first, count], i) => {
    const rowsIn = (tensor: Tensor) => rowsOf(tensor, first, count, width);
    const blocks = Math.ceil(count / block);
    const partials = parameters.map(() => device.empty([blocks, width]));
    const statistics = rowsOf(stats, first, count, 4);
    if (fused) {
      const written = [...(dx ? [dx] : []), ...(dx && dtotal ? [dtotal] : [])];
      device.run(
        kernel,
        { ...layout.constants, ...constants },
        [rowsIn(x), gamma, rowsIn(dy), statistics, ...written.map(rowsIn), ...partials],
        { ...params, rows: count, repeat: block },
        Math.ceil(blocks / layout.teams),
      );
    } else {
      const vector = width % 4 === 0 ? 4 : 1;
      const units = width / vector;
      device.run(
        paramsKernel,
        { WG: WORKGROUP, W: vector, E: dtype, UNITS: units, CENTRE: centre },
        [rowsIn(x), rowsIn(dy), statistics, ...partials],
        { count: blocks * units, rows: count, block },
        Math.ceil(blocks * units / WORKGROUP),
      );
    }
    partials.forEach((partial, which) => {
      const sum = sums[which];
      const target = sum.view([width], [1], sum.offset + i * width);
      reduceInto(target, partial, { outer: 1, reduce: blocks, inner: width });
    });
  });
  if (chunks.length === 1) return;
  parameters.forEach((out, which) =>
    reduceInto(out, sums[which], { outer: 1, reduce: chunks.length, inner: width })
  );
}

interface RefNorm {
  readonly xhat: Float64Array;
  readonly rstd: Float64Array;
}

function refNormalize(x: RefArray, eps: number): RefNorm {
  const { rows, width } = rowsAndWidth(x.shape);
  const xhat = new Float64Array(x.data.length);
  const rstd = new Float64Array(rows);
  for (let r = 0; r < rows; r++) {
    const row = x.data.subarray(r * width, (r + 1) * width);
    const mean = row.reduce((a, b) => a + b, 0) / width;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / width;
    rstd[r] = 1 / Math.sqrt(variance + eps);
    row.forEach((value, k) => xhat[r * width + k] = (value - mean) * rstd[r]);
  }
  return { xhat, rstd };
}

/** Gradients of the op's inputs for one of its output, in float64. */
function refNormBackward(
  x: RefArray,
  gamma: RefArray,
  eps: number,
  dy: RefArray,
): [RefArray, RefArray, RefArray] {
  const { xhat, rstd } = refNormalize(x, eps);
  const { rows, width } = rowsAndWidth(x.shape);
  const [dx, dgamma, dbeta] = [refZeros(x.shape), refZeros([width]), refZeros([width])];
  for (let r = 0; r < rows; r++) {
    let meanG = 0;
    let meanGx = 0;
    for (let k = 0; k < width; k++) {
      const i = r * width + k;
      const g = dy.data[i] * gamma.data[k];
      meanG += g / width;
      meanGx += g * xhat[i] / width;
      dgamma.data[k] += dy.data[i] * xhat[i];
      dbeta.data[k] += dy.data[i];
    }
    for (let k = 0; k < width; k++) {
      const i = r * width + k;
      dx.data[i] = rstd[r] * (dy.data[i] * gamma.data[k] - meanG - xhat[i] * meanGx);
    }
  }
  return [dx, dgamma, dbeta];
}

function refNormForward(x: RefArray, gamma: RefArray, beta: RefArray, eps: number): RefArray {
  const { xhat } = refNormalize(x, eps);
  const width = gamma.data.length;
  return refFrom(x.shape, (i) => xhat[i] * gamma.data[i % width] + beta.data[i % width]);
}

/** Where the gradients of gamma and beta go; nothing if neither is needed. */
function parameterGradients(
  gamma: Tensor,
  needed: boolean,
  slots: (Tensor | undefined)[],
): Tensor[] {
  return needed ? slots.map((slot) => slot ?? gamma.device.empty(gamma.shape, gamma.dtype)) : [];
}

const layerNormOp = /* @__PURE__ */ defineOp<NormAttrs>({
  name: "layerNorm",
  half: true,
  forward([x, gamma, beta], { eps }, save) {
    const { y, stats } = normForward({ x, gamma, beta, eps });
    save(x);
    save(gamma);
    save(stats);
    return [y];
  },
  backward({ grads: [dy], saved: [x, gamma, stats], needs, into, arrived }) {
    const dx = needs[0] ? writable(into(0), x) : undefined;
    const parameters = parameterGradients(gamma, needs[1] || needs[2], [into(1), into(2)]);
    // Of a pre-norm block: the gradient of the residual connection around it.
    const dtotal = arrived(0);
    normBackward({ x, gamma, stats, dy: dy!, dtotal, dx, parameters, centre: true });
    return [dx, ...parameters];
  },
  reference: {
    forward: ([x, gamma, beta], { eps }) => [refNormForward(x, gamma, beta, eps)],
    backward: ([x, gamma], { eps }, [dy]) => refNormBackward(x, gamma, eps, dy),
  },
});

const refSum = (a: RefArray, b: RefArray): RefArray =>
  refFrom(a.shape, (i) => a.data[i] + b.data[i]);

const residualOp = /* @__PURE__ */ defineOp<NormAttrs>({
  name: "residualLayerNorm",
  half: true,
  forward([x, residual, gamma, beta], { eps }, save) {
    const { y, total, stats } = normForward({ x, residual, gamma, beta, eps });
    save(total!);
    save(gamma);
    save(stats);
    return [y, total!];
  },
  backward({ grads: [dy, dtotal], saved: [total, gamma, stats], needs, into }) {
    // Without dy nothing went through the normalisation.
    if (!dy) return [dtotal, dtotal];
    const dx = needs[0] || needs[1] ? writable(into(needs[0] ? 0 : 1), total) : undefined;
    const parameters = parameterGradients(gamma, needs[2] || needs[3], [into(2), into(3)]);
    normBackward({ x: total, gamma, stats, dy, dtotal, dx, parameters, centre: true });
    return [dx, dx, ...parameters];
  },
  reference: {
    forward([x, residual, gamma, beta], { eps }) {
      const total = refSum(x, residual);
      return [refNormForward(total, gamma, beta, eps), total];
    },
    backward([x, residual, gamma], { eps }, [dy, dtotal]) {
      const [dx, dgamma, dbeta] = refNormBackward(refSum(x, residual), gamma, eps, dy);
      const both = refSum(dx, dtotal);
      return [both, both, dgamma, dbeta];
    },
  },
});

function checkParameters(
  name: string,
  x: Tensor,
  parameters: Readonly<Record<string, Tensor>>,
  eps: number,
): void {
  needTensors(name, { x, ...parameters });
  needNumber(name, "eps", eps, 0);
  const width = x.shape[x.shape.length - 1];
  for (const [parameter, { shape }] of Object.entries(parameters)) {
    if (shape.length !== 1 || shape[0] !== width) {
      throw new ShapeError(
        `${name}: ${parameter} is ${show(shape)}, x is ${
          show(x.shape)
        }; ${parameter} must be [${width}]`,
      );
    }
  }
}

/**
 * Layer normalisation over the last axis with biased variance: `(x - mean) / sqrt(var + eps) *
 * gamma + beta`.
 *
 * @param x `[..., D]`
 * @param gamma `[D]`
 * @param beta `[D]`
 * @returns `[..., D]`
 * @throws {ShapeError} if gamma or beta are not of shape `[D]`.
 */
export function layerNorm(x: Tensor, gamma: Tensor, beta: Tensor, eps = 1e-6): Tensor {
  checkParameters("layerNorm", x, { gamma, beta }, eps);
  return layerNormOp.apply([x, gamma, beta], { eps })[0];
}

/**
 * {@link layerNorm} of `x + residual` in one pass over memory; the sum is a result as well, for the
 * next residual connection. Gradients flow through both results.
 *
 * @param x `[..., D]`
 * @param residual of the shape of x
 * @param gamma `[D]`
 * @param beta `[D]`
 * @returns `y`, the normalised rows, and `sum`, both `[..., D]`
 * @throws {ShapeError} if the shapes do not fit.
 */
export function residualLayerNorm(
  x: Tensor,
  residual: Tensor,
  gamma: Tensor,
  beta: Tensor,
  eps = 1e-6,
): { y: Tensor; sum: Tensor } {
  needTensors("residualLayerNorm", { x, residual });
  if (!sameShape(x.shape, residual.shape)) {
    throw new ShapeError(
      `residualLayerNorm: x is ${show(x.shape)}, the residual ${
        show(residual.shape)
      }; they must agree`,
    );
  }
  checkParameters("residualLayerNorm", x, { gamma, beta }, eps);
  const [y, sum] = residualOp.apply([x, residual, gamma, beta], { eps });
  return { y, sum };
}
