/**
 * Holds the error table in the header of kernels/include/math.wgsl: dense inputs against float64,
 * and special values.
 *
 * The limits are those of the software adapter, whose division is correctly rounded; a GPU may have
 * three times them.
 */
import { assert, assertEquals } from "@std/assert";
import { backward, openDevice, pow, scope, sum } from "../../engine/mod.ts";
import { evaluate, type Pointwise, ulp } from "../support/pointwise.ts";

const device = await openDevice();

/** A function of math.wgsl of `x`, and of a number where it takes two. */
const callOf = (name: string, second?: number): Pointwise => ({
  value: second === undefined ? `${name}(x)` : `${name}(x, vec4f(${second}))`,
});

/** The same from four calls of its scalar form. */
const scalarCallOf = (name: string, second?: number): Pointwise => {
  const rest = second === undefined ? "" : `, ${second}`;
  return { value: `vec4f(${["x", "y", "z", "w"].map((it) => `${name}(x.${it}${rest})`)})` };
};

/** erfc in float64: power series of erf below 2.2, continued fraction above. */
function erfc(z: number): number {
  if (z < 0) return 2 - erfc(-z);
  if (z < 2.2) return 1 - erf(z);
  let fraction = 0;
  for (let k = 200; k > 0; k--) fraction = k / 2 / (z + fraction);
  return Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction);
}

function erf(z: number): number {
  if (Math.abs(z) >= 2.2) return z < 0 ? erfc(-z) - 1 : 1 - erfc(z);
  let term = z, sum = z;
  for (let n = 1; n < 80; n++) sum += term *= 2 * z * z / (2 * n + 1);
  return 2 / Math.sqrt(Math.PI) * Math.exp(-z * z) * sum;
}

const phi = (x: number): number => erfc(-x / Math.SQRT2) / 2;
const gelu = (x: number): number => x * phi(x);
const geluGrad = (x: number): number => phi(x) + x * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);

const COUNT = 1 << 17;

function linear(from: number, to: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: COUNT }, (_, i) => from + (to - from) * i / (COUNT - 1));
}

/** Every binade of normal float32 numbers; odd places negative when `signed`. */
function binades(signed: boolean): Float32Array<ArrayBuffer> {
  return Float32Array.from(
    { length: COUNT },
    (_, i) => 2 ** (-126 + 253.99 * (i + 0.5) / COUNT) * (signed && i % 2 === 1 ? -1 : 1),
  );
}

interface Claim {
  readonly name: string;
  /** Second operand, for functions of two. */
  readonly second?: number;
  readonly x: Float32Array<ArrayBuffer>;
  readonly expected: (x: number) => number;
  /** Limits: exactly one of them. */
  readonly ulp?: number;
  readonly relative?: number;
  readonly absolute?: number;
}

const CLAIMS: readonly Claim[] = [
  { name: "exp_vec4", x: linear(-86.97, 88.72), expected: Math.exp, ulp: 1 },
  { name: "exp_vec4", x: linear(-1, 1), expected: Math.exp, ulp: 1 },
  { name: "exp2_vec4", x: linear(-125.49, 127.99), expected: (x) => 2 ** x, ulp: 1.8 },
  { name: "exp2_vec4", x: linear(-1, 1), expected: (x) => 2 ** x, ulp: 1.8 },
  { name: "log_vec4", x: binades(false), expected: Math.log, ulp: 0.9 },
  { name: "log_vec4", x: linear(0.5, 2), expected: Math.log, ulp: 0.9 },
  { name: "log_vec4", x: linear(0.99, 1.01), expected: Math.log, ulp: 0.9 },
  ...[[-19, 0.02, 90], [19, 0.02, 90], [87, 0.4, 2.7], [0.3, 1e-30, 1e30], [-1.7, 0.5, 2]].map((
    [second, from, to],
  ): Claim => ({
    name: "pow_vec4",
    second,
    x: linear(from, to),
    expected: (x) => x ** Math.fround(second),
    ulp: 8,
  })),
  {
    name: "pow_vec4",
    second: 0.4,
    x: binades(false),
    expected: (x) => x ** Math.fround(0.4),
    ulp: 8,
  },
  { name: "pow_vec4", second: 1e5, x: linear(0.9995, 1.0005), expected: (x) => x ** 1e5, ulp: 8 },
  { name: "tanh_vec4", x: linear(-11, 11), expected: Math.tanh, ulp: 1.5 },
  { name: "tanh_vec4", x: binades(true), expected: Math.tanh, ulp: 1.5 },
  { name: "erf_vec4", x: linear(-6, 6), expected: erf, ulp: 2.6 },
  { name: "erf_vec4", x: binades(true), expected: erf, ulp: 2.6 },
  { name: "gelu_vec4", x: linear(-12.9, 6), expected: gelu, relative: 6e-7 },
  {
    name: "gelu_vec4",
    x: binades(true).map((x) => Math.max(x, -12.9)),
    expected: gelu,
    relative: 6e-7,
  },
  { name: "gelu_vec4", x: linear(-5.001, -4.999), expected: gelu, relative: 6e-7 },
  { name: "gelu_vec4", x: linear(-30, -12.9), expected: gelu, absolute: 1e-36 },
  { name: "gelu_grad_vec4", x: linear(-30, 30), expected: geluGrad, absolute: 3e-7 },
  { name: "gelu_grad_vec4", x: linear(-12.9, -2), expected: geluGrad, relative: 3e-7 },
  { name: "gelu_grad_vec4", x: linear(-3, -1), expected: geluGrad, relative: 1e-6 },
];

