/** Kaldi's filter bank against float64 written from its definition. */
import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { openDevice, ShapeError } from "../../../engine/mod.ts";
import {
  KALDI_128,
  KaldiFbank,
  kaldiFrames,
  kaldiMelFilterbank,
  poveyWindow,
} from "../../../model/frontend/kaldi_fbank.ts";

/** Log-mel of one frame, in float64, step by step as Kaldi has them. */
function reference(frame: Float32Array, scale: number): Float64Array {
  const [n, size] = [400, 512];
  const centre = frame.reduce((a, b) => a + b * scale, 0) / n;
  const x = Float64Array.from(frame, (it) => it * scale - centre);
  const y = x.map((it, i) => it - 0.97 * x[Math.max(0, i - 1)]);
  const z = y.map((it, i) => it * (0.5 - 0.5 * Math.cos(2 * Math.PI * i / (n - 1))) ** 0.85);
  const mel = (hz: number) => 1127 * Math.log(1 + hz / 700);
  const [low, high] = [mel(20), mel(8000)];
  const step = (high - low) / 129;
  const bands = new Float64Array(128);
  for (let k = 0; k < size / 2; k++) {
    let [re, im] = [0, 0];
    z.forEach((it, i) => {
      re += it * Math.cos(2 * Math.PI * k * i / size);
      im += it * Math.sin(2 * Math.PI * k * i / size);
    });
    const at = mel(k * 16000 / size);
    for (let band = 0; band < 128; band++) {
      const left = low + band * step;
      const weight = Math.max(0, Math.min((at - left) / step, (left + 2 * step - at) / step));
      bands[band] += weight * (re * re + im * im);
    }
  }
  return bands.map((it) => Math.log(Math.max(it, 2 ** -23)));
}

Deno.test("log-mel of Kaldi's filter bank is that of float64", async () => {
  using device = await openDevice();
  using fbank = new KaldiFbank(device);
  const samples = 403 + 2 * 160;
  const clips = Array.from({ length: 2 }, (_, clip) =>
    Float32Array.from(
      { length: samples },
      (_, n) => 0.3 + 0.2 * Math.sin(n * n * (clip + 1) * 1e-3) + 0.1 * (n * 7919 % 1013 / 1013),
    ));
  using waves = device.tensor(clips.flatMap((it) => [...it]), [2, samples]);
  for (const scale of [1, 32768]) {
    using out = fbank.apply(waves, scale);
    assertEquals(out.shape, [2, 3, 128]);
    const found = await out.data();
    for (let row = 0; row < 6; row++) {
      const clip = clips[Math.floor(row / 3)];
      const frame = clip.subarray(row % 3 * 160, row % 3 * 160 + 400);
      // Weights that torchaudio rounds by up to 1e-5, some of them small and alone in a filter.
      reference(frame, scale).forEach((it, band) =>
        assertAlmostEquals(found[row * 128 + band], it, 2e-3, `${scale} ${row} ${band}`)
      );
    }
  }
  using silence = device.zeros([1, 400]);
  using quiet = fbank.apply(silence);
  for (const it of await quiet.data()) assertAlmostEquals(it, -15.942385, 1e-5);
  using short = device.zeros([1, 399]);
  assertThrows(() => fbank.apply(short), ShapeError, "at least one frame of 400 samples");
});

Deno.test("24 of Kaldi's 128 filters hold one bin, the fourth none", () => {
  const filters = kaldiMelFilterbank(KALDI_128);
  const bins = Array.from(
    { length: 128 },
    (_, band) => filters.subarray(band * 257, (band + 1) * 257).filter((it) => it > 0).length,
  );
  assertEquals(bins.filter((it) => it === 1).length, 24);
  assertEquals(bins.flatMap((it, band) => it === 0 ? [band] : []), [3]);
  assertEquals(filters.filter((_, i) => i % 257 === 256).every((it) => it === 0), true);
});

Deno.test("Kaldi's window is symmetric from 0 to 1 to 0, and its frames lie inside", () => {
  const window = poveyWindow(401);
  assertEquals([window[0], window[200], window[400]], [0, 1, 0]);
  assertAlmostEquals(window[100], 0.5 ** 0.85, 1e-7);
  assertEquals([399, 400, 559, 560, 16000].map(kaldiFrames), [0, 1, 1, 2, 98]);
});
