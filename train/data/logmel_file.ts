/**
 * Log-mel spectrograms in .npy files: [80, frames] or [1, 80, frames], float32 or float16.
 *
 * @module
 */
import { listed } from "../../engine/formats/printable.ts";
import { LOG_OFFSET, MEL_80 } from "../../model/frontend/tables.ts";
import { readFully } from "../io/bytes.ts";
import { openRegular } from "../io/regular_file.ts";
import { type CropPlace, startAt } from "./crop.ts";
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
export interface CropRequest extends CropPlace {
  /** The file. */
  readonly path: string;
  /** Subtracted from the values. */
  readonly mean: number;
  /** The difference is divided by it. */
  readonly std: number;
}

/**
 * Largest value of a log-mel: logarithms of float32 reach from -104 to 89, in decibels from -450
 * to 386. What is beyond is none, and far enough beyond no longer finite inside of a model.
 */
const MAX_LOG_MEL = 1000;

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
 * @throws {NpyError} if the file cannot be read or used, or a value is not finite or no log-mel.
 */
export function readCrop(request: CropRequest): Float32Array {
  try {
    using file = openRegular(request.path);
    return cropOf(file, request);
  } catch (error) {
    // Whatever reading meets is the file's: a folder of that name, a bad block, a lost server.
    if (error instanceof NpyError) throw error;
    throw new NpyError(`cannot be read: ${error instanceof Error ? error.message : error}`);
  }
}

function cropOf(file: Deno.FsFile, { frames, position, mean, std }: CropRequest): Float32Array {
  const { dtype, offset, frames: there } = readStoreHeader(file);
  const first = startAt(position, Math.max(0, there - frames));
  const count = Math.min(frames, there);
  const width = ITEM_BYTES[dtype];
  const crop = new Float32Array(BANDS * frames);
  const rows = count === there ? BANDS : 1;
  for (let band = 0; band < BANDS; band += rows) {
    file.seekSync(offset + width * (band * there + first), Deno.SeekMode.Start);
    const bytes = readFully(file, rows * count * width);
    if (bytes.length < rows * count * width) throw new NpyError("the file became shorter");
    const values = decodeValues(bytes, dtype);
    for (let row = 0; row < rows; row++) {
      crop.set(values.subarray(row * count, (row + 1) * count), (band + row) * frames);
    }
  }
  for (let band = 0; band < BANDS; band++) {
    crop.fill(LOG_SILENCE, band * frames + count, (band + 1) * frames);
  }
  for (let i = 0; i < crop.length; i++) {
    if (!(Math.abs(crop[i]) <= MAX_LOG_MEL)) {
      const frame = first + i % frames;
      const place = `band ${Math.floor(i / frames)}, frame ${frame}`;
      throw new NpyError(`value ${crop[i]} in ${place} is no log-mel`);
    }
    crop[i] = (crop[i] - mean) / std;
  }
  return crop;
}
