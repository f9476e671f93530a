/** Inputs that the ops of `engine/ops/elementwise.ts` are tried on. */
import { refFrom } from "../../engine/reference.ts";
import type { Shape } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

/** Pairs of operands with broadcasting. */
export function binary(): Sample[] {
  const pairs: [Shape, Shape][] = [
    [[1], [1]],
    [[3, 7], [7]],
    [[2, 1, 5], [3, 1]],
    [[4, 8], [4, 1]],
    [[5, 4], []],
    [[8], [3, 8]],
  ];
  return [
    {
      label: "ties and extremes",
      inputs: [
        { shape: [6], data: Float64Array.of(1, 2, -3, 90, -90, 4) },
        { shape: [6], data: Float64Array.of(1, 2, -3, 1, 0.5, -4) },
      ],
      attrs: null,
      skipDifferences: true,
    },
    ...pairs.map(([left, right], seed): Sample => ({
      label: `[${left}] with [${right}]`,
      inputs: [
        refRandom(left, seed),
        // Away from 0, so that quotients stay well conditioned.
        refFrom(
          right,
          ((r) => (i) => Math.fround(r[i] + Math.sign(r[i]) * 0.5))(
            refRandom(right, seed + 50).data,
          ),
        ),
      ],
      attrs: null,
      quick: seed === 1,
    })),
  ];
}

export const samples: Samples = {
  add: binary,
  sub: binary,
  mul: binary,
  div: binary,
  maximum: binary,
  minimum: binary,
  pow() {
    const [ties, ...others] = binary();
    const [base, exponent] = [[2, 0.5, 3, 1.25, 0.75, 1], [0.5, -3, 7, -60, 20.5, 4]];
    return [
      // Bases above 0, where gradients to exponents are numbers.
      ...others.map(({ inputs: [a, b], ...rest }) => ({
        ...rest,
        inputs: [refFrom(a.shape, (i) => Math.fround(Math.abs(a.data[i]) + 0.25)), b],
      })),
      {
        ...ties,
        label: "large and small",
        inputs: [base, exponent].map((it) => ({ shape: [6], data: Float64Array.from(it) })),
      },
      {
        label: "negative bases and zeros",
        inputs: [
          { shape: [6], data: Float64Array.of(-2, -0.5, -3, 0, 0, -1) },
          { shape: [6], data: Float64Array.of(3, -2, 0, 2, 0, 5) },
        ],
        constant: [1],
        attrs: null,
        quick: true,
        skipDifferences: true,
      },
    ];
  },
};
