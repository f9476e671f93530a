/** Log-mel back to sound: the filters' inverse, phases, framing, what is refused. */
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { istft, openDevice, ShapeError, stft } from "../../../engine/mod.ts";
import { LogMel } from "../../../model/frontend/log_mel.ts";
import {
  hannPeriodic,
  LOG_OFFSET,
  MEL_80,
  slaneyMelFilterbank,
  SPECTRUM_BINS,
} from "../../../model/frontend/tables.ts";
import { griffinLim, logMelToWave, melToPower } from "../../../model/frontend/griffin_lim.ts";
import { Prng } from "../../../engine/prng.ts";
import { syntheticClip } from "../../../train/data/synthetic.ts";
import { full, test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const BANDS = MEL_80.bands;

/** Two tones, a chirp over the whole range, and a clip of the built-in sounds. */
function sounds(): Map<string, Float32Array> {
  const wave = (f: (seconds: number) => number) =>
    Float32Array.from({ length: 24_000 }, (_, n) => f(n / 16_000));
  const turn = (cycles: number) => Math.sin(2 * Math.PI * cycles);
  return new Map([
    ["tones", wave((s) => 0.5 * turn(440 * s) + 0.1 * turn(3000 * s))],
    ["chirp", wave((s) => 0.5 * turn(100 * s + 2500 * s * s))],
    ["clip", syntheticClip(1, 0, 24_000).waveform],
  ]);
}

test("mel filters inverted: no bin is negative, and the bands come back", () => {
  const random = new Prng(1);
  const frames = 7;
  // A spectrum that exists, over 8 decades.
  const power = Float32Array.from(
    { length: frames * SPECTRUM_BINS },
    () => 10 ** random.uniform(-4, 4),
  );
  const filters = slaneyMelFilterbank({ ...MEL_80, order: "nnaudio" });
  const melOf = (power: Float32Array) =>
    Float32Array.from({ length: BANDS * frames }, (_, i) => {
      const [band, frame] = [Math.floor(i / frames), i % frames];
      let sum = 0;
      for (let bin = 0; bin < SPECTRUM_BINS; bin++) {
        sum += filters[bin * BANDS + band] * power[frame * SPECTRUM_BINS + bin];
      }
      return sum;
    });
  const mel = melOf(power);
  const found = melToPower(mel);
  assertEquals(found.length, power.length);
  assert(found.every((it) => it >= 0));
  for (let frame = 0; frame < frames; frame++) {
    for (const bin of [0, 1, 200]) assertEquals(found[frame * SPECTRUM_BINS + bin], 0);
  }
  const errors = melOf(found).map((it, i) => Math.abs(Math.log(it / mel[i])));
  // Neighbouring bins four decades apart are the worst there is; the steps approach them slowly.
  assert(errors.reduce((a, b) => a + b, 0) / errors.length < 0.02);
  assertEquals(melToPower(new Float32Array(BANDS)), new Float32Array(SPECTRUM_BINS));
  assertThrows(() => melToPower(new Float32Array(81)), ShapeError, "81 values are no frames");
  assertThrows(() => melToPower(new Float32Array(0)), ShapeError);
});

test("istft of stft is the signal where windows overlap", async () => {
  const random = new Prng(2);
  const values = Float32Array.from({ length: 400 + 9 * 160 }, () => random.normal());
  using x = device.tensor(values);
  using window = device.tensor(hannPeriodic(400, "nnaudio"));
  const options = { size: 400, hop: 160, window };
  using spectrum = stft(x, options);
  using back = istft(spectrum, options);
  const found = await back.data();
  assertEquals(found.length, values.length);
  // Towards the ends one window alone reaches a sample, and its rounding is divided by it.
  for (let n = 160; n < values.length - 160; n++) assertAlmostEquals(found[n], values[n], 1e-5);
});

Deno.test("log-mel to sound: its log-mel is close in both framings, bits repeat", async () => {
  for (const framing of ["inside", "centred"] as const) {
    using frontend = new LogMel(device, {
      statistics: { mean: -7, std: 4 },
      centre: framing === "centred",
      order: "nnaudio",
    });
    const logmelOf = async (wave: Float32Array) => {
      using input = device.tensor(wave, [1, wave.length]);
      using logmel = frontend.apply(input);
      return await logmel.data() as Float32Array;
    };
    for (const [name, wave] of sounds()) {
      if (!full && (framing === "centred" || name === "chirp")) continue;
      const wanted = await logmelOf(wave);
      const options = { framing, statistics: { mean: -7, std: 4 } };
      const sound = await logMelToWave(device, wanted, options);
      const frames = wanted.length / BANDS;
      assertEquals(sound.length, framing === "centred" ? 160 * (frames - 1) : 160 * frames + 240);
      assert(sound.every(Number.isFinite));
      const found = await logmelOf(sound);
      assertEquals(found.length, wanted.length);
      const amplitude = (x: number) => Math.exp((4 * x - 7) / 2);
      let [error, size] = [0, 0];
      wanted.forEach((x, i) => {
        error += (amplitude(found[i]) - amplitude(x)) ** 2;
        size += amplitude(x) ** 2;
      });
      // Spectral convergence on mel bands. Measured 0.02 to 0.10; random phases without any round
      // give above 0.4.
      const convergence = Math.sqrt(error / size);
      assert(convergence < 0.15, `${framing} ${name}: ${convergence}`);
      if (name !== "clip") continue;
      const again = await logMelToWave(device, wanted, options);
      assertEquals(again, sound);
      const other = await logMelToWave(device, wanted, { ...options, seed: 1 });
      assert(other.some((it, n) => it !== sound[n]));
    }
  }
});

test("log-mel to sound: silence is silent, wrong shapes are refused", async () => {
  const silence = new Float32Array(BANDS * 5).fill(Math.log(LOG_OFFSET));
  const sound = await logMelToWave(device, silence, { statistics: null, rounds: 2 });
  assert(sound.every((it) => Math.abs(it) < 1e-3));
  for (const length of [0, 79, 100]) {
    await assertRejects(
      () => logMelToWave(device, new Float32Array(length)),
      ShapeError,
      "mel bands",
    );
    await assertRejects(() => griffinLim(device, new Float32Array(length)), ShapeError, "201 bins");
  }
  await assertRejects(
    () => logMelToWave(device, new Float32Array(BANDS), { framing: "centred" }),
    ShapeError,
    "one centred frame",
  );
  const before = device.memory.liveBytes;
  await logMelToWave(device, silence, { rounds: 3 });
  assertEquals(device.memory.liveBytes, before);
});
