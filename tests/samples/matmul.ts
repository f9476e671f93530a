/** Inputs that the ops of `engine/ops/matmul.ts` are tried on. */
import type { Shape } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

export const samples: Samples = {
  linear() {
    const plain = { gelu: false, bias: true, residual: false };
    const cases: [Shape, number, typeof plain][] = [
      [[1, 1], 1, plain],
      [[5, 7], 3, plain],
      [[2, 9, 12], 20, { ...plain, bias: false }],
      [[29, 32], 36, plain],
      [[70, 68], 72, { ...plain, residual: true }],
      [[3, 13, 8], 24, { ...plain, gelu: true }],
      [[17, 6], 5, { ...plain, gelu: true }],
      [[130, 5], 67, { ...plain, residual: true }],
    ];
    return cases.map(([shape, out, attrs], seed): Sample => {
      const k = shape[shape.length - 1];
      const inputs = [refRandom(shape, seed), refRandom([out, k], seed + 100, 1 / Math.sqrt(k))];
      if (attrs.bias) inputs.push(refRandom([out], seed + 200));
      if (attrs.residual) inputs.push(refRandom([...shape.slice(0, -1), out], seed + 300));
      return { label: `[${shape}] to ${out} ${JSON.stringify(attrs)}`, inputs, attrs };
    });
  },
  matmul() {
    const pairs: [Shape, Shape][] = [
      [[1, 1], [1, 1]],
      [[3, 5], [5, 7]],
      [[4, 8], [8, 12]],
      [[2, 13, 8], [2, 8, 11]],
      [[2, 1, 3, 4], [5, 4, 6]],
      [[3, 4, 20], [20, 8]],
      [[65, 36], [36, 72]],
    ];
    return pairs.map(([a, b], seed) => ({
      label: `[${a}] by [${b}]`,
      inputs: [refRandom(a, seed), refRandom(b, seed + 70)],
      attrs: null,
    }));
  },
};
