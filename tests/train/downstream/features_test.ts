/** The log-mel baselines of probes against float64. */
import { assert, assertEquals } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { MATPAC_STATISTICS } from "../../../model/frontend/log_mel.ts";
import { FRAME_SAMPLES, MEL_80 } from "../../../model/frontend/tables.ts";
import { firstValues, MEL_MEANS, melSource } from "../../../train/downstream/probe/features.ts";
import { refLogMel } from "../../support/log_mel_reference.ts";

/** Mean and standard deviation over time of each band, in two passes. */
function moments(wave: Float32Array): number[] {
  const { mean, std } = MATPAC_STATISTICS;
  const logmel = refLogMel(wave, { mean, invStd: 1 / std });
  const frames = logmel.length / MEL_80.bands;
  const rows = Array.from(
    { length: MEL_80.bands },
    (_, b) => [...logmel.subarray(b * frames, (b + 1) * frames)],
  );
  const means = rows.map((row) => row.reduce((a, x) => a + x, 0) / frames);
  const deviations = rows.map((row, b) =>
    Math.sqrt(row.reduce((a, x) => a + (x - means[b]) ** 2, 0) / frames)
  );
  return [...means, ...deviations];
}

Deno.test("mean and deviation of log-mel over time follow float64", async () => {
  const random = new Prng(3);
  const noise = (length: number, from: number, to: number) =>
    Float32Array.from(
      { length },
      (_, i) => (from + (to - from) * i / length) * random.uniform(-1, 1),
    );
  const clips = new Map([
    ["fades", noise(6000, 0.01, 0.9)],
    ["one frame", noise(FRAME_SAMPLES, 0.5, 0.5)],
    ["below a frame", noise(100, 0.5, 0.5)],
  ]);
  using device = await openDevice();
  const audio = async function* () {
    for (const [key, wave] of clips) yield { key, audio: wave };
  };
  const found = new Map(await Array.fromAsync(melSource(device).compute(audio())));
  for (const [key, wave] of clips) {
    const whole = new Float32Array(Math.max(wave.length, FRAME_SAMPLES));
    whole.set(wave);
    const expected = moments(whole);
    // Log-mel in float32 is within 1e-5 of float64 in the weakest bands; a deviation of one frame
    // is 0 in both.
    const worst = expected.reduce((a, x, i) => Math.max(a, Math.abs(x - found.get(key)![i])), 0);
    assert(worst < 1e-5, `${key}: ${worst}`);
    assertEquals(firstValues(found, MEL_MEANS).get(key)!.length, MEL_80.bands);
  }
});
