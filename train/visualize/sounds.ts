/**
 * A chunk as sounds.
 *
 * @module
 */
import type { Encoder } from "../../model/encoder/encoder.ts";
import { logMelToWave } from "../../model/frontend/griffin_lim.ts";
import { HOP_SAMPLES } from "../../model/frontend/tables.ts";
import type { ClipInput } from "./clip.ts";
import { samplesOfFrames } from "./spectrogram.ts";
import { encodeWav } from "../audio/wav_write.ts";

/** A sound. */
export interface Sound {
  /** What it is. */
  readonly title: string;
  /** As a WAV file. */
  readonly wav: Uint8Array<ArrayBuffer>;
}

/**
 * The chunk as recorded, what its log-mel spectrogram keeps of it, and last the reconstruction.
 *
 * @param waveform of the clip
 * @param reconstruction [bands, frames] of the chunk, standardised; undefined where nothing was
 * reconstructed
 */
export async function chunkSounds(
  encoder: Encoder,
  waveform: Float32Array,
  { chunk, chunkFrames, chunkStart }: ClipInput,
  reconstruction: Float32Array | undefined,
  seed: number,
): Promise<Sound[]> {
  const sound = async (logmel: Float32Array) =>
    encodeWav(await logMelToWave(encoder.device, logmel, { ...encoder.frontend, seed }));
  const first = chunkStart * HOP_SAMPLES;
  return [
    {
      title: "The chunk as it was recorded",
      wav: encodeWav(waveform.subarray(first, first + samplesOfFrames(chunkFrames))),
    },
    { title: "What its log-mel spectrogram keeps of it", wav: await sound(chunk) },
    ...(reconstruction ? [{ title: "The reconstruction", wav: await sound(reconstruction) }] : []),
  ];
}
