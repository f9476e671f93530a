/** Inputs that the ops of `engine/ops/conv.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { type Shape, show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { ComposedFunctions, Sample, Samples } from "../support/samples.ts";

function same(stride: number, padding: number, dilation: number) {
  return {
    stride: [stride, stride],
    padding: [[padding, padding], [padding, padding]],
    dilation: [dilation, dilation],
    groups: 1,
  };
}

export const samples: Samples = {
  conv2d() {
    const cases: [string, Shape, Shape, boolean, object][] = [
      ["one", [1, 1, 1, 1], [1, 1, 1, 1], true, same(1, 0, 1)],
      ["3 x 3", [2, 3, 7, 5], [4, 3, 3, 3], true, same(1, 0, 1)],
      ["3 x 3, padded", [1, 2, 5, 8], [3, 2, 3, 3], false, same(1, 1, 1)],
      ["stride 2", [2, 3, 9, 7], [5, 3, 3, 3], true, same(2, 1, 1)],
      ["patches", [2, 1, 8, 12], [8, 1, 4, 4], true, same(4, 0, 1)],
      ["dilated", [1, 2, 9, 9], [2, 2, 3, 3], false, same(1, 2, 2)],
      ["stride beyond the kernel", [1, 2, 7, 7], [3, 2, 2, 2], true, same(3, 0, 1)],
      ["larger", [2, 3, 33, 31], [4, 3, 3, 3], true, same(1, 1, 1)],
      ["1 x 5", [3, 4, 1, 31], [6, 4, 1, 5], true, {
        stride: [1, 2],
        padding: [[0, 0], [2, 2]],
        dilation: [1, 1],
        groups: 1,
      }],
      ["1 x 5, many outputs", [2, 8, 1, 23], [32, 4, 1, 5], true, {
        stride: [1, 1],
        padding: [[0, 0], [2, 1]],
        dilation: [1, 1],
        groups: 2,
      }],
      ["1 x 4 by 2, many outputs", [3, 6, 1, 17], [20, 6, 1, 4], false, {
        stride: [1, 2],
        padding: [[0, 0], [0, 0]],
        dilation: [1, 1],
        groups: 1,
      }],
      ["uneven", [1, 1, 6, 11], [2, 1, 2, 3], true, {
        stride: [2, 1],
        padding: [[1, 1], [0, 0]],
        dilation: [1, 3],
        groups: 1,
      }],
      ["causal", [2, 3, 1, 13], [5, 3, 1, 4], true, {
        stride: [1, 1],
        padding: [[0, 0], [6, 0]],
        dilation: [1, 2],
        groups: 1,
      }],
      ["every side its own padding", [1, 2, 5, 6], [3, 2, 3, 3], true, {
        stride: [2, 1],
        padding: [[0, 1], [3, 2]],
        dilation: [1, 1],
        groups: 1,
      }],
      ["3 groups", [2, 6, 7, 5], [9, 2, 3, 3], true, { ...same(1, 1, 1), groups: 3 }],
      ["depthwise", [2, 5, 9, 7], [5, 1, 3, 3], true, { ...same(2, 1, 1), groups: 5 }],
      ["depthwise, 2 kernels a channel", [1, 4, 6, 8], [8, 1, 2, 3], false, {
        ...same(1, 0, 2),
        groups: 4,
      }],
    ];
    return cases.map(([label, x, weight, bias, attrs], seed): Sample => ({
      label: `${label}: ${show(x)} by ${show(weight)}`,
      inputs: [
        refRandom(x, seed),
        refRandom(weight, seed + 20),
        ...(bias ? [refRandom([weight[0]], seed + 40)] : []) as RefArray[],
      ],
      attrs,
    }));
  },
  conv3d: () =>
    ([
      [[1, 1, 2, 2, 2], [1, 1, 1, 1, 1], 1, 0, 1],
      [[1, 2, 3, 4, 3], [2, 2, 2, 2, 2], 1, 1, 1],
      [[2, 4, 5, 3, 7], [6, 2, 3, 2, 3], 2, 1, 2],
    ] as [Shape, Shape, number, number, number][]).map(
      ([x, weight, stride, padding, groups], seed): Sample => ({
        label: `${show(x)} by ${show(weight)}`,
        inputs: [
          refRandom(x, seed),
          refRandom(weight, seed + 20),
          refRandom([weight[0]], seed + 40),
        ],
        attrs: {
          stride: [stride, 1, stride],
          padding: [[padding, padding], [0, padding], [padding, padding]],
          dilation: [1, 1, 1],
          groups,
        },
      }),
    ),
  convTranspose2d: () =>
    ([
      ["one", [1, 1, 1, 1], [1, 1, 1, 1], same(1, 0, 1), [0, 0]],
      ["stride 2, padded", [2, 3, 4, 3], [3, 2, 3, 2], same(2, 1, 1), [1, 0]],
      ["dilated", [1, 2, 3, 5], [2, 3, 2, 3], same(1, 1, 3), [2, 1]],
      ["2 groups", [2, 4, 5, 3], [4, 3, 3, 3], { ...same(3, 0, 1), groups: 2 }, [0, 2]],
      ["a row", [2, 3, 1, 9], [3, 2, 1, 4], {
        stride: [1, 2],
        padding: [[0, 0], [2, 1]],
        dilation: [1, 1],
        groups: 1,
      }, [0, 1]],
    ] as [string, Shape, Shape, ReturnType<typeof same>, number[]][]).map(
      ([label, x, weight, attrs, outputPadding], seed): Sample => ({
        label: `${label}: ${show(x)} by ${show(weight)}`,
        inputs: [
          refRandom(x, seed),
          refRandom(weight, seed + 20),
          ...(seed > 0 ? [refRandom([weight[1] * attrs.groups], seed + 40)] : []) as RefArray[],
        ],
        attrs: { ...attrs, outputPadding },
      }),
    ),
};

export const composed: ComposedFunctions = {
  conv1d: { of: ["conv2d"] },
  convTranspose1d: { of: ["convTranspose2d"] },
};
