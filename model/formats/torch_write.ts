/**
 * Writes archives that `torch.load` reads, also with `weights_only`: pickle protocol 2 and storages
 * as torch lays them out, a storage for each tensor.
 *
 * @module
 */
import { bytesIn, countOf, type StoredTensor } from "./stored_tensor.ts";
import { storageName, TorchError } from "./torch_read.ts";
import { zipChunks, type ZipContent } from "./zip_write.ts";

/** What can be saved. */
export type TorchValue =
  | null
  | boolean
  | number
  | string
  | StoredTensor
  | readonly TorchValue[]
  | TorchDict;

/** A dictionary; keys keep their order. */
export class TorchDict extends Map<string, TorchValue> {
  /** Takes entries; `ordered` makes an OrderedDict, as state dicts are. */
  constructor(entries: Iterable<readonly [string, TorchValue]>, readonly ordered = false) {
    super(entries);
  }
}

/**
 * The bytes of an archive as `torch.save` would write it; the same value gives the same bytes.
 *
 * @param prefix folder of everything in the archive; torch takes the file's stem
 * @throws {TorchError} at a tensor whose type torch cannot store
 */
export function* torchChunks(value: TorchValue, prefix = "archive"): Generator<Uint8Array> {
  const pickler = new Pickler();
  const pickle = pickler.save(value);
  const text = (name: string, content: Uint8Array): ZipContent => ({
    name: `${prefix}/${name}`,
    size: content.byteLength,
    chunks: () => [content],
  });
  const encode = (it: string) => new TextEncoder().encode(it);
  yield* zipChunks([
    text("data.pkl", pickle),
    text("byteorder", encode("little")),
    ...pickler.storages.map((tensor, i): ZipContent => ({
      name: `${prefix}/data/${i}`,
      size: bytesIn(tensor),
      chunks: () => tensor.chunks(),
    })),
    text("version", encode("3\n")),
  ]);
}

/** Writes protocol 2; no memo, since nothing is shared. */
class Pickler {
  readonly storages: StoredTensor[] = [];
  readonly #parts: Uint8Array[] = [];

  save(value: TorchValue): Uint8Array<ArrayBuffer> {
    this.#bytes(0x80, 2);
    this.#value(value);
    this.#text(".");
    const size = this.#parts.reduce((sum, it) => sum + it.byteLength, 0);
    const whole = new Uint8Array(size);
    let at = 0;
    for (const part of this.#parts) {
      whole.set(part, at);
      at += part.byteLength;
    }
    return whole;
  }

  #bytes(...bytes: readonly number[]): void {
    this.#parts.push(new Uint8Array(bytes));
  }

  #text(opcodes: string): void {
    this.#parts.push(new TextEncoder().encode(opcodes));
  }

  #value(value: TorchValue): void {
    if (value === null) this.#text("N");
    else if (typeof value === "boolean") this.#bytes(value ? 0x88 : 0x89);
    else if (typeof value === "number") this.#number(value);
    else if (typeof value === "string") this.#string(value);
    else if (value instanceof TorchDict) this.#dict(value);
    else if (isList(value)) this.#list(value);
    else this.#tensor(value);
  }

  #number(value: number): void {
    const view = new DataView(new ArrayBuffer(9));
    if (Number.isInteger(value) && Math.abs(value) < 2 ** 31) {
      view.setUint8(0, "J".charCodeAt(0));
      view.setInt32(1, value, true);
      this.#parts.push(new Uint8Array(view.buffer, 0, 5));
    } else if (Number.isSafeInteger(value)) {
      this.#bytes(0x8a, 8);
      view.setBigInt64(0, BigInt(value), true);
      this.#parts.push(new Uint8Array(view.buffer, 0, 8));
    } else {
      view.setUint8(0, "G".charCodeAt(0));
      view.setFloat64(1, value, false);
      this.#parts.push(new Uint8Array(view.buffer));
    }
  }

  #string(value: string): void {
    const bytes = new TextEncoder().encode(value);
    const head = new DataView(new ArrayBuffer(5));
    head.setUint8(0, "X".charCodeAt(0));
    head.setUint32(1, bytes.length, true);
    this.#parts.push(new Uint8Array(head.buffer), bytes);
  }

  #dict(dict: TorchDict): void {
    this.#text(dict.ordered ? "ccollections\nOrderedDict\n)R(" : "}(");
    for (const [key, value] of dict) {
      this.#string(key);
      this.#value(value);
    }
    this.#text("u");
  }

  #list(list: readonly TorchValue[]): void {
    this.#text("](");
    for (const it of list) this.#value(it);
    this.#text("e");
  }

  #integers(values: readonly number[]): void {
    this.#text("(");
    for (const it of values) this.#number(it);
    this.#text("t");
  }

  #tensor(tensor: StoredTensor): void {
    const storage = storageName(tensor.dtype);
    if (storage === null) throw new TorchError(`torch has no storage for ${tensor.dtype}`);
    const strides: number[] = [];
    let stride = 1;
    for (const size of [...tensor.shape].reverse()) {
      strides.unshift(stride);
      stride *= Math.max(1, size);
    }
    this.#text("ctorch._utils\n_rebuild_tensor_v2\n((");
    this.#string("storage");
    this.#text(`ctorch\n${storage}\n`);
    this.#string(String(this.storages.length));
    this.#string("cpu");
    this.#number(countOf(tensor.shape));
    this.#text("tQ");
    this.#number(0);
    this.#integers(tensor.shape);
    this.#integers(strides);
    this.#bytes(0x89);
    // No backward hooks: an empty OrderedDict.
    this.#text("ccollections\nOrderedDict\n)RtR");
    this.storages.push(tensor);
  }
}

function isList(value: StoredTensor | readonly TorchValue[]): value is readonly TorchValue[] {
  return Array.isArray(value);
}
