/** Inputs that the ops of `engine/ops/attention.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { refFrom } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

// A logit of size L is off by some 1e-7 L in f32, and its probability by as much relative to
// itself.
const ORDINARY = 4e-6;

/**
 * A key mask [batch, keys]: batch 0 and every third from there sees nothing if `blind`, each other
 * another part.
 */
function refMask(batch: number, keys: number, blind: boolean): RefArray {
  return refFrom([batch, keys], (i) => {
    const [b, j] = [Math.floor(i / keys), i % keys];
    return blind && b % 3 === 0 ? 0 : +((j * 7 + b * 5) % 11 < 6);
  });
}

function maskedSamples(): Sample[] {
  const cases: [number, number, number, number, number, boolean, RefArray][] = [
    [1, 1, 1, 1, 4, false, refFrom([1, 1], () => 0)],
    [3, 2, 13, 19, 8, false, refMask(3, 19, false)],
    [2, 1, 9, 37, 64, false, refMask(2, 37, true)],
    [2, 2, 5, 7, 6, false, refMask(2, 7, true)],
    // The first keys are hidden, so that the first queries see none.
    [2, 2, 35, 35, 16, true, refFrom([2, 35], (i) => +(i % 35 > 3 + Math.floor(i / 35) * 9))],
    [1, 1, 33, 41, 128, true, refMask(1, 41, false)],
    // One key is left, the last.
    [1, 2, 7, 67, 32, false, refFrom([1, 67], (i) => +(i === 66))],
  ];
  return cases.map(([b, h, tq, tk, d, causal, mask], seed) => ({
    label: `[${b}, ${h}, ${tq}, ${d}] over ${tk} keys${causal ? ", causal" : ""}, masked`,
    inputs: [
      refRandom([b, h, tq, d], seed + 400),
      refRandom([b, h, tk, d], seed + 500),
      refRandom([b, h, tk, d], seed + 600),
      mask,
    ],
    integer: { 3: "u32" },
    attrs: { scale: d ** -0.5, causal },
    tolerance: ORDINARY,
  }));
}

/** What else there may be, and [heads, heads of keys], [queries, keys], head size. */
interface Beside {
  /** Default 2. */
  readonly batch?: number;
  readonly heads?: readonly [number, number];
  readonly tokens: readonly [number, number];
  readonly d: number;
  readonly causal?: boolean | "end";
  readonly mask?: readonly number[];
  readonly bias?: readonly number[];
  readonly gate?: readonly number[];
  /** Whether some of the bias is -infinity. */
  readonly hiding?: boolean;
  readonly quick?: boolean;
}

/** Masks that let about half of the keys through, biases, and gates, positive where one hides. */
function besides({ mask, bias, gate, hiding }: Beside, seed: number): RefArray[] {
  const random = bias && refRandom(bias, seed + 900);
  const factors = gate && refRandom(gate, seed + 1000);
  return [
    ...mask ? [refFrom(mask, (i) => +((i * 7 + seed) % 13 < 7))] : [],
    ...random
      ? [refFrom(random.shape, (i) => hiding && i % 5 === 0 ? -Infinity : random.data[i])]
      : [],
    ...factors
      ? [refFrom(factors.shape, (i) => hiding ? Math.abs(factors.data[i]) + 0.1 : factors.data[i])]
      : [],
  ];
}

const labelOf = (
  { batch = 2, heads: [h, own] = [2, 2], tokens: [tq, tk], d, causal, mask, bias, gate }: Beside,
) =>
  `${batch} times ${h} heads of ${d} over ${own}, ${tq} x ${tk}` +
  (causal ? `, causal${causal === "end" ? " to the end" : ""}` : "") +
  (mask ? `, mask [${mask}]` : "") + (bias ? `, bias [${bias}]` : "") +
  (gate ? `, gate [${gate}]` : "");

const BESIDE: readonly Beside[] = [
  {
    heads: [2, 1],
    tokens: [5, 9],
    d: 4,
    causal: "end",
    mask: [5, 9],
    bias: [1, 2, 5, 9],
    gate: [2, 2, 5],
    quick: true,
  },
  {
    ...{ tokens: [9, 37], d: 6, hiding: true },
    ...{ mask: [2, 1, 1, 37], bias: [1, 1, 9, 37], gate: [2, 1, 9] },
  },
  { heads: [4, 2], tokens: [35, 71], d: 20, mask: [2, 1, 1, 71], bias: [2, 1, 1, 71] },
  { tokens: [7, 11], d: 4, causal: "end", mask: [7, 11], bias: [2, 2, 7, 1] },
  // Two windows of several clips.
  { batch: 6, heads: [2, 1], tokens: [5, 35], d: 4, bias: [2, 2, 1, 35], gate: [2, 1] },
  { batch: 4, tokens: [9, 9], d: 5, mask: [2, 1, 9, 9], bias: [2, 2, 9, 9], gate: [4, 2, 9] },
  // The first queries see nothing.
  { heads: [4, 1], tokens: [34, 9], d: 16, causal: "end" },
];

