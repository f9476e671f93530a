/**
 * Functions of one number: every row of `engine/ops/unary_table.ts` on dense inputs and special
 * values against float64, all rows in one kernel that is made from their WGSL. So the quick tier
 * compiles two kernels for them; ops_test.ts takes each op through the tape in the full tier.
 *
 * The limits are those of the software adapter, whose division is correctly rounded; a GPU may have
 * three times them.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import {
  abs,
  backward,
  floor,
  isnan,
  nanToNum,
  neg,
  openDevice,
  relu,
  scope,
  sin,
  square,
  sum,
} from "../../engine/mod.ts";
import { UNARY, type UnaryRow } from "../../engine/ops/unary_table.ts";
import { evaluate, ulp } from "../support/pointwise.ts";
import { full, test } from "../support/tier.ts";

const device = await openDevice();

type Name = keyof typeof UNARY;
const ROWS: readonly [Name, UnaryRow][] = Object.entries(UNARY) as [Name, UnaryRow][];

const COUNT = full ? 1 << 17 : 1 << 14;
const linear = (from: number, to: number): number[] =>
  Array.from({ length: COUNT }, (_, i) => Math.fround(from + (to - from) * i / (COUNT - 1)));
/** Every binade, denormal numbers included, of either sign. */
const binades = Array.from(
  { length: COUNT },
  (_, i) => Math.fround(2 ** (-149 + 276.99 * (i + 0.5) / COUNT) * (i % 2 === 1 ? -1 : 1)),
);
/** Where functions change their ways or end. */
const SPECIAL = [
  ...[0, 0.5, 1, 1.5, 2, 2.5, 3.5, 0.25, 1 / 3, Math.PI / 4, Math.PI / 2, Math.PI, 88.7, 89, 89.4],
  // The f32 that is next to a multiple of pi / 2, the largest one, and hard cases between.
  ...[16367173 * 2 ** 72, 3.4028234663852886e38, 1e22, 1e30, 2 ** 31, 2 ** 32, 8388607.5, 8388608],
  ...[2 ** -126, 2 ** -149, 2 ** -130, 1e-20, 9.3, 127.5, 126, Infinity, 0.49999997, 0.50000006],
].map(Math.fround).flatMap((v) => [v, -v]).concat(NaN, NaN);
const INPUTS = Float32Array.from([
  ...binades,
  ...linear(-100, 100),
  ...linear(-2, 2),
  ...SPECIAL,
  ...Array(-SPECIAL.length & 3).fill(1),
]);

/** Largest error in ulp, by function; the others are exact. */
const MOST: Readonly<Partial<Record<Name, number>>> = {
  ...{ exp: 1, log: 0.9, sqrt: 0.51, square: 0.51, tanh: 1.5, rsqrt: 1.5, reciprocal: 0.51 },
  ...{ sigmoid: 2.2, silu: 2.2, gelu: 7, erf: 2.6, erfc: 6.5 },
  ...{ softplus: 3, mish: 7, hardswish: 2, softsign: 1.5 },
  // The exponent 2u, 76 at most, is rounded four times: on lavapipe 200.
  geluTanh: 220,
  ...{ sin: 2.5, cos: 2.5, tan: 4, asin: 2.2, acos: 1.3, atan: 1.7, sinh: 1.6, cosh: 1.3 },
  ...{ asinh: 4, acosh: 4, atanh: 4, sinc: 4, log10: 2, selu: 3, logSigmoid: 3, hardsigmoid: 2 },
  ...{ exp2: 1.8, log2: 2.1, log1p: 2.4, expm1: 1.5 },
};
/** What becomes 0 a little above the smallest normal number, as exp_vec4 does. */
const UNDERFLOWING = new Set<Name>([
  ...["exp", "exp2", "sigmoid", "silu", "gelu", "geluTanh", "erfc"] as const,
  ...["softplus", "mish", "logSigmoid"] as const,
]);

const ONES = new Float32Array(INPUTS.length).fill(1);

Deno.test("functions of one number hold their errors everywhere", async () => {
  const slack = device.info.software ? 1 : 3;
  const results = await evaluate(device, ROWS.map(([, { wgsl }]) => ({ value: wgsl })), INPUTS);
  ROWS.forEach(([name, { f }], k) => {
    const limit = slack * (MOST[name] ?? 0);
    INPUTS.forEach((a, i) => {
      const [actual, wanted] = [results[k][i], f(a)];
      const rounded = Math.fround(wanted);
      const error = Math.abs(actual - wanted);
      const near = Number.isFinite(rounded) && (error <= limit * ulp(wanted) ||
        UNDERFLOWING.has(name) && error < 1e-36 * Math.max(1, Math.abs(a)));
      assert(near || Object.is(actual, rounded) || rounded === actual, `${name}(${a}) = ${actual}`);
    });
  });
});

Deno.test("their gradients are right everywhere", async () => {
  const rows = ROWS.filter(([, { gradient }]) => gradient);
  const expressions = rows.map(([, { wgsl, gradient, fromOutput }]) => ({
    value: gradient!,
    a: fromOutput ? wgsl.replace(/\ba\b/g, "x") : "x",
  }));
  const results = await evaluate(device, expressions, INPUTS, ONES);
  rows.forEach(([name, { f, df, fromOutput }], k) => {
    INPUTS.forEach((a, i) => {
      // Infinite outputs have no place in registers: in an op they come from memory.
      if (fromOutput && !Number.isFinite(Math.fround(f(a)))) return;
      const [actual, wanted] = [results[k][i], df!(a)];
      const rounded = Math.fround(wanted);
      const near = Math.abs(actual - wanted) <= 1e-6 * Math.max(1, Math.abs(wanted)) &&
        Number.isFinite(rounded);
      assert(
        near || rounded === actual || Object.is(actual, rounded),
        `${name}'(${a}) = ${actual}`,
      );
    });
  });
});

test("integers stay whole where results are, else become f32", async () => {
  const x = device.tensor(Int32Array.of(-3, 0, 2 ** 31 - 1, -(2 ** 31)));
  const results = scope(() => [neg(x), abs(x), square(x), floor(x), relu(x), sin(x), isnan(x)]);
  assertEquals(results.map(({ dtype }) => dtype), [...Array(5).fill("i32"), "f32", "f32"]);
  const values = (await device.read(results)).map((it) => [...it]);
  assertEquals(values.slice(0, 5), [
    [3, 0, -(2 ** 31) + 1, -(2 ** 31)],
    [3, 0, 2 ** 31 - 1, -(2 ** 31)],
    [9, 0, 1, 0],
    [-3, 0, 2 ** 31 - 1, -(2 ** 31)],
    [0, 0, 2 ** 31 - 1, 0],
  ]);
  assert(Math.abs(values[5][0] - Math.sin(-3)) < 1e-7);
  assertEquals(values[6], [0, 0, 0, 0]);
});

test("nanToNum puts numbers in place of NaN and infinities, which pass no gradient", async () => {
  using x = device.tensor([NaN, Infinity, -Infinity, 2]).trainable();
  using y = scope(() => {
    const y = nanToNum(x);
    backward(sum(nanToNum(x, { nan: 7, posinf: 1, neginf: -1 })));
    return y;
  });
  const most = 3.4028234663852886e38;
  assertEquals([...await y.data()], [0, most, -most, 2]);
  assertEquals([...await x.grad!.data()], [0, 0, 0, 1]);
  using whole = device.tensor(Int32Array.of(1));
  assertThrows(() => nanToNum(whole), ShapeError, "nanToNum: a tensor [1] of i32 has no NaN");
});
