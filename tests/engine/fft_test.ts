/**
 * Fourier transforms of long and odd lengths against sums in float64, and their options against
 * values of NumPy.
 */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  fft,
  fftfreq,
  fftshift,
  ifft,
  ifftshift,
  irfft,
  permute,
  rfft,
  rfftfreq,
  ShapeError,
  stft,
  type Tensor,
} from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";
import { full, fullOnly, test } from "../support/tier.ts";

const device = await openDevice();
const values = async (t: Tensor) => [...await t.data()];

/**
 * Root-mean-square error of some bins relative to that of their values: sums over all of `x`, pairs
 * or real numbers, in float64.
 */
function errorOf(x: Float32Array, pairs: boolean, spectrum: Float32Array, bins: number[]): number {
  const n = x.length / (pairs ? 2 : 1);
  const cos = Float64Array.from({ length: n }, (_, t) => Math.cos(2 * Math.PI * t / n));
  const sin = Float64Array.from({ length: n }, (_, t) => Math.sin(2 * Math.PI * t / n));
  let [off, all] = [0, 0];
  for (const k of bins) {
    let [re, im] = [0, 0];
    for (let t = 0; t < n; t++) {
      const [a, b] = pairs ? [x[2 * t], x[2 * t + 1]] : [x[t], 0];
      const [c, s] = [cos[k * t % n], sin[k * t % n]];
      re += a * c + b * s;
      im += b * c - a * s;
    }
    off += (spectrum[2 * k] - re) ** 2 + (spectrum[2 * k + 1] - im) ** 2;
    all += re * re + im * im;
  }
  return Math.sqrt(off / all);
}

Deno.test("errors of long transforms grow with the logarithm of the length", async (t) => {
  // Powers of two, products of small primes, primes with passes, Bluestein for primes and others.
  const lengths = full ? [4096, 2 ** 18, 15_625, 29 * 31 * 7, 1009, 65_537, 999_983] : [4096, 1009];
  for (const n of lengths) {
    await t.step(`${n}`, async () => {
      const host = Float32Array.from(refRandom([2 * n], n).data);
      // The longest goes one way, as its sums in float64 take their time.
      const long = n > 2 ** 18;
      const bins = Array.from({ length: long ? 3 : 8 }, (_, i) => Math.floor(i * (n - 1) / 7));
      // Each pass rounds once and multiplies with factors right to 6e-8; Bluestein goes through
      // three transforms of more than twice the length.
      const bound = 6e-8 * Math.log2(n);
      using x = device.tensor(host, [n, 2]);
      using X = fft(x);
      const error = errorOf(host, true, await X.data() as Float32Array, bins);
      assert(error < bound, `${error}`);
      if (long) return;
      using back = ifft(X);
      using real = rfft(device.tensor(host.subarray(0, n)));
      const [again, half] = await device.read([back, real]) as Float32Array[];
      const realError = errorOf(host.subarray(0, n), false, half, bins.map((k) => k >> 1));
      assert(realError < bound, `of real numbers ${realError}`);
      let [off, all] = [0, 0];
      host.forEach((v, i) => [off, all] = [off + (again[i] - v) ** 2, all + v * v]);
      const both = Math.sqrt(off / all);
      assert(both < 2 * bound, `there and back ${both}`);
    });
  }
});

test("lengths, axes and norms are NumPy's", async () => {
  using x = device.tensor([1, 0, 2, 1, -1, 3, 0, -2, 4, 1, 0.5, 0], [3, 2, 2]);
  const close = async (t: Tensor, shape: number[], expected: number[]) => {
    assertEquals(t.shape, shape);
    (await values(t)).forEach((v, i) => assertAlmostEquals(v, expected[i], 2e-6));
  };
  // np.fft.fft(x, axis=1, norm="ortho") for x = [[1, 2+1j], [-1+3j, -2j], [4+1j, 0.5]].
  const r = Math.SQRT1_2;
  await close(fft(x, { norm: "ortho" }), [3, 2, 2], [
    ...[3 * r, r, -r, -r, -r, r, -r, 5 * r, 4.5 * r, r, 3.5 * r, r],
  ]);
  // np.fft.fft(x, n=2, axis=0) and np.fft.ifft(x, n=4, axis=0, norm="forward").
  await close(fft(x, { n: 2, axis: 0 }), [2, 2, 2], [0, 3, 2, -1, 2, -3, 2, 3]);
  await close(
    ifft(x, { n: 4, axis: -2, norm: "forward" }),
    [4, 2, 2],
    [4, 4, 2.5, -1, -6, -2, 3.5, 1, 6, -2, 2.5, 3, 0, 0, -0.5, 1],
  );
  // np.fft.rfft([[1, 2], [3, 4], [5, 7]], axis=0, norm="forward"), and back with n=3.
  using real = device.tensor([1, 2, 3, 4, 5, 7], [3, 2]);
  using half = rfft(real, { axis: 0, norm: "forward" });
  const s = Math.sqrt(3) / 6;
  await close(half, [2, 2, 2], [3, 0, 13 / 3, 0, -1, 2 * s, -7 / 6, 3 * s]);
  await close(irfft(half, 3, { axis: 0, norm: "forward" }), [3, 2], [1, 2, 3, 4, 5, 7]);
  // np.fft.irfft([1, 1j, 2]) and of fewer bins, of more.
  using bins = device.tensor([1, 0, 0, 1, 2, 0], [3, 2]);
  await close(irfft(bins), [4], [0.75, -0.75, 0.75, 0.25]);
  await close(irfft(bins, 2), [2], [0.5, 0.5]);
  const [a, b] = [-0.4553418013, 0.1220084679];
  await close(irfft(bins, 6), [6], [5 / 6, a, a, 5 / 6, b, b]);
});