function besideSamples(): Sample[] {
  return BESIDE.map((it, seed): Sample => {
    const { batch = 2, heads: [h, own] = [2, 2], tokens: [tq, tk], d, causal = false } = it;
    const [bias, gate] = [it.bias !== undefined, it.gate !== undefined];
    const axes = (shape: readonly number[] | undefined, count: number) =>
      shape && [...Array(count - shape.length).fill(1), ...shape];
    return {
      label: labelOf(it),
      inputs: [
        refRandom([batch, h, tq, d], seed + 600),
        refRandom([batch, own, tk, d], seed + 700),
        refRandom([batch, own, tk, d], seed + 800),
        ...besides({ ...it, mask: axes(it.mask, 4), gate: axes(it.gate, 3) }, seed),
      ],
      ...it.mask && { integer: { 3: "u32" } },
      attrs: { scale: d ** -0.5, causal, bias, gate },
      tolerance: ORDINARY,
      skipDifferences: it.hiding,
      quick: it.quick,
    };
  });
}

/** The same of a sequence to itself: tokens of the queries. */
function besideItself(): Sample[] {
  return [0, 2].map((seed): Sample => {
    const it = BESIDE[seed];
    const { heads: [h, own] = [2, 2], tokens: [t], d, causal = false } = it;
    const square = (shape?: readonly number[]) =>
      shape && [1, 1, ...shape].slice(-4).map((n, i) => n === 1 || i < 2 ? n : t);
    const [mask, bias] = [square(it.mask), square(it.bias)];
    return {
      label: `itself: ${labelOf({ ...it, tokens: [t, t], mask, bias })}`,
      inputs: [
        refRandom([2, t, (h + 2 * own) * d], seed + 600),
        ...besides({ ...it, mask, bias }, seed),
      ],
      ...mask && { integer: { 1: "u32" } },
      attrs: {
        ...{ heads: h, keyHeads: own, scale: d ** -0.5, causal },
        ...{ bias: bias !== undefined, gate: it.gate !== undefined },
      },
      tolerance: ORDINARY,
    };
  });
}

export const samples: Samples = {
  attention() {
    const cases: [number, number, number, number, number, boolean][] = [
      [1, 1, 1, 1, 1, false],
      [2, 2, 7, 7, 4, false],
      [3, 1, 13, 13, 6, false],
      [1, 2, 58, 58, 16, false],
      [1, 1, 11, 29, 12, false],
      [2, 1, 37, 5, 32, false],
      [1, 1, 35, 35, 64, false],
      [1, 1, 3, 9, 128, false],
      [1, 1, 3, 5, 67, false],
      [2, 2, 13, 13, 8, true],
      [1, 1, 70, 67, 16, true],
    ];
    const list = cases.map(([b, h, tq, tk, d, causal], seed): Sample => ({
      label: `[${b}, ${h}, ${tq}, ${d}] over ${tk} keys${causal ? ", causal" : ""}`,
      inputs: [
        refRandom([b, h, tq, d], seed),
        refRandom([b, h, tk, d], seed + 100),
        refRandom([b, h, tk, d], seed + 200),
      ],
      attrs: { scale: d ** -0.5, causal },
      tolerance: ORDINARY,
    }));
    // Small integers and a power of two as scale: the logits are exact in f32. Keys come in pairs
    // that differ in the last channel only, where q is 0: equal logits, so that no row is one-hot
    // with rounding as its gradient.
    const whole = (seed: number, size: number, keys: boolean) => {
      const random = refRandom([1, 2, 14, 16], seed, size);
      const last = (i: number) => keys ? Math.round(random.data[i] / size * 4) : 0;
      const pair = (i: number) => Math.round(random.data[keys ? i - i % 32 + i % 16 : i]);
      return refFrom(random.shape, (i) => i % 16 === 15 ? last(i) : pair(i));
    };
    const extremes: [string, number, number][] = [
      ["peaked", 4, 1e-5],
      // Near 4000 the spacing of f32, and so the error of the stored log-sum-exp, is 2.4e-4.
      ["logits in the thousands", 30, 1.5e-4],
    ];
    for (const [label, size, tolerance] of extremes) {
      list.push({
        label,
        inputs: [whole(1, size, false), whole(2, size, true), refRandom([1, 2, 14, 16], 3)],
        attrs: { scale: 0.25, causal: false },
        tolerance,
        // Backward sums do * o over the result as stored; what its rounding is off by meets keys as
        // large as `size`.
        halfTolerance: 2 ** -9,
        skipDifferences: size > 10,
      });
    }
    // Both are quick: the plain one, and the one with everything.
    list[1] = { ...list[1], quick: true };
    return [...list, ...maskedSamples(), ...besideSamples()];
  },
  selfAttention() {
    const cases: [number, number, number, number][] = [
      [2, 1, 2, 16],
      [3, 7, 3, 4],
      [2, 13, 2, 6],
      [1, 58, 2, 32],
      [2, 41, 1, 64],
      [1, 5, 4, 3],
    ];
    const samples = cases.map(([b, t, heads, d], seed): Sample => ({
      label: `[${b}, ${t}, 3 * ${heads} * ${d}]`,
      inputs: [refRandom([b, t, 3 * heads * d], seed + 300)],
      attrs: { heads, scale: d ** -0.5 },
      tolerance: ORDINARY,
    }));
    // Masked: of several batches the first sees nothing.
    const masked = samples.map((sample): Sample => {
      const [[b, t]] = sample.inputs.map(({ shape }) => shape);
      return {
        ...sample,
        label: `${sample.label}, masked`,
        inputs: [...sample.inputs, refMask(b, t, b > 1)],
        integer: { 1: "u32" },
      };
    });
    return [...samples, ...masked, ...besideItself()];
  },
};
