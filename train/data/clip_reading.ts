/**
 * The work on files that worker threads do; the same functions run in the calling thread where
 * there are none.
 *
 * @module
 */
import { AudioError } from "../audio/decoded_audio.ts";
import {
  joined,
  loadWaveform,
  MAX_HOURS,
  MAX_WHOLE_HOURS,
  SAMPLE_RATE,
  waveformBlocks,
} from "../audio/decode.ts";
import { NpyError } from "../io/npy.ts";
import { type CropPlace, cropStart, samplesOf } from "./crop.ts";
import { type CropRequest, readCrop } from "./logmel_file.ts";

/** A file of audio. */
export interface AudioRequest {
  /** The file. */
  readonly path: string;
  /** A longer file is refused; {@link MAX_HOURS} by default. */
  readonly maxHours?: number;
  /** Samples per second of what comes; 16,000 by default. */
  readonly sampleRate?: number;
}

/** A waveform that is to come in one piece: no more than {@link MAX_WHOLE_HOURS}. */
export interface WaveformRequest extends AudioRequest {
  /** Only so many samples from its start; it may go on for longer then. */
  readonly samples?: number;
}

/** A clip of which a crop is needed now, and others perhaps later. */
export interface ClipRequest extends AudioRequest, CropPlace {
  /** Most samples of a clip that comes as a whole; {@link LONG_CLIP} by default. */
  readonly most?: number;
}

/** A waveform, or the crop of one that is too long to be kept. */
export interface ClipAudio {
  /** Mono, 16 kHz. */
  readonly samples: Float32Array;
  /** Whether it is all of the clip. */
  readonly whole: boolean;
}

/** A file that is to come in pieces. */
export interface PiecesRequest extends AudioRequest {
  /** Most samples of a piece. */
  readonly samples: number;
  /** Samples at the end of a piece that the next one begins with. */
  readonly overlap: number;
  /** A shorter file, at its own rate, is refused. */
  readonly fewest: number;
}

/** A part of a waveform. */
export interface Piece {
  /** Mono, at the rate that was asked for. */
  readonly samples: Float32Array;
  /** What to ask for the next piece with; undefined after the last one. */
  readonly stream?: number;
}

/** A file that cannot be used; the message says why. */
export class FileError extends Error {
  /** The class name, as printed. */
  override readonly name = "FileError";
}

/** The kinds of work. Each may throw {@link FileError}. */
export interface ClipReaders {
  /** A file, or its start, as mono. */
  waveform(request: WaveformRequest): Promise<Float32Array>;
  /** A clip, or the crop of a long one. */
  clip(request: ClipRequest): Promise<ClipAudio>;
  /** A standardised crop of a log-mel file. */
  crop(request: CropRequest): Promise<Float32Array>;
  /** The first piece of a file. */
  firstPiece(request: PiecesRequest): Promise<Piece>;
  /** The next piece; to be asked where the one before came from. */
  nextPiece(stream: number): Promise<Piece>;
}

/** Name of a kind of work. */
export type ReaderName = keyof ClipReaders;

/** Functions for all kinds of work, with the streams they have open. */
export function clipReaders(): ClipReaders {
  const streams = new Map<number, AsyncGenerator<Float32Array>>();
  const lengths = new Map<string, number>();
  let opened = 0;
  const next = async (id: number): Promise<Piece> => {
    const pieces = streams.get(id)!;
    try {
      const { value, done } = await pieces.next();
      if (done) streams.delete(id);
      return { samples: value ?? new Float32Array(0), ...(!done && { stream: id }) };
    } catch (error) {
      streams.delete(id);
      throw error;
    }
  };
  return {
    waveform: (request) => asFileError(() => waveformOf(request)),
    clip: (request) => asFileError(() => clipOf(request, lengths)),
    crop: (request) => asFileError(() => Promise.resolve(readCrop(request))),
    firstPiece: (request) =>
      asFileError(() => {
        const id = opened++;
        streams.set(id, pieces(request));
        return next(id);
      }),
    nextPiece: (id) => asFileError(() => next(id)),
  };
}

async function asFileError<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AudioError || error instanceof NpyError) {
      throw new FileError(error.message);
    }
    throw error;
  }
}

function waveformOf(request: WaveformRequest): Promise<Float32Array> {
  const { path, samples, maxHours = MAX_HOURS, sampleRate } = request;
  return samples === undefined
    ? loadWaveform(path, { maxHours: Math.min(maxHours, MAX_WHOLE_HOURS), sampleRate })
    : partOf(path, 0, samples, { maxHours, sampleRate }).then((it) => it.samples);
}

/** Longest clip that is given as a whole unless told otherwise, in samples: 2 minutes. */
export const LONG_CLIP: number = 120 * SAMPLE_RATE;

/**
 * A clip; of a long one its crop, in memory no more than that. The first time it is decoded to its
 * end all the same, to know its length and whether it can be used at all.
 */
async function clipOf(request: ClipRequest, lengths: Map<string, number>): Promise<ClipAudio> {
  const { path, frames, most = LONG_CLIP, maxHours = MAX_HOURS } = request;
  let length = lengths.get(path);
  if (length === undefined) {
    let parts: Float32Array[] = [];
    length = 0;
    for await (const block of waveformBlocks(path, { maxHours })) {
      length += block.length;
      if (length <= most) parts.push(block);
      else parts = [];
    }
    if (length <= most) return { samples: joined(parts), whole: true };
    lengths.set(path, length);
  }
  const start = cropStart(length, request);
  const { samples } = await partOf(path, start, samplesOf(frames), { maxHours, stop: true });
  return { samples, whole: false };
}

/** Options of {@link partOf}. */
export interface PartOptions {
  /** As in {@link AudioRequest}. */
  readonly maxHours?: number;
  /** As in {@link AudioRequest}. */
  readonly sampleRate?: number;
  /** Reads no further than the part. */
  readonly stop?: boolean;
}

/**
 * Samples of a file from `start` on, fewer where it ends before.
 *
 * @returns the samples, and how many of the file were read
 * @throws AudioError as `waveformBlocks`; with `stop` only for what is before the end of the part.
 */
export async function partOf(
  path: string,
  start: number,
  samples: number,
  { maxHours = MAX_HOURS, sampleRate, stop = false }: PartOptions = {},
): Promise<{ readonly samples: Float32Array; readonly of: number }> {
  const parts: Float32Array[] = [];
  let at = 0;
  for await (const block of waveformBlocks(path, { maxHours, sampleRate })) {
    const [from, to] = [start - at, start + samples - at];
    if (to > 0 && from < block.length) parts.push(block.slice(Math.max(0, from), to));
    at += block.length;
    if (stop && at >= start + samples) break;
  }
  return { samples: joined(parts), of: at };
}

/** Cuts a waveform into pieces of `samples`; returns the last one, which is shorter or the same. */
async function* pieces(
  { path, samples, overlap, fewest, maxHours = MAX_HOURS, sampleRate }: PiecesRequest,
): AsyncGenerator<Float32Array, Float32Array> {
  let parts: Float32Array[] = [];
  let have = 0;
  for await (const block of waveformBlocks(path, { fewest, maxHours, sampleRate })) {
    parts.push(block);
    have += block.length;
    if (have <= samples) continue;
    const all = joined(parts);
    let at = 0;
    // A full piece is held back until it is known that more follows.
    for (; have - at > samples; at += samples - overlap) yield all.slice(at, at + samples);
    parts = [all.slice(at)];
    have -= at;
  }
  return joined(parts);
}
