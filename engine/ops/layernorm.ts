/**
 * Layer normalisation.
 *
 * @module
 */
import source from "../../kernels/layernorm.wgsl" with { type: "text" };
import paramsSource from "../../kernels/layernorm_params.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray, type Sample } from "../op.ts";
import { refFrom, refRandom, refZeros } from "../reference.ts";
import { type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { rowChunks, rowsOf } from "./launch.ts";
import { reduceInto } from "./reduce.ts";
import { defineRowKernel, rowsAndWidth, runRows, writable } from "./rows.ts";

const kernel = defineRowKernel("layernorm", source);
const paramsKernel = defineKernel("layernorm_params", paramsSource);
const WORKGROUP = 64;

interface NormAttrs {
  readonly eps: number;
}

/** dgamma and dbeta: partial sums over blocks of rows, then reductions over the blocks. */
function paramGradients(x: Tensor, dy: Tensor, stats: Tensor, dgamma: Tensor, dbeta: Tensor): void {
  const { device } = x;
  const { rows, width } = rowsAndWidth(x.shape);
  const vector = width % 4 === 0 ? 4 : 1;
  const units = width / vector;
  // Enough blocks to keep an adapter busy, and few enough rows that f32 sums stay exact to a few ulp.
  const block = Math.min(128, Math.max(8, Math.ceil(rows * units / 16384 / 8) * 8));
  const chunks = rowChunks(device, rows, [width, 4]);
  const sums = [dgamma, dbeta].map((out) =>
    chunks.length === 1 ? out : device.empty([chunks.length, width])
  );
  chunks.forEach(([first, count], i) => {
    const blocks = Math.ceil(count / block);
    const partials = sums.map(() => device.empty([blocks, width]));
    device.run(
      paramsKernel,
      { WG: WORKGROUP, W: vector, UNITS: units },
      [
        rowsOf(x, first, count, width),
        rowsOf(dy, first, count, width),
        rowsOf(stats, first, count, 4),
        ...partials,
      ],
      { count: blocks * units, rows: count, block },
      Math.ceil(blocks * units / WORKGROUP),
    );
    partials.forEach((partial, which) => {
      const sum = sums[which];
      const target = sum.view([width], [1], sum.offset + i * width);
      reduceInto(target, partial, { outer: 1, reduce: blocks, inner: width });
    });
  });
  if (chunks.length === 1) return;
  reduceInto(dgamma, sums[0], { outer: 1, reduce: chunks.length, inner: width });
  reduceInto(dbeta, sums[1], { outer: 1, reduce: chunks.length, inner: width });
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

function normSamples(): Sample<NormAttrs>[] {
  const attrs = { eps: 1e-6 };
  const shapes: Shape[] = [[1, 1], [3, 7], [2, 5, 8], [9, 32], [4, 768], [2, 197], [3, 1024], [
    1,
    6148,
  ], [300, 64]];
  return [
    ...shapes.map((shape, seed) => {
      const width = shape[shape.length - 1];
      return {
        label: show(shape),
        inputs: [
          refRandom(shape, seed),
          refRandom([width], seed + 20),
          refRandom([width], seed + 40),
        ],
        attrs,
        // A single element has variance 0: y = beta and dx = 0 exactly.
        tolerance: 3e-6,
        skipDifferences: width > 1000,
      };
    }),
    {
      label: "[6, 64] at an offset of 1000",
      inputs: [
        refFrom([6, 64], ((r) => (i) => Math.fround(r[i] + 1000))(refRandom([6, 64], 60).data)),
        refRandom([64], 61),
        refRandom([64], 62),
      ],
      attrs,
      tolerance: 3e-6,
    },
    {
      label: "[2, 16] constant rows",
      inputs: [refFrom([2, 16], () => 3), refRandom([16], 63), refRandom([16], 64)],
      attrs,
      skipDifferences: true,
    },
  ];
}

const layerNormOp = defineOp<NormAttrs>({
  name: "layerNorm",
  forward([x, gamma, beta], { eps }, save) {
    const { rows, width } = rowsAndWidth(x.shape);
    const y = x.device.empty(x.shape);
    const stats = x.device.empty([rows, 4]);
    runRows(
      kernel,
      rows,
      width,
      [
        { tensor: x, perRow: width },
        { tensor: gamma, perRow: 0 },
        { tensor: beta, perRow: 0 },
        { tensor: y, perRow: width },
        { tensor: stats, perRow: 4 },
      ],
      { BACKWARD: false },
      { count: width, eps },
    );
    save(x);
    save(gamma);
    save(stats);
    return [y];
  },
  backward({ grads: [dy], saved: [x, gamma, stats], needs, into }, { eps }) {
    const { rows, width } = rowsAndWidth(x.shape);
    let dx: Tensor | undefined;
    if (needs[0]) {
      dx = writable(into(0), x);
      runRows(
        kernel,
        rows,
        width,
        [
          { tensor: x, perRow: width },
          { tensor: gamma, perRow: 0 },
          { tensor: dy!, perRow: width },
          { tensor: stats, perRow: 4 },
          { tensor: dx, perRow: width },
        ],
        { BACKWARD: true },
        { count: width, eps },
      );
    }
    if (!needs[1] && !needs[2]) return [dx];
    const dgamma = into(1) ?? gamma.device.empty([width]);
    const dbeta = into(2) ?? gamma.device.empty([width]);
    paramGradients(x, dy!, stats, dgamma, dbeta);
    return [dx, dgamma, dbeta];
  },
  reference: {
    forward([x, gamma, beta], { eps }) {
      const { xhat } = refNormalize(x, eps);
      const width = gamma.data.length;
      return [refFrom(x.shape, (i) => xhat[i] * gamma.data[i % width] + beta.data[i % width])];
    },
    backward([x, gamma], { eps }, [dy]) {
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
    },
  },
  samples: normSamples,
});

/**
 * Layer normalisation over the last axis with biased variance: `(x - mean) / sqrt(var + eps) * gamma + beta`
 * (SPEC section 2.1 uses eps 1e-6).
 *
 * @param x `[..., D]`
 * @param gamma `[D]`
 * @param beta `[D]`
 * @returns `[..., D]`
 * @throws {ShapeError} if gamma or beta are not of shape `[D]`.
 */
export function layerNorm(x: Tensor, gamma: Tensor, beta: Tensor, eps = 1e-6): Tensor {
  const width = x.shape[x.shape.length - 1];
  for (const [name, parameter] of [["gamma", gamma], ["beta", beta]] as const) {
    if (parameter.shape.length !== 1 || parameter.shape[0] !== width) {
      throw new ShapeError(
        `layerNorm: ${name} is ${show(parameter.shape)}, x is ${
          show(x.shape)
        }; ${name} must be [${width}]`,
      );
    }
  }
  return layerNormOp.apply([x, gamma, beta], { eps })[0];
}
