/**
 * Front-end tables against the official ones, and kernels/log_mel.wgsl with these tables against
 * the official spectrograms, the golden values of model/README.md, Front end, and a float64
 * computation. Works for any set of waveforms in the reference file.
 */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { defineKernel, type Device, openDevice } from "../../../engine/mod.ts";
import logmelSource from "../../../kernels/log_mel.wgsl" with { type: "text" };
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import { refLogMel } from "../../support/log_mel_reference.ts";
import {
  CENTRE_PAD,
  FRAME_SAMPLES,
  frameCount,
  hannPeriodic,
  HOP_SAMPLES,
  hzToMel,
  LOG_OFFSET,
  logmelTable,
  MEL_80,
  melToHz,
  packMel,
  slaneyMelFilterbank,
  SPECTRUM_BINS,
  type TableOrder,
} from "../../../model/frontend/tables.ts";

const { tensors } = readSafetensors(
  Deno.readFileSync(new URL("../../golden/frontend.safetensors", import.meta.url)),
);
const BANDS = MEL_80.bands;
const kernel = defineKernel("log_mel", logmelSource);

function golden(name: string): Float32Array {
  const data = tensors.get(name)?.data;
  if (!(data instanceof Float32Array)) {
    throw new Error(`no float32 tensor ${name} in the reference file`);
  }
  return data;
}

interface Options {
  readonly clips?: number;
  readonly centre?: boolean;
  readonly order?: TableOrder;
  readonly power?: boolean;
  readonly mean?: number;
  readonly invStd?: number;
  readonly groups?: number;
  readonly pairs?: number;
}

/** Log-mel [clips, bands, frames] or power [clips, bins, frames] of equally long clips. */
async function run(
  device: Device,
  waves: Float32Array,
  options: Options = {},
): Promise<Float32Array> {
  const { clips = 1, centre = false, order = "torchaudio", power = false } = options;
  const { groups = 2, pairs = 2 } = options;
  const samples = waves.length / clips;
  const frames = frameCount(samples, centre);
  const packed = packMel(slaneyMelFilterbank({ ...MEL_80, order }), SPECTRUM_BINS, BANDS);
  using wave = device.tensor(waves);
  using table = device.tensor(logmelTable(hannPeriodic(FRAME_SAMPLES, order)));
  using bands = device.tensor(packed.bands);
  using weights = device.tensor(packed.weights);
  using out = device.full([clips, power ? SPECTRUM_BINS : BANDS, frames], NaN);
  device.run(
    kernel,
    { GROUPS: groups, PAIRS: pairs, HOP: HOP_SAMPLES, BANDS, POWER_OUT: power },
    power ? [wave, table, out] : [wave, table, bands, weights, out],
    {
      clips,
      samples,
      frames,
      pad: centre ? CENTRE_PAD : 0,
      eps: LOG_OFFSET,
      mean: options.mean ?? 0,
      inv_std: options.invStd ?? 1,
    },
    clips * Math.ceil(frames / (2 * pairs * groups)),
  );
  return await out.data() as Float32Array;
}

async function withDevice(body: (device: Device) => Promise<void>): Promise<void> {
  const device = await openDevice();
  try {
    await body(device);
  } finally {
    device[Symbol.dispose]();
  }
}

function largestDifference(a: Float32Array, b: ArrayLike<number>): number {
  assertEquals(a.length, b.length);
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i] - b[i]);
    if (!(difference <= worst)) worst = difference;
  }
  return worst;
}

function largest(x: ArrayLike<number>): number {
  return Array.from(x).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
}

Deno.test("window is torch's up to a unit in the last place", () => {
  assert(largestDifference(hannPeriodic(400), golden("matpac.window")) <= 2 ** -24);
  const exact = Float64Array.from(
    { length: 400 },
    (_, n) => 0.5 - 0.5 * Math.cos(Math.PI * n / 200),
  );
  assert(largestDifference(hannPeriodic(400, "nnaudio"), exact) <= 2 ** -25);
});

