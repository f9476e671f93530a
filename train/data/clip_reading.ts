/**
 * The work on files that worker threads do; the same functions run in the calling thread where
 * there are none.
 *
 * @module
 */
import { AudioError } from "../audio/decoded_audio.ts";
import { loadWaveform, waveformBlocks } from "../audio/decode.ts";
import { NpyError } from "../io/npy.ts";
import { type CropRequest, readCrop } from "./logmel_file.ts";

/** A file that is to come in pieces. */
export interface PiecesRequest {
  /** The file. */
  readonly path: string;
  /** Most samples of a piece. */
  readonly samples: number;
  /** Samples at the end of a piece that the next one begins with. */
  readonly overlap: number;
  /** A shorter file, at its own rate, is refused. */
  readonly fewest: number;
}

/** A part of a waveform. */
export interface Piece {
  /** Mono, 16 kHz. */
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
  /** A whole file as mono 16 kHz. */
  waveform(path: string): Promise<Float32Array>;
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
    waveform: (path) => asFileError(() => loadWaveform(path)),
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

/** Cuts a waveform into pieces of `samples`; returns the last one, which is shorter or the same. */
async function* pieces(
  { path, samples, overlap, fewest }: PiecesRequest,
): AsyncGenerator<Float32Array, Float32Array> {
  let parts: Float32Array[] = [];
  let have = 0;
  for await (const block of waveformBlocks(path, fewest)) {
    parts.push(block);
    have += block.length;
    if (have <= samples) continue;
    const all = joined(parts, have);
    let at = 0;
    // A full piece is held back until it is known that more follows.
    for (; have - at > samples; at += samples - overlap) yield all.slice(at, at + samples);
    parts = [all.slice(at)];
    have -= at;
  }
  return joined(parts, have);
}

function joined(parts: readonly Float32Array[], length: number): Float32Array {
  if (parts.length === 1) return parts[0];
  const all = new Float32Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
