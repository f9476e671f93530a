/**
 * Sound in the chunks that encoders take (model/README.md, Embeddings).
 *
 * @module
 */
import { ShapeError } from "../../engine/functions.ts";
import type { EncoderGeometry } from "./embed.ts";
import { type FrontendSettings, MATPAC_STATISTICS } from "../frontend/log_mel.ts";
import { CENTRE_PAD, FRAME_SAMPLES, frameCount, HOP_SAMPLES } from "../frontend/tables.ts";

/** A log-mel spectrogram instead of audio. */
export interface LogMelAudio {
  /** [bands, frames]. */
  readonly logMel: Float32Array;
  /** Whether mean and standard deviation were taken out already; default false. */
  readonly standardised?: boolean;
}

/** Sound that can be embedded: a mono 16 kHz waveform in [-1, 1], or its log-mel spectrogram. */
export type Audio = Float32Array | LogMelAudio;

/**
 * Largest sample that is taken for sound: far above what any scale of samples gives, far below what
 * makes a power spectrum infinite.
 */
const LARGEST_SAMPLE = 1e10;

/** @throws {ShapeError} if a sample is NaN, infinite, or too large to be sound. */
export function needSound(waveform: Float32Array, first = 0): void {
  const bad = waveform.findIndex((x) => !(Math.abs(x) <= LARGEST_SAMPLE));
  if (bad !== -1) {
    throw new ShapeError(
      `embed: sample ${first + bad} of the waveform is ${waveform[bad]}; samples lie in [-1, 1]`,
    );
  }
}

/** @throws {ShapeError} if a value of a log-mel spectrogram is NaN or infinite. */
export function needFinite(logMel: Float32Array): void {
  const bad = logMel.findIndex((x) => !Number.isFinite(x));
  if (bad !== -1) {
    throw new ShapeError(`embed: value ${bad} of the log-mel is ${logMel[bad]}`);
  }
}

/** Sound of a chunk. */
export interface Sound {
  /** Which of the two {@link values} are. */
  readonly kind: "waveform" | "logmel";
  /** A waveform, or [bands, frames] standardised. */
  readonly values: Float32Array;
  /** Frames in it; the rest of the batch's length is zeros. */
  readonly frames: number;
}

/**
 * Cuts sound into chunks of the length that an encoder was made for; the last one may be shorter.
 * Audio below one frame is one frame with silence behind it.
 *
 * @param audio whole, or blocks of a waveform
 * @throws {ShapeError} for a waveform without samples, or with one that is NaN, infinite or above
 * 1e10; for a log-mel that has not the encoder's bands, or a value that is not finite.
 */
export async function* chunksOf(
  audio: Audio | AsyncIterable<Float32Array>,
  geometry: EncoderGeometry,
  { framing, statistics = MATPAC_STATISTICS }: FrontendSettings,
): AsyncGenerator<Sound, void> {
  if ("logMel" in audio) {
    yield* spectrogramChunks(audio, geometry, statistics);
    return;
  }
  const blocks = checked(audio instanceof Float32Array ? [audio] : audio);
  const signal = framing === "centred" ? mirrored(blocks) : blocks;
  for await (const values of waveformChunks(signal, geometry)) {
    yield { kind: "waveform", values, frames: frameCount(values.length, false) };
  }
}

async function* checked(
  blocks: Iterable<Float32Array> | AsyncIterable<Float32Array>,
): AsyncGenerator<Float32Array> {
  let first = 0;
  for await (const block of blocks) {
    needSound(block, first);
    first += block.length;
    yield block;
  }
}

async function* waveformChunks(
  blocks: Iterable<Float32Array> | AsyncIterable<Float32Array>,
  { cropFrames }: EncoderGeometry,
): AsyncGenerator<Float32Array> {
  const whole = (cropFrames - 1) * HOP_SAMPLES + FRAME_SAMPLES;
  let rest = new Float32Array(0);
  let none = true;
  for await (const block of blocks) {
    const all = joined([rest, block]);
    let at = 0;
    for (; all.length - at >= whole; at += cropFrames * HOP_SAMPLES) {
      yield all.slice(at, at + whole);
      none = false;
    }
    rest = all.slice(at);
  }
  if (none && rest.length === 0) throw new ShapeError("embed: the waveform has no samples");
  if (none && rest.length < FRAME_SAMPLES) {
    const frame = new Float32Array(FRAME_SAMPLES);
    frame.set(rest);
    rest = frame;
  }
  if (frameCount(rest.length, false) > 0) yield rest;
}

function* spectrogramChunks(
  { logMel, standardised = false }: LogMelAudio,
  { melBands, cropFrames }: EncoderGeometry,
  { mean, std }: { readonly mean: number; readonly std: number },
): Generator<Sound> {
  const frames = logMel.length / melBands;
  if (frames === 0 || !Number.isInteger(frames)) {
    throw new ShapeError(`embed: ${logMel.length} values are no log-mel of ${melBands} bands`);
  }
  needFinite(logMel);
  for (let first = 0; first < frames; first += cropFrames) {
    const count = Math.min(cropFrames, frames - first);
    const values = new Float32Array(melBands * count);
    for (let band = 0; band < melBands; band++) {
      const from = band * frames + first;
      values.set(logMel.subarray(from, from + count), band * count);
    }
    if (!standardised) values.forEach((x, i) => values[i] = (x - mean) / std);
    yield { kind: "logmel", values, frames: count };
  }
}

/** The whole waveform with its ends mirrored, edge samples not repeated. */
async function* mirrored(
  blocks: Iterable<Float32Array> | AsyncIterable<Float32Array>,
): AsyncGenerator<Float32Array> {
  const all: Float32Array[] = [];
  for await (const block of blocks) all.push(block);
  const wave = joined(all);
  if (wave.length === 0) return;
  // Mirroring needs more samples than it adds.
  const length = Math.max(wave.length, CENTRE_PAD + 1);
  const last = length - 1;
  yield Float32Array.from({ length: length + 2 * CENTRE_PAD }, (_, i) => {
    const at = Math.abs(i - CENTRE_PAD);
    return wave[at > last ? 2 * last - at : at] ?? 0;
  });
}

/** Arrays behind one another. */
export function joined(blocks: readonly Float32Array[]): Float32Array<ArrayBuffer> {
  const all = new Float32Array(blocks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const block of blocks) {
    all.set(block, at);
    at += block.length;
  }
  return all;
}

/** A clip's waveform in one piece. @throws {ShapeError} for a log-mel spectrogram */
export async function wholeOf(
  audio: Audio | AsyncIterable<Float32Array>,
): Promise<Float32Array> {
  if (audio instanceof Float32Array) return audio;
  if (!(Symbol.asyncIterator in audio)) {
    throw new ShapeError("embed: a waveform is needed, not a log-mel spectrogram");
  }
  const blocks = await Array.fromAsync(audio);
  return blocks.length === 1 ? blocks[0] : joined(blocks);
}
