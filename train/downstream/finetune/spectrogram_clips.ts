/**
 * Labelled clips as fine-tuning takes them: log-mel spectrograms that are computed once and kept in
 * memory.
 *
 * @module
 */
import type { Device, PendingRead } from "../../../engine/mod.ts";
import type { LogMelAudio } from "../../../model/encoder/chunks.ts";
import {
  type FrontendSettings,
  LogMel,
  MATPAC_STATISTICS,
} from "../../../model/frontend/log_mel.ts";
import {
  FRAME_SAMPLES,
  frameCount,
  HOP_SAMPLES,
  LOG_OFFSET,
  MEL_80,
} from "../../../model/frontend/tables.ts";
import { yieldToEventLoop } from "../../io/event_loop.ts";
import { SAMPLE_RATE } from "../../audio/decode.ts";
import { InterruptedError, UsageError } from "../../errors.ts";
import { decodedClips, type DecodeOptions } from "../probe/features.ts";

/** Most bytes of spectrograms that are kept: some 36 hours of audio. */
const MOST_BYTES = 2 ** 32;
/** Spectrograms that are on their way from the device. */
const MOST_READS = 16;
/** Samples behind a clip after which no frame reaches back into it. */
const TAIL_SAMPLES = 3 * HOP_SAMPLES;

/** A clip's spectrogram; silence follows it. */
export class SpectrogramClip {
  /**
   * Takes it over.
   *
   * @param values [80, stored], standardised; frames behind `frames` reach over the clip's end
   * @param frames frames inside the clip, at least one
   * @param silence what silence has
   */
  constructor(
    readonly values: Float32Array,
    readonly frames: number,
    readonly silence: number,
  ) {}

  /** Writes frames `start` to `start + count` as [80, count], with silence behind the clip. */
  copyTo(target: Float32Array, start: number, count: number): void {
    const stored = this.values.length / MEL_80.bands;
    for (let band = 0; band < MEL_80.bands; band++) {
      const row = this.values.subarray(band * stored, (band + 1) * stored);
      const own = row.subarray(start, Math.min(stored, start + count));
      target.set(own, band * count);
      target.fill(this.silence, band * count + own.length, (band + 1) * count);
    }
  }

  /** The first frames, with silence behind the clip, or without a number the clip as it is. */
  firstFrames(count: number = this.frames): LogMelAudio {
    const logMel = new Float32Array(MEL_80.bands * count);
    this.copyTo(logMel, 0, count);
    return { logMel, standardised: true };
  }
}

/** Seconds of audio whose frames are so many. */
export function secondsOf(frames: number, { framing }: FrontendSettings): number {
  const window = framing === "centred" ? 0 : FRAME_SAMPLES;
  return ((frames - 1) * HOP_SAMPLES + window) / SAMPLE_RATE;
}

/** What {@link spectrogramClips} works with. */
export interface ClipsOptions extends Pick<DecodeOptions, "pool" | "onSkip" | "signal"> {
  /** Computes. */
  readonly device: Device;
  /** The encoder's front end. */
  readonly frontend: FrontendSettings;
  /** Called with files that are done, of how many, and the seconds of audio in them. */
  readonly onProgress?: (done: number, total: number, seconds: number) => void;
}

/**
 * Spectrograms of audio files.
 *
 * @returns by path; files that cannot be used are missing
 * @throws {UsageError} if they are larger than 4 GiB together
 * @throws {InterruptedError} when the signal aborted.
 */
export async function spectrogramClips(
  paths: readonly string[],
  { device, frontend, pool, onProgress, onSkip, signal }: ClipsOptions,
): Promise<Map<string, SpectrogramClip>> {
  const { framing, statistics = MATPAC_STATISTICS } = frontend;
  const centre = framing === "centred";
  using logmel = new LogMel(device, {
    centre,
    statistics,
    order: centre ? "nnaudio" : "torchaudio",
  });
  const silence = (Math.log(LOG_OFFSET) - statistics.mean) / statistics.std;
  const clips = new Map<string, SpectrogramClip>();
  const files = [...new Set(paths)].map((path) => [path, path] as const);
  let [done, bytes, heard] = [0, 0, 0];
  const reads: { readonly path: string; readonly frames: number; readonly read: PendingRead }[] =
    [];
  const collect = async () => {
    const { path, frames, read } = reads.shift()!;
    const [values] = await read.values();
    clips.set(path, new SpectrogramClip(values as Float32Array, frames, silence));
  };
  const decoded = decodedClips(files, {
    ...{ pool, onSkip, sampleRate: SAMPLE_RATE },
    onAudio: (seconds) => heard += seconds,
  });
  for await (const { key: path, audio, failed } of decoded) {
    await yieldToEventLoop();
    if (signal?.aborted) throw new InterruptedError("interrupted");
    try {
      for await (const waveform of audio) {
        const { wave, frames } = framed(waveform, centre);
        using input = device.tensor(wave, [1, wave.length]);
        using output = logmel.apply(input);
        bytes += 4 * output.size;
        if (bytes > MOST_BYTES) {
          throw new UsageError(
            "--finetune: the clips' spectrograms are larger than 4 GiB, which are kept in memory",
            "it takes some 36 hours of audio; use a part of the folder",
          );
        }
        reads.push({ path, frames, read: device.readLater([output]) });
      }
    } catch (error) {
      failed(error);
    }
    if (reads.length >= MOST_READS) await collect();
    onProgress?.(++done, files.length, heard);
  }
  while (reads.length > 0) await collect();
  return clips;
}

/** A waveform as the front end takes it, with the number of frames inside of it. */
function framed(
  waveform: Float32Array,
  centre: boolean,
): { readonly wave: Float32Array; readonly frames: number } {
  // Embedding takes what is shorter with silence behind it; mirrored ends need more samples than
  // they add.
  const least = centre ? FRAME_SAMPLES / 2 + 1 : FRAME_SAMPLES;
  const samples = Math.max(waveform.length, least);
  // Mirrored ends leave no room for silence that begins inside a frame.
  const wave = new Float32Array(samples + (centre ? 0 : TAIL_SAMPLES));
  wave.set(waveform);
  return { wave, frames: frameCount(samples, centre) };
}
