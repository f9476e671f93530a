/** Inputs that the ops of `engine/ops/loss.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { refSoftmaxRow } from "../../engine/ops/softmax.ts";
import { refFrom, refZeros } from "../../engine/reference.ts";
import { type Shape, show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { ComposedFunctions, Sample, Samples } from "../support/samples.ts";
import { binary } from "./elementwise.ts";

/** Rows of all widths. */
export const SHAPES: readonly Shape[] = [
  [1, 1],
  [3, 7],
  [2, 5, 8],
  [9, 32],
  [4, 768],
  [3, 197],
  [2, 2048],
  [2, 1030],
  [300, 64],
  // Composed of reductions.
  [2, 65543],
];

/** Row lengths on either side of eps: 1e-20 is flat, 1e-10 and 1e10 are not. */
const SCALES = [0, 1e-20, 1e-10, 1, 1e10];

/** Rows of all {@link SCALES}. */
export const scaledRows = (seed: number): RefArray =>
  refFrom(
    [5, 8],
    ((r) => (i) => Math.fround(r[i] * SCALES[Math.floor(i / 8)]))(refRandom([5, 8], seed).data),
  );

/** Logits of as many classes. */
const CLASSES: readonly Shape[] = [[1, 1], [3, 7], [2, 5, 8], [4, 768], [2, 1030], [300, 64], [
  2,
  65543,
]];

/** Probabilities of rows, rounded to f32. */
function distributions(shape: Shape, seed: number): RefArray {
  const width = shape[shape.length - 1];
  const target = refZeros(shape);
  const logits = refRandom(shape, seed).data;
  for (let at = 0; at < logits.length; at += width) {
    const { probability } = refSoftmaxRow(logits.subarray(at, at + width), 1);
    target.data.set(probability.map(Math.fround), at);
  }
  return target;
}

/** Logarithms of probabilities, rounded to f32. */
function logarithms(shape: Shape, seed: number): RefArray {
  const { data } = distributions(shape, seed);
  return { shape, data: data.map((p) => Math.fround(Math.log(p))) };
}

/** Between 0.1 and 0.9. */
const within = (shape: Shape, seed: number): RefArray =>
  refFrom(
    shape,
    ((r) => (i) => Math.fround(0.5 + 0.4 * Math.tanh(r[i])))(refRandom(shape, seed).data),
  );