Deno.test("filterbanks equal the official ones", () => {
  const torchaudio = slaneyMelFilterbank({ ...MEL_80, order: "torchaudio" });
  const official = golden("matpac.mel_fb");
  assert(largestDifference(torchaudio, official) <= 4e-8);
  torchaudio.forEach((value, i) => {
    assertEquals(value === 0, official[i] === 0);
    assert(Math.abs(value - official[i]) <= 3e-4 * official[i], `weight ${i}`);
  });
  const basis = golden("nnaudio.mel_basis");
  const nnaudio = slaneyMelFilterbank({ ...MEL_80, order: "nnaudio" });
  nnaudio.forEach((value, i) =>
    assertEquals(value, basis[i % BANDS * SPECTRUM_BINS + Math.floor(i / BANDS)])
  );
});

Deno.test("filterbank has the golden edges and weights of model/README.md", () => {
  const edge = (i: number): number => melToHz(0.75 + i * (hzToMel(8000) - 0.75) / (BANDS + 1));
  const edges: [number, number][] = [
    [0, 50],
    [1, 86.62193],
    [2, 123.24385],
    [3, 159.86578],
    [4, 196.48771],
    [79, 7417.98062],
    [80, 7703.49563],
    [81, 8000],
  ];
  for (const [i, hz] of edges) assertAlmostEquals(edge(i), hz, 1e-5);
  for (const order of ["torchaudio", "nnaudio"] as const) {
    const { bands, weights } = packMel(
      slaneyMelFilterbank({ ...MEL_80, order }),
      SPECTRUM_BINS,
      BANDS,
    );
    const filter = (i: number): [number, ...number[]] => {
      const [first, count, offset] = bands.subarray(4 * i);
      return [first, ...weights.subarray(offset, offset + count)];
    };
    const expected: [number, number, number[]][] = [
      [0, 2, [.02236860, .00241868]],
      [1, 3, [.02488736]],
      [10, 11, [.01773140, .00705589]],
      [40, 43, [.00444273, .01360263, .00750382]],
    ];
    for (const [i, first, values] of expected) {
      const [from, ...found] = filter(i);
      assertEquals([from, found.length], [first, values.length]);
      found.forEach((value, j) => assertAlmostEquals(value, values[j], 2e-7));
    }
    const [from, ...found] = filter(79);
    assertEquals([from, found.length], [186, 14]);
    assertAlmostEquals(Math.max(...found), .00324504, 2e-7);
    for (let i = 0; i < BANDS; i++) assert(bands[4 * i + 1] > 0, `filter ${i} is empty`);
  }
});

Deno.test("packMel and logmelTable hold what they are given", () => {
  const table = new Float32Array([0, 0, 0, 1, 0, 0, 2, 0, 3, 0, 0, 0]); // 4 bins, 3 bands
  assertEquals(packMel(table, 4, 3), {
    bands: new Uint32Array([1, 2, 0, 0, 0, 0, 2, 0, 2, 1, 2, 0]),
    weights: new Float32Array([1, 2, 3]),
  });
  assertEquals(packMel(new Float32Array(4), 4, 1).weights.length, 1);
  const rows = logmelTable(Float32Array.from({ length: 400 }, (_, n) => n));
  assertEquals([...rows.subarray(60 * 3, 60 * 3 + 3)], [3, 23, 43]);
  assertEquals(rows[60 * 7 + 20 + 2 * 9], Math.fround(Math.cos(-2 * Math.PI * 63 / 400)));
  assertEquals(rows[60 * 7 + 21 + 2 * 9], Math.fround(Math.sin(-2 * Math.PI * 63 / 400)));
  assertThrows(() => logmelTable(new Float32Array(512)), RangeError, "512");
});

Deno.test("frame counts", () => {
  const cases: [number, boolean, number][] = [
    [399, false, 0],
    [400, false, 1],
    [559, false, 1],
    [560, false, 2],
    [97_520, false, 608],
    [200, true, 0],
    [201, true, 2],
    [16_000, true, 101],
    [16_000, false, 98],
  ];
  for (const [samples, centre, frames] of cases) assertEquals(frameCount(samples, centre), frames);
});

