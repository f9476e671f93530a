/**
 * Writes one log-mel file of a store: under a passing name until it is complete.
 *
 * @module
 */
import { MEL_80 } from "../../model/frontend/tables.ts";
import { besideName } from "../io/atomic_write.ts";
import { readFully, writeFully } from "../io/bytes.ts";
import {
  decodeValues,
  encodeValues,
  ITEM_BYTES,
  type NpyDtype,
  NpyError,
  npyFileBytes,
  npyHeader,
} from "../io/npy.ts";
import { NotRegularError, openRegular, openWritten } from "../io/regular_file.ts";
import { FileError } from "../data/clip_reading.ts";
import { readStoreHeader } from "../data/logmel_file.ts";

const { bands: BANDS } = MEL_80;

/** What a store keeps about a clip, so that totals need not be read back. */
export interface ClipSums {
  /** Frames of 10 ms. */
  readonly frames: number;
  /** Sum of the stored values. */
  readonly sum: number;
  /** Sum of their squares. */
  readonly squares: number;
}

/** Frames of 24 hours: a longer file that is not in the journal is made anew, not read. */
const MOST_FRAMES = 24 * 360_000;

const NOTHING: ClipSums = { frames: 0, sum: 0, squares: 0 };

/**
 * The file of one clip whose frames come block by block. The values of a file stand band by band,
 * so blocks of a long clip are kept beside it until all frames are there; only one block and one
 * band are ever in memory.
 */
export class ClipWriter implements Disposable {
  readonly #beside: string;
  readonly #parts: string;
  #spill: Deno.FsFile | undefined;
  /** Frames of the blocks in the spill file. */
  readonly #blocks: number[] = [];
  #held: Uint8Array | undefined;
  #finished = false;

  /** @param path of the complete file; its folder is there */
  constructor(readonly path: string, readonly dtype: NpyDtype) {
    this.#beside = besideName(path);
    this.#parts = besideName(path, ".parts.tmp");
  }

  /** Adds [80, frames]; the first block is held back, as for most clips it is all there is. */
  add(block: Float32Array): void {
    const bytes = encodeValues(block, this.dtype);
    this.#blocks.push(block.length / BANDS);
    if (this.#blocks.length === 1) {
      this.#held = bytes;
      return;
    }
    if (!this.#spill) {
      this.#spill = openWritten(this.#parts, {
        read: true,
        write: true,
        create: true,
        truncate: true,
      });
      writeFully(this.#spill, this.#held!);
      this.#held = undefined;
    }
    writeFully(this.#spill, bytes);
  }

  /** Completes the file and gives it its name. */
  async finish(): Promise<ClipSums> {
    const frames = this.#blocks.reduce((sum, count) => sum + count, 0);
    const header = npyHeader([BANDS, frames], this.dtype);
    const sums = new BandSums(frames, this.dtype);
    if (this.#spill) this.#transpose(this.#spill, header, sums);
    else {
      const width = ITEM_BYTES[this.dtype] * frames;
      for (let band = 0; band < BANDS; band++) {
        sums.addBand([this.#held!.subarray(band * width, (band + 1) * width)]);
      }
      const bytes = new Uint8Array(header.length + this.#held!.length);
      bytes.set(header);
      bytes.set(this.#held!, header.length);
      const whole = { write: true, create: true, truncate: true };
      using file = openWritten(this.#beside, whole);
      writeFully(file, bytes);
    }
    await Deno.rename(this.#beside, this.path);
    this.#finished = true;
    return sums.total;
  }

  /** Removes what is not part of a complete store. */
  [Symbol.dispose](): void {
    this.#spill?.close();
    const left = [...this.#spill ? [this.#parts] : [], ...this.#finished ? [] : [this.#beside]];
    for (const path of left) {
      try {
        Deno.removeSync(path);
      } catch {
        // Not there, or not to be removed: the next run writes over it.
      }
    }
  }

  #transpose(spill: Deno.FsFile, header: Uint8Array, sums: BandSums): void {
    const width = ITEM_BYTES[this.dtype];
    using file = openWritten(this.#beside, { write: true, create: true, truncate: true });
    writeFully(file, header);
    for (let band = 0; band < BANDS; band++) {
      let start = 0;
      const parts: Uint8Array[] = [];
      for (const frames of this.#blocks) {
        spill.seekSync(start + band * frames * width, Deno.SeekMode.Start);
        const part = readFully(spill, frames * width);
        writeFully(file, part);
        parts.push(part);
        start += BANDS * frames * width;
      }
      sums.addBand(parts);
    }
  }
}

/**
 * Sums over the values of a file in the order in which they stand there, so that they are the same
 * whether the file is being written or read back.
 */
class BandSums {
  total: ClipSums;

  constructor(frames: number, readonly dtype: NpyDtype) {
    this.total = { ...NOTHING, frames };
  }

  /** Adds the bytes of the next band, piece by piece. */
  addBand(pieces: Iterable<Uint8Array>): void {
    let [sum, squares] = [0, 0];
    for (const piece of pieces) {
      for (const value of decodeValues(piece, this.dtype)) {
        sum += value;
        squares += value * value;
      }
    }
    this.total = plus(this.total, { frames: 0, sum, squares });
  }
}

function plus(a: ClipSums, b: ClipSums): ClipSums {
  return { frames: a.frames + b.frames, sum: a.sum + b.sum, squares: a.squares + b.squares };
}

/**
 * Looks whether a clip's file is complete and of the asked number format.
 *
 * @param known sums from before; read from the file where they are not known
 * @returns undefined where it has to be made
 */
export function existingClip(
  path: string,
  dtype: NpyDtype,
  known: ClipSums | undefined,
): ClipSums | undefined {
  try {
    using file = openRegular(path);
    const header = readStoreHeader(file);
    const { frames, offset } = header;
    if (header.dtype !== dtype || file.statSync().size !== npyFileBytes(header)) return undefined;
    if (known?.frames === frames) return known;
    if (frames > MOST_FRAMES) return undefined;
    const sums = new BandSums(frames, dtype);
    file.seekSync(offset, Deno.SeekMode.Start);
    for (let band = 0; band < BANDS; band++) {
      sums.addBand([readFully(file, frames * ITEM_BYTES[dtype])]);
    }
    return Number.isFinite(sums.total.squares) ? sums.total : undefined;
  } catch (error) {
    if (error instanceof NpyError || error instanceof Deno.errors.NotFound) return undefined;
    if (error instanceof NotRegularError) throw new FileError(`${path} is ${error.message}`);
    throw error;
  }
}

/** Mean and standard deviation over all values of some clips. */
export function statisticsOf(
  clips: Iterable<ClipSums>,
): { mean: number; std: number; values: number } {
  let total = NOTHING;
  for (const clip of clips) total = plus(total, clip);
  const values = BANDS * total.frames;
  const mean = total.sum / values;
  return { mean, std: Math.sqrt(Math.max(0, total.squares / values - mean * mean)), values };
}
