/** Crops at another speed against what they are of, in float64. */
import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { samplesOf } from "../../../train/data/crop.ts";
import { atSpeed, framesAtSpeed } from "../../../train/data/speed.ts";

const range = {
  frames: fc.integer({ min: 1, max: 60 }),
  speed: fc.double({ min: 0.1, max: 10, noNaN: true }),
};

Deno.test("speed: a tone sounds higher by the factor", () => {
  fc.assert(
    fc.property(fc.record(range), ({ frames, speed }) => {
      const taken = framesAtSpeed(frames, speed);
      // 40 samples a period at the least: there a cubic is good to (2 pi / 40)^3 / 10.
      const wave = (at: number) => Math.sin(2 * Math.PI * at / 40 + 0.3);
      const values = Float32Array.from({ length: samplesOf(taken) }, (_, i) => wave(i));
      const crop = atSpeed({ kind: "waveform", values }, speed, frames);
      assertEquals([crop.kind, crop.values.length], ["waveform", samplesOf(frames)]);
      for (const [i, it] of crop.values.entries()) {
        // What lies before the first sample is not known.
        const bound = i * speed < 1 ? 0.03 : 4e-4;
        assert(Math.abs(it - wave(i * speed)) < bound, `${it} at ${i} for ${wave(i * speed)}`);
      }
    }),
    { numRuns: 60, seed: 1 },
  );
});

Deno.test("speed: a spectrogram is stretched in time, each band for itself", () => {
  fc.assert(
    fc.property(fc.record(range), ({ frames, speed }) => {
      const taken = framesAtSpeed(frames, speed);
      // Linear in time, so that nothing but rounding is lost.
      const values = Float32Array.from(
        { length: 80 * taken },
        (_, i) => Math.floor(i / taken) + (i % taken) / 8,
      );
      const crop = atSpeed({ kind: "logmel", values }, speed, frames);
      assertEquals(crop.values.length, 80 * frames);
      for (const [i, it] of crop.values.entries()) {
        const expected = Math.floor(i / frames) + (i % frames) * speed / 8;
        assert(Math.abs(it - expected) < 1e-5 * (1 + expected), `${it} for ${expected}`);
      }
    }),
    { numRuns: 60, seed: 1 },
  );
});