Deno.test("log-mel and power of the reference waveforms", async (t) => {
  await withDevice(async (device) => {
    let checks = 0;
    for (const name of tensors.keys()) {
      const [, kind, wave] = /^(matpac\.power|matpac\.logmel|nnaudio\.logmel)\.(.+)$/.exec(name) ??
        [];
      if (kind === undefined) continue;
      checks++;
      await t.step(name, async () => {
        const centre = kind === "nnaudio.logmel";
        const found = await run(device, golden(`wave.${wave}`), {
          centre,
          order: centre ? "nnaudio" : "torchaudio",
          power: kind === "matpac.power",
        });
        const expected = golden(name);
        // Eight times what separates the official float32 code from float64 (tests/README.md,
        // Golden files).
        const tolerance = 8 *
          (kind === "matpac.power"
            ? 3.5e-7 * largest(expected)
            : centre
            ? 5e-4
            : wave.includes("chirp")
            ? 1.4e-3
            : 2e-5);
        const error = largestDifference(found, expected);
        assert(error <= tolerance, `largest error ${error}, tolerance ${tolerance}`);
      });
    }
    assert(checks > 0);
  });
});

Deno.test("log-mel of the two sines of model/README.md, Front end", async () => {
  await withDevice(async (device) => {
    const wave = Float32Array.from(
      { length: 16000 },
      (_, n) =>
        0.5 * Math.sin(2 * Math.PI * 440 * n / 16000) +
        0.1 * Math.sin(2 * Math.PI * 3000 * n / 16000),
    );
    const mean = (x: Float32Array): number => x.reduce((a, b) => a + b, 0) / x.length;
    const matpac = await run(device, wave);
    assertEquals(matpac.length, 80 * 98);
    assertAlmostEquals(matpac[10 * 98 + 50], 3.88647, 1e-4);
    assertAlmostEquals(matpac[11 * 98 + 50], 2.53816, 1e-4);
    assertAlmostEquals(matpac[0], -15.94239, 1e-4);
    assertAlmostEquals(matpac[11 * 98], 2.53816, 1e-4);
    assertAlmostEquals(mean(matpac), -14.45676, 1e-4);
    const m2d = await run(device, wave, { centre: true, order: "nnaudio" });
    assertEquals(m2d.length, 80 * 101);
    assertAlmostEquals(m2d[10 * 101 + 50], 3.88647, 1e-4);
    assertAlmostEquals(m2d[11 * 101 + 50], 2.53816, 1e-4);
    assertAlmostEquals(m2d[0], -0.06292, 1e-4);
    assertAlmostEquals(m2d[11 * 101], 3.01409, 1e-4);
    assertAlmostEquals(mean(m2d), -14.13921, 1e-4);
  });
});

Deno.test("log-mel at odd frame counts, several clips, standardised, in every layout", async () => {
  await withDevice(async (device) => {
    let state = 1;
    const noise = (length: number): Float32Array =>
      Float32Array.from({ length }, () => {
        state = Math.imul(state, 1664525) + 1013904223 >>> 0;
        return state / 2 ** 32 - 0.5;
      });
    const mean = -7.056, invStd = 1 / 4.193;
    const layouts: [number, number][] = [[2, 2], [2, 1], [4, 1]];
    // 1, 2, 7 and 9 frames; centred 2 (mirrored from both ends at once), 3 and 11.
    const lengths: [number, boolean][] = [
      [401, false],
      [560, false],
      [1400, false],
      [1680, false],
      [201, true],
      [479, true],
      [1601, true],
    ];
    for (const [length, centre] of lengths) {
      const clips = [noise(length), noise(length), noise(length)];
      const waves = new Float32Array(3 * length);
      clips.forEach((clip, i) => waves.set(clip, i * length));
      const options = { centre, mean, invStd, clips: 3 };
      const expected = clips.flatMap((clip) => [...refLogMel(clip, options)]);
      for (const [groups, pairs] of layouts) {
        const found = await run(device, waves, { ...options, groups, pairs });
        const error = largestDifference(found, expected);
        assert(error < 2e-5, `${length} samples, layout ${groups} x ${pairs}: error ${error}`);
      }
    }
  });
});

Deno.test("a damaged sample beyond the last frame leaves the last frame alone", async () => {
  await withDevice(async (device) => {
    const wave = Float32Array.from({ length: 559 }, (_, n) => Math.sin(n / 7));
    const clean = await run(device, wave);
    wave.fill(NaN, 400);
    assertEquals(await run(device, wave), clean);
  });
});
