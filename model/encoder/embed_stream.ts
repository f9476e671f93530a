/**
 * Time steps of audio that is still coming in (model/README.md, Embeddings).
 *
 * @module
 */
import { FRAME_SAMPLES, frameCount, HOP_SAMPLES, SAMPLE_RATE } from "../frontend/tables.ts";
import { Resampler } from "../frontend/resample.ts";
import { joined } from "./chunks.ts";
import type { EmbedOptions } from "./embed_queue.ts";
import { needAudio } from "./embed_service.ts";
import type { Encoder } from "./encoder.ts";

/** How live audio is embedded. */
export interface StreamOptions extends Pick<EmbedOptions, "bands"> {
  /** Samples per second of the blocks; default 16,000. */
  readonly sampleRate?: number;
  /**
   * Most milliseconds of audio to wait for before steps are given, rounded to whole steps; default
   * a whole chunk. Each time all audio of a chunk's length up to now goes through the encoder, so
   * that shorter ones cost more.
   */
  readonly hopMs?: number;
  /** Ends the stream: its iterator throws the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A time step of live audio. */
export interface EmbeddedStep {
  /** Where it starts, ms since the first sample. */
  readonly time: number;
  /** [values of a step], of the last layer. */
  readonly values: Float32Array;
}

/** See {@link Encoder.embedStream}. */
export async function* streamSteps(
  encoder: Encoder,
  blocks: AsyncIterable<Float32Array> | Iterable<Float32Array>,
  { bands, sampleRate = SAMPLE_RATE, hopMs, signal }: StreamOptions,
): AsyncGenerator<EmbeddedStep> {
  const { geometry: { cropFrames, patch: [, patch] }, stepMs } = encoder;
  const window = Math.floor(cropFrames / patch) * patch;
  if (hopMs !== undefined && !(hopMs > 0)) throw new RangeError(`embedStream: hopMs is ${hopMs}`);
  const whole = hopMs === undefined;
  const hop = whole
    ? cropFrames
    : Math.min(window, Math.max(1, Math.round(hopMs / stepMs)) * patch);
  const resampler = new Resampler(sampleRate, SAMPLE_RATE);
  /** Sound from frame `start` on. */
  let sound = new Float32Array(0);
  let start = 0;
  /** Frames whose steps were given. */
  let given = 0;

  /** Steps of the frames up to `end`, and room for what comes. */
  const steps = async (end: number): Promise<EmbeddedStep[]> => {
    // Without overlap the last chunk is as short as the rest, as in a file.
    const first = whole ? given : Math.max(0, Math.ceil(end / patch) * patch - window);
    const samples = (end - 1 - start) * HOP_SAMPLES + FRAME_SAMPLES;
    const part = sound.subarray((first - start) * HOP_SAMPLES, samples);
    const { values, steps } = await encoder.embed(part, { pool: "none", bands, signal });
    const size = values.length / steps;
    const found: EmbeddedStep[] = [];
    for (let step = (given - first) / patch; step < steps; step++) {
      const time = (first / patch + step) * stepMs;
      found.push({ time, values: values.slice(step * size, (step + 1) * size) });
    }
    given = end;
    const needed = whole ? given : Math.max(0, given + patch - window);
    sound = sound.slice((needed - start) * HOP_SAMPLES);
    start = needed;
    return found;
  };
  const frames = () => start + frameCount(sound.length, false);

  for await (const block of blocks) {
    signal?.throwIfAborted();
    needAudio(block);
    sound = joined([sound, resampler.push(block as Float32Array)]);
    while (frames() >= given + hop) yield* await steps(given + hop);
  }
  sound = joined([sound, resampler.finish()]);
  while (frames() >= given + hop) yield* await steps(given + hop);
  // Audio below one frame is one with silence behind it.
  if (frames() > given || given === 0 && sound.length > 0) {
    yield* await steps(Math.max(1, frames()));
  }
}
