/**
 * Files of embeddings: NumPy's `.npz`, safetensors and CSV.
 *
 * Values are kept in a file without a name until all are there, as clips are completed in an order
 * of their own and a header says how many there are. So memory holds one clip at a time, whatever
 * their number.
 *
 * @module
 */
import { dirname } from "../deps/path.ts";
import { bytesIn, type StoredTensor } from "../../model/formats/stored_tensor.ts";
import { safetensorsChunks } from "../../model/formats/safetensors_stream.ts";
import { zipChunks, type ZipContent } from "../../model/formats/zip_write.ts";
import type { Embedding } from "../../model/encoder/embed_queue.ts";
import { readFully, writeFully } from "../io/bytes.ts";
import { npyHeader } from "../io/npy.ts";
import { openRegular } from "../io/regular_file.ts";
import { nameDiskFull, UsageError } from "../errors.ts";
import { writeAtomic } from "../io/atomic_write.ts";

/** What every row of a file has. */
export interface RowShape {
  /** Values of an embedding. */
  readonly size: number;
  /** How many layers a row has where all are kept; the last of them is the embedding. */
  readonly layers?: number;
  /** Whether rows are time steps rather than clips. */
  readonly frames: boolean;
}

/** Clips by index, each with its number of rows, in the order in which their rows lie. */
export type KeptClips = readonly (readonly [index: number, rows: number])[];

/** The forms a file can have, by ending. */
const FORMS = { ".npz": npzChunks, ".safetensors": tensorChunks, ".csv": csvChunks } as const;

type Form = keyof typeof FORMS;

/** Form of a file by its ending. @throws {UsageError} if there is none of that ending */
export function formOf(path: string): Form {
  const form = (Object.keys(FORMS) as Form[]).find((it) => path.toLowerCase().endsWith(it));
  if (form) return form;
  throw new UsageError(`--out ${path}: must end in ${Object.keys(FORMS).join(", ")}`);
}

/** Bytes of rows that are read back at a time. */
const PIECE_BYTES = 1 << 22;

/** Rows of one clip in the file of values. */
interface Place {
  readonly start: number;
  readonly rows: number;
}

/** A file of embeddings that comes into being. */
export class EmbeddingFile implements Disposable {
  readonly #form: Form;
  /** The file of values where it still has a name. */
  readonly #named: string | undefined;
  readonly #file: Deno.FsFile;
  readonly #places = new Map<number, Place>();
  #bytes = 0;

  /**
   * Opens a file of values, in a folder that is made where it is not there.
   *
   * @param path of the file; the ending decides its form
   * @throws {UsageError} if the form is not known or nothing can be written there
   */
  constructor(readonly path: string, readonly shape: RowShape) {
    this.#form = formOf(path);
    let named: string | undefined;
    try {
      const dir = dirname(path);
      Deno.mkdirSync(dir, { recursive: true });
      named = Deno.makeTempFileSync({ dir, prefix: "embeddings-", suffix: ".tmp" });
      this.#file = Deno.openSync(named, { read: true, write: true });
      // Without a name it is nobody else's, and gone when this process ends, however it does.
      if (Deno.build.os !== "windows") {
        Deno.removeSync(named);
        named = undefined;
      }
      this.#named = named;
    } catch (error) {
      throw new UsageError(`--out ${path} cannot be written: ${(error as Error).message}`);
    }
  }

