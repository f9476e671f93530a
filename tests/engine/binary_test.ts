/**
 * Arithmetic of two tensors: every row of `engine/ops/binary_table.ts` on pairs of ordinary and
 * special values against float64, all rows in one kernel that is made from their WGSL, so that the
 * quick tier compiles a few kernels for them; ops_test.ts takes each op through the tape in the
 * full tier. And how operands of different types meet, and what integers do at their ends.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import {
  add,
  all,
  any,
  backward,
  bitwiseAnd,
  bitwiseNot,
  bitwiseOr,
  bitwiseXor,
  div,
  type DType,
  equal,
  type HostArray,
  idiv,
  isnan,
  leftShift,
  less,
  logicalAnd,
  logicalNot,
  logicalOr,
  logicalXor,
  maximum,
  minimum,
  mod,
  mul,
  rightShift,
  scope,
  sub,
  sum,
  type Tensor,
  where,
} from "../../engine/mod.ts";
import { BINARY, type BinaryRow } from "../../engine/ops/binary_table.ts";
import { openDevice } from "../support/device.ts";
import { evaluate } from "../support/pointwise.ts";
import { refRandom } from "../support/random.ts";

const device = await openDevice();

type Name = keyof typeof BINARY;
const ROWS = Object.entries(BINARY) as [Name, BinaryRow][];

const MOST = 3.4028234663852886e38;
const VALUES = [
  ...[0, -0, 1, -1, 2, -3, 0.5, 1.5, 7, -7, 10, 0.1, -0.3, 1e-3, 1e5, 123456.7, 2 ** 24, 1e10],
  ...[1e20, -1e30, 1e-20, MOST, -MOST, 2 ** -126, 2 ** -149, 3 * 2 ** -149, -(2 ** -130), 90],
  ...[Infinity, -Infinity, NaN, Math.PI],
].map(Math.fround);
const PAIRS = VALUES.flatMap((a) => VALUES.map((b) => [a, b])).concat(
  [...refRandom([2048], 1, 10).data].map((a, i) => [a, refRandom([2048], 2, 2).data[i]]),
);

/** Results of expressions over all pairs. */
const overPairs = (expressions: readonly string[]): Promise<Float32Array[]> =>
  evaluate(
    device,
    expressions.map((value) => ({ value })),
    Float32Array.from(PAIRS, ([a]) => a),
    Float32Array.from(PAIRS, ([, b]) => b),
  );

/** Largest relative error: a few ulp; what has no place here is exact. */
const RELATIVE: Partial<Record<Name, number>> = {
  ...{ add: 1e-7, sub: 1e-7, mul: 1e-7, div: 1e-7, atan2: 2e-7, pow: 1e-6, mod: 1e-7, idiv: 1e-7 },
};

Deno.test("functions of two numbers hold their errors for all pairs", async () => {
  const slack = device.info.software ? 1 : 3;
  const results = await overPairs(ROWS.map(([, { wgsl }]) => wgsl));
  const faults: string[] = [];
  ROWS.forEach(([name, { f }], k) =>
    PAIRS.forEach(([a, b], i) => {
      const [actual, wanted] = [results[k][i], f(a, b)];
      const rounded = Math.fround(wanted);
      // A sum of logarithms is right to the rounding of the larger operand.
      const scale = name === "logaddexp" ? Math.max(Math.abs(a), Math.abs(b), 1) : Math.abs(wanted);
      const error = (RELATIVE[name] ?? 2e-7) * slack * scale;
      const near = Number.isFinite(rounded) && Math.abs(actual - wanted) <= error + 1.2e-38;
      if (near || rounded === actual || Object.is(actual, rounded)) return;
      faults.push(`${name}(${a}, ${b}) = ${actual}, not ${wanted}`);
    })
  );
  assertEquals(faults.slice(0, 40), []);
});

