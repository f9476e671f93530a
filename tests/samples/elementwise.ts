/** Inputs that the ops of `engine/ops/elementwise.ts` are tried on. */
import { refFrom } from "../../engine/reference.ts";
import type { Shape } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

/**
 * Pairs of operands with broadcasting.
 *
 * @param quick whether the quick tier takes one; rows of `engine/ops/binary_table.ts` all stand in
 * one kernel of binary_test.ts
 */
export function binary(quick = true): Sample[] {
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
      quick: false,
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
      quick: quick && seed === 1,
    })),
  ];
}

/** Whole numbers, which no op takes beyond their range. */
export function whole(integer: "u32" | "i32"): Sample {
  const from = integer === "u32" ? 5 : -7;
  return {
    label: integer,
    inputs: [refFrom([5, 4], (i) => from + (i * 7) % 13), refFrom([4], (i) => i + 1)],
    integer: { 0: integer, 1: integer },
    attrs: null,
    quick: false,
  };
}

const arithmetic = () => [...binary(false), whole("i32"), whole("u32")];
/** Quotients by broadcast divisors jump, where finite differences are none. */
const rounding = () => [
  ...binary(false).slice(1).map((it) => ({ ...it, skipDifferences: true })),
  whole("i32"),
  whole("u32"),
];

export const samples: Samples = {
  add: arithmetic,
  sub: arithmetic,
  mul: () => [...binary(), whole("u32")],
  div: () => binary(false),
  maximum: arithmetic,
  minimum: arithmetic,
  idiv: rounding,
  mod: rounding,
  atan2: () => binary(false),
  hypot: () => binary(false).slice(0, 3),
  logaddexp: () => binary(false),
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
