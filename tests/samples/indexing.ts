/** Inputs that the ops of `engine/ops/indexing.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { refFrom } from "../../engine/reference.ts";
import { type Shape, show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { ComposedFunctions, Sample, Samples } from "../support/samples.ts";

/** Pseudo-random indices below `most`. */
const refIds = (shape: Shape, most: number, seed: number): RefArray =>
  refFrom(shape, (i) => ((i + seed) * 7919 % 104729 + i * i) % most);

/** A sample of integers, read by index. */
const integers = (label: string, shape: Shape, ids: Shape, attrs: unknown): Sample => ({
  label,
  inputs: [refFrom(shape, (i) => 2 ** 31 + i), refIds(ids, shape[shape.length - 1], 3)],
  integer: { 0: "u32", 1: "u32" },
  attrs,
});

export const samples: Samples = {
  embedding: () =>
    [
      { shape: [1, 1], ids: [1] },
      { shape: [5, 7], ids: [3] },
      { shape: [11, 8], ids: [2, 13] },
      { shape: [3, 4], ids: [130] },
      { shape: [300, 12], ids: [2, 3, 5] },
      { shape: [17], ids: [4, 6] },
      { shape: [4, 2, 3], ids: [9] },
      { shape: [7, 1], ids: [8195] },
    ].map(({ shape, ids }, seed): Sample => ({
      label: `${show(ids)} of ${show(shape)}`,
      inputs: [refRandom(shape, seed), refIds(ids, shape[0], seed)],
      integer: { 1: "u32" as const },
      attrs: { name: "embedding" },
      // Sums of up to 1200 gradients.
      tolerance: seed === 7 ? 1e-5 : undefined,
    })).concat([integers("4 of u32 [5, 3]", [5, 3], [4], { name: "embedding" })]),
  gather: () =>
    ([[[1], 1], [[3, 7], 4], [[2, 3, 8], 11], [[5, 130], 1], [[40, 65], 3], [[2, 8], 8256]] as [
      Shape,
      number,
    ][])
      .map(([shape, picks], seed): Sample => ({
        label: `${picks} of ${show(shape)}`,
        inputs: [
          refRandom(shape, seed),
          refIds([...shape.slice(0, -1), picks], shape[shape.length - 1], seed),
        ],
        integer: { 1: "u32" as const },
        attrs: null,
      })).concat([integers("[2, 5] of u32 [2, 3]", [2, 3], [2, 5], null)]),
  scatterAdd: () =>
    ([[[1], 1], [[3, 7], 5], [[13, 8], 4], [[130, 4], 3], [[6, 2, 3], 300]] as [Shape, number][])
      .map(([shape, rows], seed) => ({
        label: `${show(shape)} to ${rows} rows`,
        inputs: [refRandom(shape, seed), refIds([shape[0]], rows, seed)],
        integer: { 1: "u32" as const },
        attrs: { rows },
      })),
  oneHot: () =>
    ([[[1], 1], [[5], 3], [[2, 7], 11], [[67], 40], [[], 4]] as [Shape, number][]).map(
      ([shape, classes], seed) => ({
        label: `${show(shape)} of ${classes}`,
        inputs: [refIds(shape, classes, seed)],
        integer: { 0: "u32" as const },
        attrs: { classes },
      }),
    ),
};

export const composed: ComposedFunctions = {
  indexSelect: { of: ["embedding"] },
  take: { of: ["embedding"] },
  takeAlong: { of: ["gather"] },
};
