/**
 * Features of audio files on disk: a file for each way to compute them, a row for each content.
 *
 * A row is the SHA-256 of an audio file, its values and a checksum. Rows are added as they are
 * computed, so that a run that was ended loses none; what is damaged is computed anew. Deleting
 * the folder costs time only.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { join } from "../../deps/path.ts";
import { isSystemError, nameDiskFull } from "../../errors.ts";
import { readFully, writeFully } from "../../io/bytes.ts";
import { digestOf } from "../../io/digest.ts";
import { lockFile } from "../../io/lock.ts";
import { openRegular, openWritten } from "../../io/regular_file.ts";
import type { Shard } from "../../io/shards.ts";

const DIGEST_BYTES = 32;
const CHECKSUM_BYTES = 4;
/** Changes when features of the same name and options come out differently. */
const VERSION = 1;

/** SHA-256 of a file, read piece by piece, in hexadecimal digits. */
export async function fileDigest(path: string): Promise<string> {
  using file = openRegular(path);
  const hash = createHash("sha256");
  for await (const piece of file.readable) hash.update(piece);
  return hash.digest("hex");
}

/** The rows of one way to compute features. */
export class FeatureRows implements Disposable {
  readonly #rows = new Map<string, Float32Array>();
  readonly #size: number;
  readonly #path: string | undefined;
  #file: Deno.FsFile | undefined;
  /** Into how many shards the work was divided whose rows were taken over. */
  shards: number | undefined;

  /**
   * Reads what is there.
   *
   * @param folder of all rows; made where it is missing. Without one nothing is kept
   * @param identity all that decides what the values are
   * @param size values in a row
   * @param shard writes a file of its own beside the others', so that several processes can add
   * rows at a time; without it the rows of such files are taken over
   */
  constructor(folder: string | undefined, identity: unknown, size: number, shard?: Shard) {
    this.#size = size;
    if (folder === undefined) return;
    const name = digestOf({ version: VERSION, size, identity }).slice(0, 32);
    const part = shard ? `.${shard.index}-of-${shard.count}` : "";
    const path = this.#path = join(folder, `${name}${part}.rows`);
    try {
      Deno.mkdirSync(folder, { recursive: true });
      this.#file = openWritten(path, { read: true, write: true, create: true });
      const own = lockFile(this.#file);
      this.#read(this.#file, own);
      if (!own) {
        // Another process adds rows at the time; what is there serves this one, too.
        this.#file.close();
        this.#file = undefined;
      }
      const others = [...Deno.readDirSync(folder)].map((it) => join(folder, it.name))
        .filter((it) => it.startsWith(join(folder, `${name}.`)) && it !== path);
      for (const other of others.sort()) this.#take(other, shard === undefined && own);
    } catch (error) {
      // A cache that cannot be used is none.
      if (!isSystemError(error)) throw error;
      this.#file?.close();
      this.#file = undefined;
    }
  }

  get #rowBytes(): number {
    return DIGEST_BYTES + 4 * this.#size + CHECKSUM_BYTES;
  }

  /**
   * Reads the rows of another process's file.
   *
   * @param keeps whether they are written to this one's; the other is removed then, unless it is
   * being written
   */
  #take(path: string, keeps: boolean): void {
    const known = new Set(this.#rows.keys());
    using file = openRegular(path);
    this.#read(file, false);
    const [, count] = /\.\d+-of-(\d+)\.rows$/.exec(path) ?? [];
    if (count !== undefined) this.shards = Number(count);
    if (!keeps) return;
    for (const [digest, values] of this.#rows) if (!known.has(digest)) this.#write(digest, values);
    using written = openWritten(path, { write: true });
    if (lockFile(written)) Deno.removeSync(path);
  }

  /** Reads whole rows until one is damaged; the file is cut off there if it is `own`. */
  #read(file: Deno.FsFile, own: boolean): void {
    const end = this.#rowBytes - CHECKSUM_BYTES;
    let good = 0;
    for (;;) {
      const row = readFully(file, this.#rowBytes);
      if (row.length < this.#rowBytes) break;
      if (new DataView(row.buffer).getUint32(end, true) !== crc32(row.subarray(0, end))) break;
      this.#rows.set(
        row.subarray(0, DIGEST_BYTES).toHex(),
        new Float32Array(row.slice(DIGEST_BYTES, end).buffer),
      );
      good += row.length;
    }
    if (!own) return;
    file.truncateSync(good);
    file.seekSync(good, Deno.SeekMode.Start);
  }

  /** Values of the content with this SHA-256. */
  get(digest: string): Float32Array | undefined {
    return this.#rows.get(digest);
  }

  /** Adds a row. @throws {DiskFullError} if there is no room for it */
  add(digest: string, values: Float32Array): void {
    if (this.#rows.has(digest)) return;
    this.#rows.set(digest, values);
    this.#write(digest, values);
  }

  #write(digest: string, values: Float32Array): void {
    if (!this.#file) return;
    const row = new Uint8Array(this.#rowBytes);
    const end = row.length - CHECKSUM_BYTES;
    row.set(Uint8Array.fromHex(digest));
    row.set(new Uint8Array(values.slice().buffer), DIGEST_BYTES);
    new DataView(row.buffer).setUint32(end, crc32(row.subarray(0, end)), true);
    try {
      writeFully(this.#file, row);
    } catch (error) {
      throw nameDiskFull(error, this.#path!);
    }
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file?.close();
    this.#file = undefined;
  }
}
