/** Resampling against the formula in float64 and torchaudio's results. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import { resample, resampleKernel } from "../../../model/frontend/resample.ts";
import { full, test } from "../../support/tier.ts";

const GOLDEN = new URL("../../golden/frontend", import.meta.url).pathname;

interface Comparison {
  readonly max_abs_diff: number;
}

function goldenTensors(): Map<string, Float32Array> {
  const { tensors } = readSafetensors(Deno.readFileSync(`${GOLDEN}.safetensors`));
  return new Map(
    [...tensors].map(([name, { data }]) => [name, Float32Array.from(data, Number)]),
  );
}

function largestDifference(a: Float32Array, b: ArrayLike<number>): number {
  assertEquals(a.length, b.length);
  return a.reduce((max, x, i) => Math.max(max, Math.abs(x - b[i])), 0);
}

/**
 * I0 by the trapezoidal rule on (1/pi) * integral of exp(x cos u) over [0, pi]: exact to rounding,
 * no series.
 */
function besselI0(x: number): number {
  const steps = 200;
  let sum = (Math.exp(x) + Math.exp(-x)) / 2;
  for (let k = 1; k < steps; k++) {
    sum += Math.exp(x * Math.cos(Math.PI * k / steps));
  }
  return sum / steps;
}

/**
 * The definition without phases: output i is at input time i * from / to; every tap is computed on
 * the spot.
 */
function resampleDirectly(
  input: Float32Array,
  from: number,
  to: number,
): Float64Array {
  const beta = 14.769656459379492;
  const cutoff = Math.min(1, to / from) * 0.9475937167399596; // zero crossings per input sample
  return Float64Array.from(
    { length: Math.ceil(input.length * to / from) },
    (_, i) => {
      let sum = 0;
      for (let k = 0; k < input.length; k++) {
        const t = (k - i * from / to) * cutoff;
        if (Math.abs(t) >= 64) continue;
        const sinc = t === 0 ? 1 : Math.sin(Math.PI * t) / (Math.PI * t);
        const shape = besselI0(beta * Math.sqrt(1 - (t / 64) ** 2)) /
          besselI0(beta);
        sum += input[k] * cutoff * sinc * shape;
      }
      return sum;
    },
  );
}

test("kernel sizes are those of model/README.md, Data", () => {
  const sizes = [44100, 48000, 22050, 32000, 8000].map((rate) => {
    const { orig, next, width, taps, phases } = resampleKernel(rate, 16000);
    assertEquals(phases.length, next);
    return [rate, orig, next, width, taps];
  });
  assertEquals(sizes, [
    [44100, 441, 160, 187, 815],
    [48000, 3, 1, 203, 409],
    [22050, 441, 320, 94, 629],
    [32000, 2, 1, 136, 274],
    [8000, 1, 2, 68, 137],
  ]);
});

test("phases lie within the padded taps and leave the zero taps out", () => {
  for (const rate of [44100, 22050, 8000, 12345]) {
    const { width, orig, phases } = resampleKernel(rate, 16000);
    for (const { offset, weights } of phases) {
      assert(offset >= -width && offset + weights.length <= width + orig);
    }
  }
  const { phases } = resampleKernel(44100, 16000);
  assert(phases.every(({ weights }) => weights.length <= 373));
});

test("resampling matches torchaudio's stored results", () => {
  const tensors = goldenTensors();
  const compared = JSON.parse(Deno.readTextFileSync(`${GOLDEN}.json`)) as {
    float32_run_vs_float64_run: Record<string, Comparison>;
  };
  let checked = 0;
  for (const [name, input] of tensors) {
    const match = name.match(/^resample\.(\d+)\.\w+\.in$/);
    if (!match) continue;
    const result = name.replace(/in$/, "out");
    const output = resample(input, Number(match[1]), 16000);
    const difference = largestDifference(output, tensors.get(result)!);
    // The stored runs use float32 kernels; 1e-6 (8e-6, 2e-5) is their rounding at 48 and 8 (44.1,
    // 22.05) kHz.
    const rounding = { 44100: 8e-6, 22050: 2e-5 }[match[1]] ?? 1e-6;
    assert(result in compared.float32_run_vs_float64_run);
    assert(difference <= 8 * rounding, `${result}: ${difference}`);
    checked++;
  }
  assert(checked >= 8, `${checked} golden pairs`);
});

Deno.test("resampling equals the direct float64 formula at odd rates", () => {
  const input = Float32Array.from(
    { length: full ? 400 : 150 },
    (_, i) => Math.sin(i * i * 0.002) + 0.3 * Math.cos(i),
  );
  for (
    const [from, to] of [[11025, 16000], [16000, 44100], [37800, 16000], [7, 5], [101, 100], [
      22254,
      16000,
    ]]
  ) {
    const difference = largestDifference(
      resample(input, from, to),
      resampleDirectly(input, from, to),
    );
    assert(difference < 1e-6, `${from} to ${to}: ${difference}`);
  }
});

test("output length is ceil(n * length / o) for any length and rate", () => {
  fc.assert(
    fc.property(
      fc.nat(500),
      fc.constantFrom(8000, 11025, 22050, 24000, 44100, 48000, 96000),
      (length, rate) => {
        const output = resample(new Float32Array(length).fill(0.5), rate, 16000);
        assertEquals(output.length, Math.ceil(length * 16000 / rate));
        assert(output.every(Number.isFinite));
      },
    ),
    { numRuns: 60 },
  );
});

test("a sine below the cut-off keeps its level and frequency, one above is removed", () => {
  const sine = (hertz: number, rate: number): Float32Array =>
    Float32Array.from(
      { length: rate / 2 },
      (_, i) => Math.sin(2 * Math.PI * hertz * i / rate),
    );
  for (const rate of [22050, 44100, 48000]) {
    const inside = resample(sine(1000, rate), rate, 16000);
    const middle = inside.subarray(1000, 7000);
    const expected = sine(1000, 16000).subarray(1000, 7000);
    assert(largestDifference(middle, expected) < 1e-4);
    const outside = resample(sine(9000, rate), rate, 16000);
    assert(outside.subarray(1000, 7000).every((x) => Math.abs(x) < 1e-4));
  }
});

test("equal rates return the input itself", () => {
  const input = Float32Array.of(1, 2, 3);
  assert(resample(input, 16000, 16000) === input);
});

test("impossible rates are refused", () => {
  const input = new Float32Array(10);
  for (const rate of [0, -1, 44100.5, NaN, Infinity]) {
    assertThrows(() => resample(input, rate, 16000), RangeError, "positive integers");
  }
  assertThrows(() => resample(input, 4294967291, 16000), RangeError, "too large");
});
