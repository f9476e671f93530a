/** Products by name: what is refused, and vectors in `matmul`, `outer` and `einsum`. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { capture, einsum, matmul, outer, scope, ShapeError, tensordot } from "../../engine/mod.ts";
import { refFrom } from "../../engine/reference.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { refEinsum } from "../samples/einsum.ts";
import { openDevice } from "../support/device.ts";
import { full, test } from "../support/tier.ts";

const device = await openDevice();
const range = (shape: number[], first = 0) =>
  device.tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => first + i),
    shape,
  );

async function seen(make: () => Tensor): Promise<[readonly number[], number[]]> {
  using y = scope(make);
  return [y.shape, [...await y.data()]];
}

test("matmul takes vectors as NumPy does", async () => {
  const [v, w, m] = [range([3], 1), range([2], 1), range([2, 3])];
  assertEquals(await seen(() => matmul(v, v)), [[], [14]]);
  assertEquals(await seen(() => matmul(m, v)), [[2], [8, 26]]);
  assertEquals(await seen(() => matmul(w, m)), [[3], [6, 9, 12]]);
  assertEquals(await seen(() => matmul(range([2, 2, 3]), v)), [[2, 2], [8, 26, 44, 62]]);
  assertEquals(await seen(() => matmul(w, range([2, 2, 2]))), [[2, 2], [4, 7, 16, 19]]);
  assertEquals(await seen(() => outer(w, v)), [[2, 3], [1, 2, 3, 2, 4, 6]]);
  assertThrows(() => matmul(w, v), ShapeError, "or vectors [k]");
  assertThrows(() => matmul(device.zeros([]), v), ShapeError, "matmul: []");
  assertThrows(() => outer(m, v), ShapeError, "two vectors");
});

test("einsum says what does not fit", () => {
  const [a, b] = [device.zeros([2, 3]), device.zeros([4, 5])];
  const refused: [string, string][] = [
    ["ij,jk->ik", `"j" is 3 and 4`],
    ["ij->ij", "one term per operand"],
    ["ij,kl->ij->kl", "at most one"],
    ["ijk,kl", `the term "ijk" does not name 2 axes`],
    ["i,kl", `the term "i" does not name 2 axes`],
    ["ij,kl->m", `names "m"`],
    ["ij,kl->ii", `names "i" twice`],
    ["i.j,kl", `the term "i.j"`],
  ];
  for (const [subscripts, why] of refused) {
    assertThrows(() => einsum(subscripts, a, b), ShapeError, why, subscripts);
  }
  assertThrows(() => tensordot(a, b), ShapeError, "axes [0,1] of [2, 3] and [0,1] of [4, 5]");
  assertThrows(() => tensordot(a, b, [[0], [5]]), ShapeError, "axis 5");
});

test("einsum contracts in the order that makes the fewest products", async () => {
  const n = 48;
  // Whole numbers, whose sums of products stay below 2^24.
  const arrays = [[n, n], [n, n], [n], [n]].map((shape, k) =>
    refFrom(shape, (i) => (i * 7 + k) % 5 - 2)
  );
  const all = arrays.map(({ shape, data }) => device.tensor(Float32Array.from(data), shape));
  const [a, b, v, w] = all;
  const cases: [string, Tensor[]][] = [
    // Matrices by a vector, wherever it stands; a vector on both sides; more than are ordered.
    ["ij,jk,k->i", [a, b, v]],
    ["k,jk,ij->i", [v, b, a]],
    ["i,ij,jk,k->", [v, a, b, w]],
    ["i,ij,jk,kl,lm,m->", [v, a, b, a, b, w]],
  ];
  for (const [subscripts, operands] of cases) {
    using plan = capture(device, operands, (...given) => einsum(subscripts, ...given));
    // No product of matrices is held.
    assert(plan.memory.arena < 4 * n * n, `${subscripts} takes ${plan.memory.arena} bytes`);
    plan.replay(operands);
    if (operands.length > 4) continue;
    const { data } = refEinsum(subscripts, operands.map((it) => arrays[all.indexOf(it)]));
    assertEquals([...await plan.replay(operands).data()], [...data], subscripts);
  }
});

Deno.test("einsum of any letters sums the products one by one", async () => {
  const size = (letter: string) => 2 + letter.charCodeAt(0) % 2;
  const term = fc.array(fc.constantFrom("a", "b", "c", "d"), { maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(fc.array(term, { minLength: 1, maxLength: 3 }), fc.nat(), async (terms, n) => {
      const letters = [...new Set(terms.flat())].sort();
      const wanted = letters.filter((_, i) => n >> i & 1);
      const plain = `${terms.map((it) => it.join("")).join(",")}->${wanted.join("")}`;
      const tensors = terms.map((it, k) => range(it.map(size), k));
      const inputs = tensors.map(({ shape, size }, k) => ({
        shape,
        data: Float64Array.from({ length: size }, (_, i) => k + i),
      }));
      const expected = refEinsum(plain, inputs);
      // Whole numbers below 2^24: sums and products are exact.
      assertEquals(await seen(() => einsum(plain, ...tensors)), [
        expected.shape,
        [...expected.data],
      ], plain);
      tensors.forEach((it) => it.dispose());
    }),
    { numRuns: full ? 30 : 5, seed: 5 },
  );
});
