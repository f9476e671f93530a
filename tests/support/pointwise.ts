/**
 * Expressions of WGSL at many places at once, in one kernel: how their values and gradients are
 * held against float64.
 *
 * @module
 */
import { defineKernel, type Device } from "../../engine/mod.ts";

const kernel = defineKernel(
  "pointwise test",
  `
struct Params {
  count: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> left: array<vec4f>;
@group(0) @binding(2) var<storage, read> right: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> results: array<vec4f>;
alias T = vec4f;
alias Bits = vec4u;
//:include math
//:include functions
//:include modulo
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if i < params.count {
    let x = left[i];
    let b = right[i];
    let c = vec4f(1.0);
//:for k in 0..N
    {
      let a = \${A$k};
      results[i + \${k}u * params.count] = \${F$k};
    }
//:end
  }
}
`,
  { rounds: () => 64 * 33 },
);

/** An expression over `a`, `b`, `c` and `x`, as rows of tables of ops have it. */
export interface Pointwise {
  /** What is computed, a `vec4f`; `c` is 1. */
  readonly value: string;
  /** What `a` is, over `x`; default: `x`, the left operand. */
  readonly a?: string;
}

/**
 * Values of all expressions at all places.
 *
 * @param left `x`; a multiple of four
 * @param right `b`, as many; default: `left`
 */
export async function evaluate(
  device: Device,
  expressions: readonly Pointwise[],
  left: Float32Array<ArrayBuffer>,
  right: Float32Array<ArrayBuffer> = left,
): Promise<Float32Array[]> {
  using x = device.tensor(left);
  using b = device.tensor(right);
  using results = device.empty([expressions.length, left.length]);
  const count = left.length / 4;
  const texts = expressions.flatMap(({ value, a = "x" }, k) => [[`A${k}`, a], [`F${k}`, value]])
    .map(([name, text]) => [name, text.replaceAll("$V", "vec4")]);
  device.run(
    kernel,
    { N: expressions.length, W: 4, ...Object.fromEntries(texts) },
    [x, b, results],
    { count },
    Math.ceil(count / 64),
  );
  const values = await results.data();
  return expressions.map((_, k) => values.subarray(k * left.length, (k + 1) * left.length));
}

/** Distance of neighbouring f32 at `x`. */
export const ulp = (x: number): number =>
  2 ** (Math.max(-126, Math.floor(Math.log2(Math.abs(x)))) - 23);
