/**
 * The audio front end on the GPU: waveforms to log-mel spectrograms in one kernel (model/README.md,
 * Front end).
 *
 * @module
 */
import source from "../../kernels/log_mel.wgsl" with { type: "text" };
import {
  defineKernel,
  type Device,
  rowChunks,
  rowsOf,
  ShapeError,
  type Tensor,
} from "../../engine/functions.ts";
import {
  CENTRE_PAD,
  FRAME_SAMPLES,
  frameCount,
  hannPeriodic,
  HOP_SAMPLES,
  LOG_OFFSET,
  logmelTable,
  MEL_80,
  packMel,
  slaneyMelFilterbank,
  SPECTRUM_BINS,
  type TableOrder,
} from "./tables.ts";

const kernel = defineKernel("log_mel", source, {
  // No filter is wider than the spectrum.
  rounds: ({ constants: { GROUPS, BANDS } }) =>
    Math.ceil(Number(BANDS) / (20 * Number(GROUPS))) * (SPECTRUM_BINS + 2) + 1,
});
/** Frames per workgroup are 2 * PAIRS * GROUPS; the fastest layout measured (see the kernel). */
const LAYOUT = { GROUPS: 2, PAIRS: 2 } as const;

/** Mean and standard deviation of log-mel values over AudioSet that MATPAC standardises with. */
export const MATPAC_STATISTICS = { mean: -7.056, std: 4.193 } as const;

/** How waveforms become log-mel. */
export interface FrontendSettings {
  /**
   * Where frames lie: `inside` the signal (default) is MATPAC's; `centred`, the signal's ends
   * mirrored, is that of M2D and MSM-MAE.
   */
  readonly framing?: "inside" | "centred";
  /** What log-mel values are standardised with; default the paper's. */
  readonly statistics?: { readonly mean: number; readonly std: number };
}

/** What a front end computes. */
export interface FrontendOptions {
  /**
   * Centred frames with mirrored ends (M2D, MSM-MAE) or frames inside the signal (MATPAC); default
   * false.
   */
  readonly centre?: boolean;
  /** Whose rounding of window and filters to reproduce; default torchaudio's, MATPAC's. */
  readonly order?: TableOrder;
  /**
   * Subtracted, then divided by; default {@link MATPAC_STATISTICS}, `null` leaves the log-mel raw.
   */
  readonly statistics?: { readonly mean: number; readonly std: number } | null;
}

/**
 * Log-mel spectrograms of 16 kHz mono audio: 80 Slaney bands from 50 to 8000 Hz, 25 ms windows
 * every 10 ms.
 */
export class LogMel implements Disposable {
  readonly #table: Tensor;
  readonly #bands: Tensor;
  readonly #weights: Tensor;
  readonly #options: Required<FrontendOptions>;

  /** Uploads window, filters and their tables. */
  constructor(readonly device: Device, options: FrontendOptions = {}) {
    this.#options = {
      centre: false,
      order: "torchaudio",
      statistics: MATPAC_STATISTICS,
      ...options,
    };
    const { order } = this.#options;
    const packed = packMel(slaneyMelFilterbank({ ...MEL_80, order }), MEL_80.bins, MEL_80.bands);
    this.#table = device.tensor(logmelTable(hannPeriodic(FRAME_SAMPLES, order)));
    this.#bands = device.tensor(packed.bands);
    this.#weights = device.tensor(packed.weights);
  }

  /**
   * Log-mel spectrograms, standardised unless switched off.
   *
   * @param waves [clips, samples], in [-1, 1]
   * @returns [clips, 80, frames]
   * @throws {ShapeError} if the audio is shorter than one frame (25 ms; 201 samples when centred),
   * or not dense f32.
   */
  apply(waves: Tensor): Tensor {
    return this.#run(waves, false);
  }

  /**
   * Power spectra before the mel filters.
   *
   * @param waves [clips, samples]
   * @returns [clips, 201, frames]
   * @throws {ShapeError} as {@link apply}.
   */
  power(waves: Tensor): Tensor {
    return this.#run(waves, true);
  }

  #run(waves: Tensor, power: boolean): Tensor {
    const { centre, statistics } = this.#options;
    const [clips, samples] = waves.shape;
    const frames = waves.shape.length === 2 ? frameCount(samples, centre) : 0;
    if (frames === 0) {
      throw new ShapeError(
        `log-mel: audio [${waves.shape}] is not [clips, samples] of at least one frame`,
      );
    }
    if (waves.dtype !== "f32" || !waves.dense) {
      throw new ShapeError(
        `log-mel: audio [${waves.shape}] is ${waves.dense ? waves.dtype : "a strided view"}; ` +
          "dense f32 is needed",
      );
    }
    const rows = power ? SPECTRUM_BINS : MEL_80.bands;
    const out = this.device.empty([clips, rows, frames]);
    for (const [first, count] of rowChunks(this.device, clips, [samples, rows * frames])) {
      const wave = rowsOf(waves, first, count, samples);
      const result = rowsOf(out, first, count, rows * frames);
      this.device.run(
        kernel,
        { ...LAYOUT, HOP: HOP_SAMPLES, BANDS: MEL_80.bands, POWER_OUT: power },
        power
          ? [wave, this.#table, result]
          : [wave, this.#table, this.#bands, this.#weights, result],
        {
          clips: count,
          samples,
          frames,
          pad: centre ? CENTRE_PAD : 0,
          eps: LOG_OFFSET,
          mean: statistics?.mean ?? 0,
          inv_std: 1 / (statistics?.std ?? 1),
        },
        count * Math.ceil(frames / (2 * LAYOUT.PAIRS * LAYOUT.GROUPS)),
      );
    }
    return out;
  }

  /** Frees the tables. */
  [Symbol.dispose](): void {
    for (const tensor of [this.#table, this.#bands, this.#weights]) tensor.dispose();
  }
}
