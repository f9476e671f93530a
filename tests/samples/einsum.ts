/** What the functions of `engine/ops/einsum.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { einsum, tensordot } from "../../engine/ops/einsum.ts";
import { refFrom } from "../../engine/reference.ts";
import { denseStrides, type Shape } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, trial } from "../support/samples.ts";

/** Sums every product one by one; `plain` names every axis by a letter, the result's as well. */
export function refEinsum(plain: string, inputs: readonly RefArray[]): RefArray {
  const [terms, result] = plain.split("->");
  const operands = terms.split(",");
  const sizes = new Map<string, number>();
  operands.forEach((term, i) =>
    [...term].forEach((label, axis) =>
      sizes.set(label, Math.max(sizes.get(label) ?? 1, inputs[i].shape[axis]))
    )
  );
  const letters = [...result, ...[...sizes.keys()].filter((it) => !result.includes(it))];
  const shape = letters.map((letter) => sizes.get(letter)!);
  const steps = denseStrides(shape);
  const y = refFrom(shape.slice(0, result.length), () => 0);
  const places = refFrom(shape, () => 0).data.length;
  for (let i = 0; i < places; i++) {
    const at = new Map(letters.map((letter, k) => [letter, Math.floor(i / steps[k]) % shape[k]]));
    const product = inputs.reduce((value, { shape, data }, k) => {
      const strides = denseStrides(shape);
      const place = [...operands[k]].reduce(
        (sum, letter, axis) => sum + (shape[axis] === 1 ? 0 : at.get(letter)! * strides[axis]),
        0,
      );
      return value * data[place];
    }, 1);
    y.data[Math.floor(i * y.data.length / places)] += product;
  }
  return y;
}

/** Subscripts, the same without ellipses, and the operands' shapes. */
const CASES: [string, string, Shape[]][] = [
  ["i,i->", "i,i->", [[1], [1]]],
  ["...ij,jk->...ik", "abij,jk->abik", [[2, 1, 3, 4], [4, 5]]],
  ["ii->i", "ii->i", [[4, 4]]],
  ["iij->j", "iij->j", [[3, 3, 2]]],
  ["ji", "ji->ij", [[3, 5]]],
  ["bhqd,bhkd->bhqk", "bhqd,bhkd->bhqk", [[2, 3, 5, 4], [2, 3, 6, 4]]],
  ["ij,jk,kl", "ij,jk,kl->il", [[2, 3], [3, 4], [4, 5]]],
  ["ab,ab,c->c", "ab,ab,c->c", [[2, 3], [2, 1], [4]]],
  ["aij,ajk->ki", "aij,ajk->ki", [[2, 3, 4], [2, 4, 5]]],
];

export const composed: ComposedFunctions = {
  einsum: {
    of: ["permute", "reshape", "diagonal", "at", "mul", "sum", "matmul"],
    trial: trial<{ subscripts: string; plain: string }>(
      (inputs, { subscripts }) => einsum(subscripts, ...inputs),
      (inputs, { plain }) => refEinsum(plain, inputs),
      () =>
        CASES.map(([subscripts, plain, shapes]) => ({
          label: subscripts,
          inputs: shapes.map((shape, seed) => refRandom(shape, seed)),
          attrs: { subscripts, plain },
          // Results on the way are rounded as well, to f16 too, and what is summed of them cancels.
          tolerance: 4e-6,
          halfTolerance: 2 ** -7,
          quick: subscripts === "iij->j",
        })),
    ),
  },
  tensordot: {
    of: ["permute", "reshape", "mul", "matmul"],
    trial: trial<{ axes: number | [number[], number[]]; plain: string }>(
      ([a, b], { axes }) => tensordot(a, b, axes),
      (inputs, { plain }) => refEinsum(plain, inputs),
      () => [
        {
          label: "two axes",
          inputs: [refRandom([2, 3, 4], 1), refRandom([3, 4, 5], 2)],
          attrs: { axes: 2, plain: "abc,bcd->ad" },
        },
        {
          label: "axes by number",
          inputs: [refRandom([2, 3, 4], 1), refRandom([4, 5, 2], 2)],
          attrs: { axes: [[0, -1], [2, 0]], plain: "abc,cda->bd" },
        },
        {
          label: "none",
          inputs: [refRandom([2], 1), refRandom([3], 2)],
          attrs: { axes: 0, plain: "a,b->ab" },
          quick: true,
        },
      ],
    ),
  },
  outer: { of: ["reshape", "mul"] },
};
