/** Built-in sounds: lengths, levels, classes, determined by seed and index. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { SYNTHETIC_CLASSES, syntheticClip } from "../../../train/data/synthetic.ts";

Deno.test("synthetic corpus has at least seven classes, met in turn", () => {
  assert(SYNTHETIC_CLASSES.length >= 7);
  for (let index = 0; index < 2 * SYNTHETIC_CLASSES.length; index++) {
    const { label, target } = syntheticClip(1, index, 100);
    assertEquals(target, index % SYNTHETIC_CLASSES.length);
    assertEquals(label, SYNTHETIC_CLASSES[target]);
  }
});

Deno.test("synthetic clips have the length asked for, finite, audible and within full scale", () => {
  for (const samples of [1, 399, 16000, 33520]) {
    for (let index = 0; index < 3 * SYNTHETIC_CLASSES.length; index++) {
      const { waveform, label } = syntheticClip(7, index, samples);
      assertEquals(waveform.length, samples);
      assert(waveform.every(Number.isFinite), label);
      const peak = Math.max(...waveform.map(Math.abs));
      assert(peak <= 1 && peak > 0.05, `${label}: peak ${peak}`);
    }
  }
});

Deno.test("synthetic clip is determined by seed and index", () => {
  const clip = syntheticClip(3, 11, 8000).waveform;
  assertEquals(syntheticClip(3, 11, 8000).waveform, clip);
  assertNotEquals(syntheticClip(4, 11, 8000).waveform, clip);
  // Eight clips on is the same class again.
  const sameClass = syntheticClip(3, 11 + SYNTHETIC_CLASSES.length, 8000);
  assertEquals(sameClass.label, syntheticClip(3, 11, 8000).label);
  assertNotEquals(sameClass.waveform, clip);
});

Deno.test("synthetic classes differ in zero crossings or in their peak over mean level", () => {
  // Two features that need no front end already separate the class means; one class would not be
  // learnable alone.
  const features = SYNTHETIC_CLASSES.map((_, target) => {
    let crossings = 0, crest = 0;
    const clips = 12;
    for (let k = 0; k < clips; k++) {
      const index = target + k * SYNTHETIC_CLASSES.length;
      const { waveform } = syntheticClip(5, index, 32000);
      let peak = 0, power = 0;
      for (let i = 1; i < waveform.length; i++) {
        if (waveform[i] * waveform[i - 1] < 0) crossings++;
        peak = Math.max(peak, Math.abs(waveform[i]));
        power += waveform[i] ** 2;
      }
      crest += Math.log(peak / Math.sqrt(power / waveform.length)) / clips;
    }
    return [Math.log(crossings / clips), crest];
  });
  for (let a = 0; a < features.length; a++) {
    for (let b = 0; b < a; b++) {
      const distance = Math.hypot(
        features[a][0] - features[b][0],
        features[a][1] - features[b][1],
      );
      const pair = `${SYNTHETIC_CLASSES[a]}, ${SYNTHETIC_CLASSES[b]}`;
      assert(distance > 0.03, `${pair}: ${distance}`);
    }
  }
});
