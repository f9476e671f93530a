/**
 * Log-mel spectrograms in .npy files: [80, frames] or [1, 80, frames], float32 or float16.
 *
 * @module
 */
import { listed } from "../../model/formats/printable.ts";
import { LOG_OFFSET, MEL_80 } from "../../model/frontend/tables.ts";
import { readFully } from "../io/bytes.ts";
import {
  decodeValues,
  headerBytes,
  ITEM_BYTES,
  NpyError,
  npyFileBytes,
  type NpyHeader,
  parseNpyHeader,
  USUAL_HEADER_BYTES,
} from "../io/npy.ts";

const { bands: BANDS } = MEL_80;
/** What the front end gives for silence. */
export const LOG_SILENCE: number = Math.log(LOG_OFFSET);

/** Which part of a file to read. */
export interface CropRequest {
  /** The file. */
  readonly path: string;
  /** Frames of the crop. */
  readonly frames: number;
  /** Where among the possible starts, in [0, 1). */
  readonly position: number;
  /** Subtracted from the values. */
  readonly mean: number;
  /** The difference is divided by it. */
  readonly std: number;
}

/** A start from 0 to `last` inclusive, all equally likely for a `position` uniform in [0, 1). */
export function startAt(position: number, last: number): number {
  return Math.min(last, Math.floor(position * (last + 1)));
}

/**
 * Reads the header of an open file and compares it with the file's size.
 *
 * @throws {NpyError} if it is damaged or cut off, or no log-mel of 80 bands.
 */
export function readStoreHeader(file: Deno.FsFile): NpyHeader & { readonly frames: number } {
  let start = readFully(file, USUAL_HEADER_BYTES);
  const size = headerBytes(start);
  if (size > start.length) {
    file.seekSync(0, Deno.SeekMode.Start);
    start = readFully(file, size);
  }
  const header = parseNpyHeader(start);
  const { shape } = header;
  const [bands, frames] = shape.slice(-2);
  if (
    shape.length < 2 || shape.length > 3 || bands !== BANDS ||
    (shape.length === 3 && shape[0] !== 1)
  ) {
    throw new NpyError(`shape (${listed(shape).slice(1, -1)}); must be (${BANDS}, frames)`);
  }
  if (frames === 0) throw new NpyError("no frames in the file");
  const there = file.statSync().size;
  const expected = npyFileBytes(header);
  if (there < expected) throw new NpyError(`cut off: ${there} of ${expected} bytes`);
  return { ...header, frames };
}

/**
 * A standardised crop, [80, frames]. Only its own values are read, band by band; a shorter file is
 * padded with silence at its end.
 *
 * @throws {NpyError} if the file cannot be used or a value is not finite.
 */
export function readCrop({ path, frames, position, mean, std }: CropRequest): Float32Array {
  using file = openStore(path);
  const { dtype, offset, frames: there } = readStoreHeader(file);
  const first = startAt(position, Math.max(0, there - frames));
  const count = Math.min(frames, there);
  const width = ITEM_BYTES[dtype];
  const crop = new Float32Array(BANDS * frames);
  const rows = count === there ? BANDS : 1;
  for (let band = 0; band < BANDS; band += rows) {
    file.seekSync(offset + width * (band * there + first), Deno.SeekMode.Start);
    const values = decodeValues(readFully(file, rows * count * width), dtype);
    for (let row = 0; row < rows; row++) {
      crop.set(values.subarray(row * count, (row + 1) * count), (band + row) * frames);
    }
  }
  for (let band = 0; band < BANDS; band++) {
    crop.fill(LOG_SILENCE, band * frames + count, (band + 1) * frames);
  }
  for (let i = 0; i < crop.length; i++) {
    if (!Number.isFinite(crop[i])) {
      const frame = first + i % frames;
      throw new NpyError(`value ${crop[i]} in band ${Math.floor(i / frames)}, frame ${frame}`);
    }
    crop[i] = (crop[i] - mean) / std;
  }
  return crop;
}

function openStore(path: string): Deno.FsFile {
  try {
    return Deno.openSync(path);
  } catch (error) {
    throw new NpyError(`cannot be read: ${(error as Error).message}`);
  }
}