const SCALAR: Record<string, string> = {
  exp_vec4: "exp_f32",
  exp2_vec4: "exp2_f32",
  log_vec4: "log_f32",
  pow_vec4: "pow_f32",
  tanh_vec4: "tanh_f32",
  erf_vec4: "erf_f32",
  gelu_vec4: "gelu_f32",
  gelu_grad_vec4: "gelu_grad_f32",
};

Deno.test("elementary functions keep their stated errors", async (t) => {
  const slack = device.info.software ? 1 : 3;
  for (const claim of CLAIMS) {
    const { name, x, expected, second } = claim;
    const label = `${name} ${second ?? ""} on ${x[0]} .. ${x[x.length - 1]}`;
    await t.step(label, async () => {
      const [y] = await evaluate(device, [callOf(name, second)], x);
      const limit = slack * (claim.ulp ?? claim.relative ?? claim.absolute ?? 0);
      let worst = 0, at = 0;
      for (let i = 0; i < x.length; i++) {
        const want = expected(x[i]);
        const scale = claim.ulp ? ulp(want) : claim.relative ? Math.abs(want) : 1;
        // What is below the smallest normal number may become zero.
        if (Math.abs(want) < 2 ** -126 && y[i] === 0) continue;
        const error = Math.abs(y[i] - want) / scale;
        if (!(error <= worst)) [worst, at] = [error, x[i]];
      }
      assert(worst <= limit, `error ${worst} at ${at}, limit ${limit}`);
    });
  }
});

Deno.test("scalar forms equal the vector forms bit for bit", async () => {
  const calls = Object.entries(SCALAR).flatMap(([vector, scalar]) => {
    const second = vector === "pow_vec4" ? -2.5 : undefined;
    return [callOf(vector, second), scalarCallOf(scalar, second)];
  });
  const results = await evaluate(device, calls, linear(-20, 20));
  for (let k = 0; k < calls.length; k += 2) {
    assertEquals(results[k + 1], results[k], calls[k + 1].value);
  }
});

Deno.test("elementary functions at special values", async () => {
  const inf = Infinity;
  const x = new Float32Array([0, inf, -inf, 3e38, -3e38, -1e-30, NaN, 89, 88.7, 1, 1, 1]);
  const any = undefined;
  const expected: Record<string, readonly (number | undefined)[]> = {
    exp_vec4: [1, inf, 0, inf, 0, 1, NaN, inf],
    exp2_vec4: [1, inf, 0, inf, 0, 1, NaN, any],
    log_vec4: [-inf, inf, NaN, any, NaN, NaN, NaN, any],
    tanh_vec4: [0, 1, -1, 1, -1, any, NaN, 1],
    erf_vec4: [0, 1, -1, 1, -1, any, NaN, 1],
    gelu_vec4: [0, inf, 0, any, 0, any, NaN, 89],
    gelu_grad_vec4: [any, 1, 0, 1, 0, any, NaN, 1],
  };
  const results = await evaluate(device, Object.keys(expected).map((name) => callOf(name)), x);
  Object.entries(expected).forEach(([name, want], k) =>
    want.forEach((value, i) => {
      // Only IEEE adapters promise NaN.
      if (value === undefined || (Number.isNaN(value) && !device.info.software)) return;
      // + 0 makes -0 equal to 0.
      assertEquals(results[k][i] + 0, value, `${name}(${x[i]})`);
    })
  );
  // The top of the range, where the scale 2^128 alone would overflow.
  const top = results[0][8];
  assert(Math.abs(top / Math.exp(Math.fround(88.7)) - 1) < 3e-7, `exp(88.7) = ${top}`);
});

Deno.test("pow at special values is C's, and its gradients are PyTorch's", async () => {
  const inf = Infinity;
  const bases = [0, -0, 1, -1, 2, -2, 0.5, -0.5, 3e38, -3e38, inf, -inf, NaN];
  const exponents = [0, -0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1e9, -1e9, 16777217, inf, -inf, NaN];
  const pairs = bases.flatMap((a) => exponents.map((b) => [a, b].map(Math.fround)));
  const [x, y] = [0, 1].map((i) => device.tensor(pairs.map((pair) => pair[i])).trainable());
  const power = scope(() => {
    const power = pow(x, y);
    backward(sum(power));
    return power;
  });
  const [got, dx, dy] = await device.read([power, x.grad!, y.grad!]);
  // C's rules but for 1 to NaN and -1 to infinity, which are 1 there and NaN in JavaScript. What is
  // below the smallest normal number becomes zero.
  const c = (a: number, b: number) => {
    const exact = a === 1 || a === -1 && Math.abs(b) === inf ? 1 : a ** b;
    return Math.abs(exact) < 2 ** -126 ? exact * 0 : Math.fround(exact);
  };
  pairs.forEach(([a, b], i) => {
    const results = {
      value: [got[i], c(a, b)],
      "gradient of the base": [dx[i], b === 0 ? 0 : b * c(a, Math.fround(b - 1))],
      "gradient of the exponent": [dy[i], a === 0 && b >= 0 ? 0 : c(a, b) * Math.log(a)],
    };
    for (const [name, [actual, exact]] of Object.entries(results)) {
      const wanted = Math.fround(exact);
      const close = Math.abs(actual / wanted - 1) < 1e-6; // 8 ulp
      const same = name === "value" ? Object.is(actual, wanted) : actual === wanted;
      const both = Number.isNaN(actual) && Number.isNaN(wanted);
      assert(close || same || both, `${a} to ${b}: ${name} is ${actual}, not ${wanted}`);
    }
  });
});