Deno.test("their gradients are right for all pairs", async () => {
  const results = await overPairs(ROWS.flatMap(([, { gradients }]) => gradients));
  const faults: string[] = [];
  ROWS.forEach(([name, { f, df }], k) =>
    PAIRS.forEach(([a, b], i) => {
      if (!Number.isFinite(Math.fround(f(a, b)))) return;
      // a^(b - 1) has no digits of b beside large and tiny ones.
      const even = Math.abs(a) > 1e-30 && Math.abs(a) < 1e30 && Math.abs(b) < 100;
      if (name === "pow" && !(even && Math.abs(b) > 1e-3)) return;
      df(a, b).forEach((wanted, side) => {
        const actual = results[2 * k + side][i];
        const rounded = Math.fround(wanted);
        const near = Math.abs(actual - wanted) <= 4e-6 * Math.abs(wanted) + 1e-37;
        if (near || rounded === actual || Object.is(actual, rounded)) return;
        faults.push(`d${side} ${name}(${a}, ${b}) = ${actual}, not ${wanted}`);
      });
    })
  );
  assertEquals(faults.slice(0, 40), []);
});

const LOW = -(2 ** 31);
const HIGH = 2 ** 31 - 1;
const INTEGERS: Readonly<Record<"i32" | "u32", readonly number[]>> = {
  i32: [0, 1, -1, 2, -3, 7, -7, 31, 32, 33, 65537, -65539, HIGH, LOW, LOW + 1],
  u32: [0, 1, 2, 3, 7, 31, 32, 33, 65537, HIGH, 2 ** 31, 2 ** 32 - 7, 2 ** 32 - 1],
};
/** The same in exact integers. */
const EXACT: readonly [
  string,
  (a: Tensor, b: Tensor) => Tensor,
  (a: bigint, b: bigint) => bigint,
][] = [
  ["add", add, (a, b) => a + b],
  ["sub", sub, (a, b) => a - b],
  ["mul", mul, (a, b) => a * b],
  ["maximum", maximum, (a, b) => a > b ? a : b],
  ["minimum", minimum, (a, b) => a < b ? a : b],
  ["idiv", idiv, (a, b) => b === 0n ? 0n : (a - bigMod(a, b)) / b],
  ["mod", mod, (a, b) => b === 0n ? 0n : bigMod(a, b)],
  ["bitwiseAnd", bitwiseAnd, (a, b) => a & b],
  ["bitwiseOr", bitwiseOr, (a, b) => a | b],
  ["bitwiseXor", bitwiseXor, (a, b) => a ^ b],
  ["leftShift", leftShift, (a, b) => b < 0n || b > 31n ? 0n : a << b],
  ["rightShift", rightShift, (a, b) => a >> (b < 0n || b > 31n ? 40n : b)],
];
const bigMod = (a: bigint, b: bigint): bigint => (a % b + b) % b;

Deno.test("integers wrap around, divide down, and give 0 for a divisor of 0", async () => {
  for (const dtype of ["i32", "u32"] as const) {
    const pairs = INTEGERS[dtype].flatMap((a) => INTEGERS[dtype].map((b) => [a, b]));
    const Integers = dtype === "i32" ? Int32Array : Uint32Array;
    const [left, right] = [0, 1].map((side) =>
      device.tensor(new Integers(pairs.map((pair) => pair[side])))
    );
    const results = EXACT.map(([, apply]) => apply(left, right));
    const values = await device.read([...results, bitwiseNot(left)]);
    const wrap = (it: bigint) =>
      Number(dtype === "i32" ? BigInt.asIntN(32, it) : BigInt.asUintN(32, it));
    EXACT.forEach(([name, , exact], k) => {
      assertEquals(results[k].dtype, dtype);
      pairs.forEach(([a, b], i) =>
        assertEquals(values[k][i], wrap(exact(BigInt(a), BigInt(b))), `${name}(${a}, ${b})`)
      );
    });
    pairs.forEach(([a], i) => assertEquals(values.at(-1)![i], wrap(~BigInt(a))));
  }
});