test("frames of any size are transformed", async () => {
  const host = Float32Array.from(refRandom([100], 3).data);
  using x = device.tensor(host);
  using y = stft(x, { size: 37, hop: 21 });
  assertEquals(y.shape, [4, 19, 2]);
  const spectra = await y.data() as Float32Array;
  for (let f = 0; f < 4; f++) {
    const frame = host.subarray(21 * f, 21 * f + 37);
    const spectrum = spectra.subarray(38 * f, 38 * f + 38);
    assert(errorOf(frame, false, spectrum, [...Array(19).keys()]) < 1e-6);
  }
});

test("frequencies and their order are NumPy's", async () => {
  assertEquals(await values(fftfreq(device, 5, 0.5)), [0, 0.4, 0.8, -0.8, -0.4].map(Math.fround));
  assertEquals(await values(fftfreq(device, 4)), [0, 0.25, -0.5, -0.25]);
  assertEquals(await values(rfftfreq(device, 6, 0.5)), [0, 1 / 3, 2 / 3, 1].map(Math.fround));
  using x = device.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [2, 5]);
  assertEquals(await values(fftshift(x, 1)), [3, 4, 0, 1, 2, 8, 9, 5, 6, 7]);
  assertEquals(await values(fftshift(x, [0, -1])), [8, 9, 5, 6, 7, 3, 4, 0, 1, 2]);
  assertEquals(await values(ifftshift(fftshift(x, [0, 1]), [0, 1])), [...Array(10).keys()]);
});

test("what is no signal is refused with what is needed", () => {
  using x = device.zeros([3, 5]);
  using pairs = device.zeros([3, 5, 2]);
  const cases: [() => unknown, RegExp][] = [
    [() => fft(x), /fft: x is a tensor \[3, 5\] of f32; floats with a last axis of 2/],
    [() => fft(device.zeros([3, 2], "u32")), /fft: x is a tensor \[3, 2\] of u32/],
    [() => rfft(device.zeros([3], "i32")), /rfft: x is a tensor \[3\] of i32; floats are needed/],
    [() => fft(pairs, { axis: 2 }), /fft: axis 2 does not exist in a tensor of rank 2/],
    [() => fft(pairs, { n: 0 }), /fft: the length is 0, a whole number from 1/],
    [() => fft(pairs, { n: 1.5 }), /fft: the length is 1.5/],
    [() => ifft(pairs, { norm: "none" as "ortho" }), /ifft: norm is "none"; backward, ortho/],
    [() => irfft(device.zeros([1, 2])), /irfft: the length is 0/],
    [() => rfft(device.zeros([3, 0])), /rfft: the length is 0/],
    [() => fft(permute(pairs, [0, 2, 1])), /fft: x is a tensor \[3, 2, 5\]/],
    [() => fft(pairs, { size: 3 } as object), /fft: the option size is given/],
    [() => fftfreq(device, 0), /fftfreq: the length is 0/],
    [() => fftshift(x, 2), /fftshift: axis 2 does not exist/],
  ];
  for (const [call, message] of cases) {
    const { message: said } = assertThrows(call, ShapeError);
    assert(message.test(said), said);
  }
});

fullOnly("transforms of axes that are not last, and of views, are those of copies", async () => {
  using x = device.tensor(Float32Array.from(refRandom([4, 37, 3, 2], 8).data), [4, 37, 3, 2]);
  using y = fft(x, { axis: 1 });
  using moved = permute(x, [0, 2, 1, 3]);
  using z = permute(fft(moved), [0, 2, 1, 3]);
  assertEquals(await values(y), await values(z));
});
