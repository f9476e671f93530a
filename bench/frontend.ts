/**
 * The audio front end against transforms by definition.
 *
 * @module
 */
import { type Device, stft, type Tensor } from "../engine/mod.ts";
import { LogMel, MATPAC_STATISTICS } from "../model/frontend/log_mel.ts";
import {
  FRAME_SAMPLES,
  frameCount,
  hannPeriodic,
  HOP_SAMPLES,
  LOG_OFFSET,
  MEL_80,
  slaneyMelFilterbank,
  SPECTRUM_BINS,
} from "../model/frontend/tables.ts";
import { affordablePart, prepared, random } from "./case.ts";
import type { Benchmark } from "./harness.ts";
import { naive } from "./naive/kernels.ts";

const CLIPS = 16;
/** 608 frames: the base preset's crop. */
const SAMPLES = 97_520;
const FRAMES = frameCount(SAMPLES, false);
const SECONDS = CLIPS * SAMPLES / 16_000;
/** Window, then a real FFT counted in the customary way as 2.5 n log2 n. */
const STFT_FLOPS = FRAME_SAMPLES * (1 + 2.5 * Math.log2(FRAME_SAMPLES));
/** Powers, and two bands that each bin goes to. */
const MEL_FLOPS = SPECTRUM_BINS * (3 + 4);

function plainTables(device: Device): { window: Tensor; factors: Tensor } {
  const angle = (i: number) => -2 * Math.PI * (i >> 1) / FRAME_SAMPLES;
  const factors = Float32Array.from(
    { length: 2 * FRAME_SAMPLES },
    (_, i) => i % 2 === 0 ? Math.cos(angle(i)) : Math.sin(angle(i)),
  );
  return {
    window: device.tensor(hannPeriodic(FRAME_SAMPLES)),
    factors: device.tensor(factors, [FRAME_SAMPLES, 2]),
  };
}

function plainSpectrum(waves: Tensor, tables: ReturnType<typeof plainTables>, clips: number) {
  const spectrum = waves.device.empty([clips, FRAMES, SPECTRUM_BINS, 2]);
  naive(
    "dft",
    { SIZE: FRAME_SAMPLES, HOP: HOP_SAMPLES },
    [waves, tables.window, tables.factors, spectrum],
    { samples: SAMPLES, frames: FRAMES },
    spectrum.size / 2,
  );
  return spectrum;
}

const realTime = (ms: number) => ({ real_time: SECONDS / ms * 1000 });

/** 400 points every 160 samples; the transform by definition does some of the clips. */
export const FRONTEND_BENCHMARKS: readonly Benchmark[] = [
  {
    name: "logmel",
    tier: "check",
    bound: "fma",
    flops: CLIPS * FRAMES * (STFT_FLOPS + MEL_FLOPS),
    bytes: 4 * CLIPS * (SAMPLES + FRAMES * MEL_80.bands),
    prepare(device) {
      const waves = random(device, [CLIPS, SAMPLES], 0.2);
      const frontend = new LogMel(device);
      const tables = plainTables(device);
      const filters = device.tensor(slaneyMelFilterbank({ ...MEL_80, order: "torchaudio" }));
      const clips = affordablePart(device, CLIPS, 1);
      const { mean, std } = MATPAC_STATISTICS;
      return Promise.resolve(prepared(this.name, {
        operands: [waves, tables.window, tables.factors, filters],
        outputs: () => [frontend.apply(waves)],
        naive: {
          share: clips / CLIPS,
          // The logarithm of powers near zero, where both transforms round.
          tolerance: 1e-3,
          outputs() {
            const out = device.empty([clips, MEL_80.bands, FRAMES]);
            naive(
              "mel",
              { BANDS: MEL_80.bands, BINS: SPECTRUM_BINS },
              [plainSpectrum(waves, tables, clips), filters, out],
              { frames: FRAMES, eps: LOG_OFFSET, mean, deviation: std },
              out.size,
            );
            return [out];
          },
        },
        extra: realTime,
        close: () => frontend[Symbol.dispose](),
      }));
    },
  },
  {
    name: `stft/${FRAME_SAMPLES}x${HOP_SAMPLES}/${CLIPS}x${SAMPLES}`,
    tier: "quick",
    bound: "fma",
    flops: CLIPS * FRAMES * STFT_FLOPS,
    bytes: 4 * CLIPS * (SAMPLES + FRAMES * SPECTRUM_BINS * 2),
    prepare(device) {
      const waves = random(device, [CLIPS, SAMPLES], 0.2);
      const tables = plainTables(device);
      const clips = affordablePart(device, CLIPS, 1);
      const { window } = tables;
      return Promise.resolve(prepared(this.name, {
        operands: [waves, tables.window, tables.factors],
        outputs: () => [stft(waves, { size: FRAME_SAMPLES, hop: HOP_SAMPLES, window })],
        naive: {
          share: clips / CLIPS,
          outputs: () => [plainSpectrum(waves, tables, clips)],
        },
        extra: realTime,
      }));
    },
  },
];
