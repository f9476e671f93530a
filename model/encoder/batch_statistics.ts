/**
 * Log-mel spectrograms standardised by their own statistics, as MSM-MAE's runtime has it
 * (model/README.md, Embeddings): an embedding then depends on what it is computed together with.
 *
 * @module
 */
import { type Device, type HostArray, scope } from "../../engine/functions.ts";
import { type Audio, type LogMelAudio, needFinite, needSound } from "./chunks.ts";
import { type FrontendSettings, LogMel } from "../frontend/log_mel.ts";
import { CENTRE_PAD, FRAME_SAMPLES } from "../frontend/tables.ts";

/**
 * Log-mel of clips, less the mean of all their values and divided by the unbiased standard
 * deviation, without an epsilon.
 *
 * @param clips waveforms, or log-mel values as they are
 * @returns spectrograms in the order of the clips
 * @throws {RangeError} if there are no two different values to take a deviation of.
 * @throws {ShapeError} for a sample or a value that is NaN, infinite or too large.
 */
export async function standardisedTogether(
  device: Device,
  clips: readonly Audio[],
  { framing = "inside" }: Pick<FrontendSettings, "framing">,
): Promise<LogMelAudio[]> {
  const centre = framing === "centred";
  using frontend = new LogMel(device, {
    statistics: null,
    centre,
    order: centre ? "nnaudio" : "torchaudio",
  });
  const least = centre ? CENTRE_PAD + 1 : FRAME_SAMPLES;
  const logMels = await Promise.all(clips.map((audio): HostArray | Promise<HostArray> => {
    if ("logMel" in audio) {
      needFinite(audio.logMel);
      return audio.logMel;
    }
    needSound(audio);
    const wave = new Float32Array(Math.max(audio.length, least));
    wave.set(audio);
    using logMel = scope(() => frontend.apply(device.tensor(wave, [1, wave.length])));
    return logMel.data();
  }));
  let count = 0, mean = 0, squares = 0;
  for (const values of logMels) {
    for (const x of values) {
      const difference = x - mean;
      mean += difference / ++count;
      squares += difference * (x - mean);
    }
  }
  const deviation = Math.sqrt(squares / (count - 1));
  if (!(deviation > 0)) throw new RangeError("batch statistics need values that differ");
  return logMels.map((values) => ({
    logMel: Float32Array.from(values as Float32Array, (x) => (x - mean) / deviation),
    standardised: true,
  }));
}
