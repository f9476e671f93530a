/**
 * Writes one log-mel file of a store: under a passing name until it is complete.
 *
 * @module
 */
import { MEL_80 } from "../../model/frontend/tables.ts";
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
import { NotRegularError, openRegular } from "../io/regular_file.ts";
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
  #sums = NOTHING;
  #finished = false;

  /** @param path of the complete file; its folder is there */
  constructor(readonly path: string, readonly dtype: NpyDtype) {
    this.#beside = `${path}.tmp`;
    this.#parts = `${path}.parts.tmp`;
  }

  /** Adds [80, frames]; the first block is held back, as for most clips it is all there is. */
  add(block: Float32Array): void {
    const bytes = encodeValues(block, this.dtype);
    this.#sums = plus(this.#sums, sumsOf(storedValues(block, bytes, this.dtype)));
    this.#blocks.push(block.length / BANDS);
    if (this.#blocks.length === 1) {
      this.#held = bytes;
      return;
    }
    if (!this.#spill) {
      this.#spill = Deno.openSync(this.#parts, {
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
    const { frames } = this.#sums;
    const header = npyHeader([BANDS, frames], this.dtype);
    if (this.#spill) this.#transpose(this.#spill, header);
    else {
      const bytes = new Uint8Array(header.length + this.#held!.length);
      bytes.set(header);
      bytes.set(this.#held!, header.length);
      await Deno.writeFile(this.#beside, bytes);
    }
    await Deno.rename(this.#beside, this.path);
    this.#finished = true;
    return this.#sums;
  }

  /** Removes what is not part of a complete store. */
  [Symbol.dispose](): void {
    this.#spill?.close();
    if (this.#spill) Deno.removeSync(this.#parts);
    if (this.#finished) return;
    try {
      Deno.removeSync(this.#beside);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  #transpose(spill: Deno.FsFile, header: Uint8Array): void {
    const width = ITEM_BYTES[this.dtype];
    using file = Deno.openSync(this.#beside, { write: true, create: true, truncate: true });
    writeFully(file, header);
    for (let band = 0; band < BANDS; band++) {
      let start = 0;
      for (const frames of this.#blocks) {
        spill.seekSync(start + band * frames * width, Deno.SeekMode.Start);
        writeFully(file, readFully(spill, frames * width));
        start += BANDS * frames * width;
      }
    }
  }
}

/** Values as they are read back. */
function storedValues(block: Float32Array, bytes: Uint8Array, dtype: NpyDtype): Float32Array {
  return dtype === "f32" ? block : decodeValues(bytes, dtype);
}

function sumsOf(values: Float32Array): ClipSums {
  let [sum, squares] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    sum += values[i];
    squares += values[i] * values[i];
  }
  return { frames: values.length / BANDS, sum, squares };
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
    let sums = NOTHING;
    file.seekSync(offset, Deno.SeekMode.Start);
    for (let band = 0; band < BANDS; band++) {
      const values = decodeValues(readFully(file, frames * ITEM_BYTES[dtype]), dtype);
      sums = plus(sums, sumsOf(values));
    }
    return Number.isFinite(sums.squares) ? { ...sums, frames } : undefined;
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
