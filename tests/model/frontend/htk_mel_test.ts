/** Mel decibels against float64 written from their definition. */
import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { openDevice, ShapeError } from "../../../engine/mod.ts";
import { atstFrames, AtstMel } from "../../../model/frontend/htk_mel.ts";

const [SIZE, BANDS] = [1024, 64];
const TURNS = Float64Array.from({ length: SIZE }, (_, i) => Math.cos(2 * Math.PI * i / SIZE));

/** Decibels of all frames of a clip before floor and scale, [frames][64], in float64. */
function decibels(wave: Float32Array): Float64Array[] {
  const mirrored = (i: number) => wave[i < 0 ? -i : i >= wave.length ? 2 * wave.length - 2 - i : i];
  const mel = (hz: number) => 2595 * Math.log10(1 + hz / 700);
  const step = (mel(7800) - mel(60)) / (BANDS + 1);
  const edges = Array.from(
    { length: BANDS + 2 },
    (_, i) => 700 * (10 ** ((mel(60) + i * step) / 2595) - 1),
  );
  return Array.from({ length: 1 + Math.floor(wave.length / 160) }, (_, frame) => {
    const x = Float64Array.from(
      { length: SIZE },
      (_, i) => mirrored(frame * 160 + i - SIZE / 2) * (0.5 - 0.5 * TURNS[i]),
    );
    const power = Float64Array.from({ length: SIZE / 2 + 1 }, (_, k) => {
      let [re, im] = [0, 0];
      x.forEach((it, i) => {
        re += it * TURNS[i * k % SIZE];
        im += it * TURNS[(i * k + SIZE / 4) % SIZE];
      });
      return re * re + im * im;
    });
    return Float64Array.from({ length: BANDS }, (_, band) => {
      const [left, centre, right] = edges.slice(band, band + 3);
      const sum = power.reduce((all, it, k) => {
        const hz = k * 16000 / SIZE;
        const weight = Math.min((hz - left) / (centre - left), (right - hz) / (right - centre));
        return all + Math.max(0, weight) * it;
      }, 0);
      return 10 * Math.log10(Math.max(sum, 1e-10));
    });
  });
}

Deno.test("mel decibels are those of float64, with a floor for each clip", async () => {
  using device = await openDevice();
  using mel = new AtstMel(device);
  const samples = 2101;
  // Of very different loudness; between their mirrored ends most bands lie below the floor.
  const clips = [1, 1e-3].map((loud) =>
    Float32Array.from(
      { length: samples },
      (_, n) => loud * (0.5 * Math.sin(0.3 * n) + 1e-5 * (n * 7919 % 1013 / 1013 - 0.5)),
    )
  );
  using waves = device.tensor(clips.flatMap((it) => [...it]), [2, samples]);
  using out = mel.apply(waves);
  assertEquals(out.shape, [2, 14, BANDS]);
  const found = await out.data();
  let floored = 0;
  clips.forEach((wave, clip) => {
    const rows = decibels(wave);
    const loudest = Math.max(...rows.map((row) => Math.max(...row)));
    rows.forEach((row, frame) =>
      row.forEach((it, band) => {
        if (it < loudest - 80) floored++;
        const expected = (Math.max(it, loudest - 80) + 79.6482) / (50.6842 + 79.6482) * 2 - 1;
        // 80 dB are a factor of 1e8 in power, beside which float32's noise is some 1e-14: 1e-6 of
        // the weakest, and filters rounded to float32; a unit is 65 dB.
        assertAlmostEquals(found[(clip * 14 + frame) * BANDS + band], expected, 2e-5);
      })
    );
  });
  assertEquals(floored > 0, true);
  using short = device.zeros([1, 512]);
  assertThrows(() => mel.apply(short), ShapeError, "at least 513 samples");
  assertEquals([512, 513, 16000].map(atstFrames), [0, 4, 101]);
});