Deno.test("operands of different types meet as in PyTorch", async () => {
  const of = (dtype: DType, shape: readonly number[]) => device.full(shape, 3, dtype);
  const halves = device.features.f16;
  type Meeting = readonly [DType, readonly number[], DType, readonly number[], DType];
  const cases: readonly Meeting[] = [
    ["i32", [2], "f32", [2], "f32"],
    ["u32", [2], "i32", [2], "i32"],
    ["u32", [2], "i32", [], "u32"],
    ["i32", [2], "f32", [], "f32"],
    ...halves
      ? [
        ["f16", [2], "f32", [2], "f32"],
        ["f16", [2], "f32", [], "f16"],
        ["i32", [2], "f16", [], "f16"],
        ["f16", [], "f32", [2], "f32"],
      ] as const
      : [],
  ];
  for (const [left, m, right, n, common] of cases) {
    for (const swap of [false, true]) {
      const [a, b] = [of(left, m), of(right, n)];
      using y = scope(() => swap ? sub(b, a) : sub(a, b));
      assertEquals(y.dtype, common, `${left} [${m}], ${right} [${n}]`);
      if (common !== "f16") assertEquals([...await y.data()].every((it) => it === 0), true);
    }
  }
  const ids = device.tensor(Int32Array.of(1, 2, -3));
  const read = async (y: Tensor): Promise<[DType, number[]]> => [y.dtype, [...await y.data()]];
  assertEquals(await read(sub(1, ids)), ["i32", [0, -1, 4]]);
  assertEquals(await read(mul(ids, 0.5)), ["f32", [0.5, 1, -1.5]]);
  assertEquals(await read(div(2, ids)), ["f32", [2, 1, Math.fround(-2 / 3)]]);
  assertEquals(await read(mod(ids, 2)), ["i32", [1, 0, 1]]);
  assertEquals(await read(less(ids, 1.5)), ["f32", [1, 0, 1]]);
  assertEquals(await read(where(device.tensor([1, 0, 1]), ids, 0.5)), ["f32", [1, 0.5, -3]]);
  assertThrows(() => add(ids, 2 ** 40), ShapeError, "add: 1099511627776 beside i32");
  assertThrows(() => bitwiseAnd(ids, 0.5), ShapeError, "bitwiseAnd");
  assertThrows(() => bitwiseNot(device.tensor([1])), ShapeError, "integers are needed");

  using weights = device.tensor([0.5, 2, 1]).trainable();
  scope(() => backward(sum(mul(ids, weights))));
  assertEquals([...await weights.grad!.data()], [1, 2, -3]);
});

Deno.test("masks and numbers as truth values; any and all along axes and of nothing", async () => {
  const a = device.tensor([0, 2, NaN, -0]);
  const b = device.tensor(Int32Array.of(0, 0, 5, 1));
  const results: [Tensor, number[]][] = [
    [logicalAnd(a, b), [0, 0, 1, 0]],
    [logicalOr(a, b), [0, 1, 1, 1]],
    [logicalXor(a, b), [0, 1, 0, 1]],
    [logicalNot(a), [1, 0, 0, 1]],
    [logicalNot(b), [1, 1, 0, 0]],
    [any(a), [1]],
    [all(b), [0]],
    [any(device.tensor(Uint32Array.of(0, 0, 0, 4), [2, 2]), { axes: [1] }), [0, 1]],
    [all(device.tensor([1, 0, NaN, -4], [2, 2]), { axes: [0], keepDims: true }), [1, 0]],
    [all(isnan(a)), [0]],
    [any(device.empty([2, 0]), { axes: [1] }), [0, 0]],
    [all(device.empty([0], "u32")), [1]],
    [equal(all(device.empty([0])), 1), [1]],
  ];
  const values: readonly HostArray[] = await device.read(results.map(([y]) => y));
  results.forEach(([, wanted], i) => assertEquals([...values[i]], wanted, `${i}`));
  assert(results.every(([{ dtype }]) => dtype === "f32"));
});