  /** Adds a clip; `index` is its place among the clips. */
  add(index: number, embedding: Embedding): void {
    const { size, layers = 1 } = this.shape;
    const rows = embedding.values.length / size;
    const all = embedding.layers ?? embedding.values;
    const stride = this.#stride;
    const values = new Float32Array(rows * stride);
    for (let row = 0; row < rows; row++) {
      for (let layer = 0; layer < layers; layer++) {
        const from = (layer * rows + row) * size;
        values.set(all.subarray(from, from + size), row * stride + layer * size);
      }
      if (embedding.times) values[(row + 1) * stride - 1] = embedding.times[row];
    }
    try {
      writeFully(this.#file, new Uint8Array(values.buffer));
    } catch (error) {
      throw nameDiskFull(error, this.path);
    }
    this.#places.set(index, { start: this.#bytes, rows });
    this.#bytes += values.byteLength;
  }

  /**
   * Writes what there is as a file that {@link take} reads.
   *
   * @returns the clips in it and how many rows each has
   */
  async keep(path: string): Promise<KeptClips> {
    const indices = this.#indices;
    const blocks = this.#blocks(indices);
    const bytes = function* () {
      for (const { values } of blocks) yield new Uint8Array(values.buffer as ArrayBuffer);
    };
    await writeAtomic(path, bytes());
    return indices.map((index) => [index, this.#places.get(index)!.rows]);
  }

  /** Adds the clips of a file that {@link keep} wrote. @throws {UsageError} if it is damaged */
  take(path: string, clips: KeptClips): void {
    const width = 4 * this.#stride;
    using file = openRegular(path);
    const rows = clips.reduce((sum, [, rows]) => sum + rows, 0);
    if (file.statSync().size !== rows * width) {
      throw new UsageError(`${path}: has not the size that its shard left`);
    }
    for (const [index, rows] of clips) {
      this.#places.set(index, { start: this.#bytes, rows });
      this.#bytes += rows * width;
    }
    for (let left = rows * width; left > 0; left -= PIECE_BYTES) {
      try {
        writeFully(this.#file, readFully(file, Math.min(left, PIECE_BYTES)));
      } catch (error) {
        throw nameDiskFull(error, this.path);
      }
    }
  }

  /** Clips in order. */
  get #indices(): number[] {
    return [...this.#places.keys()].sort((a, b) => a - b);
  }

  /** Clips so far. */
  get clips(): number {
    return this.#places.size;
  }

  /** Values that are kept for a row: layers, then the time of a step. */
  get #stride(): number {
    const { size, layers = 1, frames } = this.shape;
    return layers * size + (frames ? 1 : 0);
  }

  /**
   * Writes the file; clips that were not added are not in it.
   *
   * @param names of the clips by index
   */
  async finish(names: readonly string[]): Promise<void> {
    const indices = this.#indices;
    const content: Content = {
      shape: this.shape,
      names: indices.map((index) => names[index]),
      rows: indices.reduce((sum, index) => sum + this.#places.get(index)!.rows, 0),
      blocks: () => this.#blocks(indices),
    };
    await writeAtomic(this.path, FORMS[this.#form](content));
  }

  *#blocks(indices: readonly number[]): Generator<Block> {
    const stride = this.#stride;
    const most = Math.max(1, Math.floor(PIECE_BYTES / (4 * stride)));
    for (const [clip, index] of indices.entries()) {
      const { start, rows } = this.#places.get(index)!;
      for (let first = 0; first < rows; first += most) {
        const count = Math.min(most, rows - first);
        this.#file.seekSync(start + 4 * first * stride, Deno.SeekMode.Start);
        const { buffer } = readFully(this.#file, 4 * count * stride);
        yield { clip, rows: count, stride, values: new Float32Array(buffer) };
      }
    }
  }

  /** Removes the file of values. */
  [Symbol.dispose](): void {
    this.#file.close();
    if (this.#named !== undefined) Deno.removeSync(this.#named);
  }
}

/** Rows of one clip that are in memory. */
interface Block {
  /** Which of the clips of the file. */
  readonly clip: number;
  /** How many. */
  readonly rows: number;
  /** Values from one row to the next. */
  readonly stride: number;
  /** [rows, stride] */
  readonly values: Float32Array;
}

/** What a file is made of. */
interface Content {
  readonly shape: RowShape;
  /** Of its clips. */
  readonly names: readonly string[];
  /** In all. */
  readonly rows: number;
  /** All rows in order; may be read repeatedly. */
  blocks(): Iterable<Block>;
}

/** Part `start` to `start + count` of all rows. */
function* column({ blocks }: Content, start: number, count: number): Generator<Uint8Array> {
  for (const { rows, stride, values } of blocks()) {
    const part = new Float32Array(rows * count);
    for (let row = 0; row < rows; row++) {
      const from = row * stride + start;
      part.set(values.subarray(from, from + count), row * count);
    }
    yield new Uint8Array(part.buffer);
  }
}

function* clipsOf({ blocks }: Content): Generator<Uint8Array> {
  for (const { clip, rows } of blocks()) {
    yield new Uint8Array(new Int32Array(rows).fill(clip).buffer);
  }
}

/** The arrays of a file by name; rows come first in all. */
function arraysOf(content: Content): [string, StoredTensor][] {
  const { rows, shape: { size, layers: all, frames } } = content;
  const layers = all ?? 1;
  const last = (layers - 1) * size;
  return [
    ["embeddings", {
      dtype: "F32",
      shape: [rows, size],
      chunks: () => column(content, last, size),
    }],
    ...(all !== undefined
      ? [
        ["layers", {
          dtype: "F32",
          shape: [rows, layers, size],
          chunks: () => column(content, 0, layers * size),
        }] as [string, StoredTensor],
      ]
      : []),
    ...(frames
      ? [
        ["clip", { dtype: "I32", shape: [rows], chunks: () => clipsOf(content) }],
        ["time_ms", {
          dtype: "F32",
          shape: [rows],
          chunks: () => column(content, layers * size, 1),
        }],
      ] as [string, StoredTensor][]
      : []),
  ];
}

/** Type codes of NumPy. */
const DESCR = { F32: "<f4", I32: "<i4" } as const;

function npzChunks(content: Content): Iterable<Uint8Array> {
  const entry = (
    name: string,
    header: Uint8Array,
    bytes: number,
    chunks: () => Iterable<Uint8Array>,
  ): ZipContent => ({
    name: `${name}.npy`,
    size: header.length + bytes,
    *chunks() {
      yield header;
      yield* chunks();
    },
  });
  const arrays = arraysOf(content).map(([name, array]) => {
    const header = npyHeader(array.shape, DESCR[array.dtype as keyof typeof DESCR]);
    return entry(name, header, bytesIn(array), () => array.chunks());
  });
  // One text of UCS-4, as NumPy keeps texts: `json.loads(str(archive["files"]))`.
  const text = Uint32Array.from(JSON.stringify(content.names), (it) => it.codePointAt(0)!);
  const files = entry(
    "files",
    npyHeader([], `<U${text.length}`),
    text.byteLength,
    () => [new Uint8Array(text.buffer)],
  );
  return zipChunks([...arrays, files]);
}

function tensorChunks(content: Content): Iterable<Uint8Array> {
  return safetensorsChunks(arraysOf(content), { files: JSON.stringify(content.names) });
}

function* csvChunks({ shape, names, blocks }: Content): Generator<Uint8Array> {
  const { size, layers: all, frames } = shape;
  const layers = all ?? 1;
  const encoder = new TextEncoder();
  const head = [
    "file",
    ...(frames ? ["time_ms"] : []),
    ...(all !== undefined ? ["layer"] : []),
    ...Array.from({ length: size }, (_, i) => `e${i}`),
  ];
  yield encoder.encode(`${head.join(",")}\n`);
  for (const { clip, rows, stride, values } of blocks()) {
    const lines: string[] = [];
    for (let row = 0; row < rows; row++) {
      for (let layer = 0; layer < layers; layer++) {
        const from = row * stride + layer * size;
        lines.push(
          [
            quoted(names[clip]),
            ...(frames ? [values[(row + 1) * stride - 1]] : []),
            ...(all !== undefined ? [layer + 1] : []),
            // Nine digits distinguish any two floats.
            ...Array.from(values.subarray(from, from + size), (x) => Number(x.toPrecision(9))),
          ].join(","),
        );
      }
    }
    yield encoder.encode(`${lines.join("\n")}\n`);
  }
}

/** A cell of a CSV file (RFC 4180). */
function quoted(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