export const samples: Samples = {
  bceWithLogits: binary,
  huberLoss: () =>
    [[1], [3, 7], [5, 8]].map((shape, seed): Sample => ({
      label: show(shape),
      inputs: [refRandom(shape, seed), refRandom(shape, seed + 10)],
      attrs: { delta: 0.7, scale: seed === 2 ? 1 / 0.7 : 1 },
    })),
  klDiv: () =>
    [[1, 2], [3, 7], [5, 8]].map((shape, seed): Sample => ({
      label: show(shape),
      inputs: [logarithms(shape, seed), distributions(shape, seed + 10)],
      attrs: null,
      // The logarithm of a probability that f16 rounds is off by 2^-11 beside terms that cancel.
      halfTolerance: 2 ** -8,
    })),
  klDivOfLog: () =>
    [[1, 2], [3, 7], [5, 8]].map((shape, seed): Sample => ({
      label: show(shape),
      inputs: [logarithms(shape, seed), logarithms(shape, seed + 10)],
      attrs: null,
      // As klDiv.
      halfTolerance: 2 ** -8,
    })),
  nllLoss: () =>
    [[2, 3], [3, 7], [2, 5, 8], [9, 33]].flatMap((shape, seed) =>
      [0, 1, 2].map((kind): Sample => {
        const rows = shape.slice(0, -1);
        const classes = shape[shape.length - 1];
        return {
          label: `${show(shape)}${["", ", rows left out", ", weights and smoothing"][kind]}`,
          inputs: [
            logarithms(shape, seed),
            refFrom(rows, (i) => (i * 7919 + seed) % classes),
            ...kind > 0 ? [refFrom(rows, (i) => +(i % 3 > 0))] : [],
            ...kind > 1 ? [refFrom([classes], (i) => 0.5 + i % 4)] : [],
          ],
          integer: { 1: "u32" },
          constant: [2, 3],
          attrs: { smoothing: kind > 1 ? 0.125 : 0, partial: kind > 0, weighted: kind > 1 },
          // A sum over the row.
          tolerance: 4e-6,
          quick: seed === 1 && kind === 2,
        };
      })
    ),
  crossEntropy: () => [
    ...CLASSES.map((shape, seed): Sample => ({
      label: show(shape),
      inputs: [
        refRandom(shape, seed),
        refFrom(shape.slice(0, -1), (i) => (i * 7919 + seed) % shape[shape.length - 1]),
      ],
      integer: { 1: "u32" },
      attrs: null,
      tolerance: 4e-6,
      skipDifferences: shape[shape.length - 1] > 500,
    })),
    {
      label: "large logits",
      inputs: [
        { shape: [2, 3], data: Float64Array.of(1e4, 0, -1e4, 80, -80, 81) },
        { shape: [2], data: Float64Array.of(1, 0) },
      ],
      integer: { 1: "u32" },
      attrs: null,
      skipDifferences: true,
    },
  ],
  crossEntropyOfDistributions: () =>
    CLASSES.map((shape, seed): Sample => {
      return {
        label: show(shape),
        inputs: [refRandom(shape, seed), distributions(shape, seed + 40)],
        attrs: null,
        // A sum over the row.
        tolerance: 4e-6,
        skipDifferences: shape[shape.length - 1] > 500,
      };
    }),
  bce: () => [
    {
      label: "[3, 7] with [7]",
      inputs: [within([3, 7], 1), within([7], 2)],
      attrs: null,
      // 1 - p is rounded, and its logarithm small.
      tolerance: 4e-6,
    },
    {
      label: "ends",
      inputs: [
        { shape: [5], data: Float64Array.of(0, 1, 0, 1, 0.5) },
        { shape: [5], data: Float64Array.of(0, 1, 1, 0, 0.5) },
      ],
      // Of no use, and infinite before they are limited.
      constant: [0],
      attrs: null,
      skipDifferences: true,
    },
  ],
  cosineLoss: () => [
    ...SHAPES.map((shape, seed) => ({
      label: show(shape),
      inputs: [refRandom(shape, seed), refRandom(shape, seed + 30)],
      attrs: { eps: 1e-12 },
      tolerance: 3e-6,
      skipDifferences: shape[shape.length - 1] > 1000,
    })),
    {
      label: "lengths from 0 to 1e10",
      inputs: [scaledRows(91), refRandom([5, 8], 92)],
      attrs: { eps: 1e-12 },
      skipDifferences: true,
    },
  ],
  centredCrossEntropy: () =>
    SHAPES.map((shape, seed) => {
      const width = shape[shape.length - 1];
      return {
        label: show(shape),
        inputs: [
          refRandom(shape, seed, 0.5),
          refRandom(shape, seed + 30, 0.5),
          refRandom([width], seed + 60, 0.1),
          { shape: [1], data: Float64Array.of(Math.fround(0.04 + seed * 0.01)) },
        ],
        constant: [1, 2, 3],
        attrs: { studentTemperature: Math.fround(0.1) },
        // Subtracting the centre rounds to 6e-8 of the logits, which the temperature of 0.04 makes
        // 25 times larger.
        tolerance: 1e-5,
        skipDifferences: width > 1000,
      };
    }),
};

export const composed: ComposedFunctions = {
  mse: { of: ["sub", "square", "mean"] },
  l1Loss: { of: ["sub", "abs", "mean"] },
  smoothL1Loss: { of: ["huberLoss", "mean"] },
};
