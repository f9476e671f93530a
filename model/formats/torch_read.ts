/**
 * Reads what `torch.save` writes: a zip of `data.pkl`, which describes, and `data/N`, which hold
 * the storages. Only the description is read at once; tensors fetch their bytes when they are asked
 * for.
 *
 * @module
 */
import {
  itemsOf,
  kindOf,
  PickleDict,
  type PickleGlobal,
  type PickleThing,
  PickleTuple,
  type PickleValue,
} from "./pickle_values.ts";
import { listed, quoted } from "../../engine/formats/printable.ts";
import { PICKLE_LIMITS, unpickle } from "./pickle.ts";
import { bytesIn, countOf, ITEM_BYTES, PIECE_BYTES, type RandomAccess } from "./stored_tensor.ts";
import type { StoredTensor } from "./stored_tensor.ts";
import {
  MAX_AXES,
  MAX_NAME,
  MAX_TENSORS,
  type SafetensorsDtype,
} from "../../engine/formats/safetensors.ts";
import { ZipArchive, type ZipEntry } from "./zip_read.ts";

/** The archive is not what `torch.save` writes, or its tensors do not fit their storages. */
export class TorchError extends Error {
  /** Stable name. */
  override name = "TorchError";
}

/** Element types by the names of torch's storages and of its dtypes. */
const DTYPES: Readonly<Record<SafetensorsDtype, readonly [storage: string | null, dtype: string]>> =
  {
    F64: ["DoubleStorage", "float64"],
    F32: ["FloatStorage", "float32"],
    F16: ["HalfStorage", "float16"],
    BF16: ["BFloat16Storage", "bfloat16"],
    I64: ["LongStorage", "int64"],
    I32: ["IntStorage", "int32"],
    I16: ["ShortStorage", "int16"],
    I8: ["CharStorage", "int8"],
    U32: [null, "uint32"],
    U8: ["ByteStorage", "uint8"],
    BOOL: ["BoolStorage", "bool"],
  };

/** Name of the storage class of a type; null where torch has none. */
export function storageName(dtype: SafetensorsDtype): string | null {
  return DTYPES[dtype][0];
}

/** Most bytes of a storage that a view with gaps is picked from. */
const MAX_SPAN = 2 ** 31;
/**
 * Views may share storages and repeat values, but all tensors together stay below this many times
 * the file.
 */
const MAX_GROWTH = 16;
const ALWAYS_ALLOWED = 1 << 26;

/** Bytes outside of the pickle: an entry of the archive. */
interface Storage extends PickleThing {
  readonly what: "storage";
  /** Undefined where torch does not say: the tensor does. */
  readonly dtype: SafetensorsDtype | undefined;
  readonly entry: ZipEntry;
}

interface StorageType extends PickleThing {
  readonly what: "storage type";
  readonly dtype: SafetensorsDtype | undefined;
}

interface TorchDtype extends PickleThing {
  readonly what: "torch dtype";
  readonly dtype: SafetensorsDtype;
}

/** A tensor of the file. */
export class TorchTensor implements PickleThing, StoredTensor {
  /** Its kind. */
  readonly what = "tensor";

  /** Checks that every element lies in the storage. @throws {TorchError} */
  constructor(
    readonly dtype: SafetensorsDtype,
    readonly shape: readonly number[],
    /** Elements from one value to the next along each axis. */
    readonly strides: readonly number[],
    /** First element within the storage. */
    readonly offset: number,
    /** What holds the storage. */
    readonly archive: ZipArchive,
    /** The storage. */
    readonly entry: ZipEntry,
  ) {
    const size = entry.size / ITEM_BYTES[dtype];
    const last = this.#last();
    if (!Number.isSafeInteger(countOf(shape)) || !Number.isSafeInteger(last)) {
      throw new TorchError(`a tensor of shape ${listed(shape)} is too large`);
    }
    if (countOf(shape) > 0 ? last >= size : offset > size) {
      throw new TorchError(
        `a tensor of shape ${listed(shape)}, strides ${listed(strides)} and offset ${offset} ` +
          `reaches past its storage ${quoted(entry.name)} of ${size} values`,
      );
    }
  }

  /** Last element that is used. */
  #last(): number {
    return this.shape.reduce((at, size, i) => at + (size - 1) * this.strides[i], this.offset);
  }

  /**
   * Bytes that are handled to read it: views may go over much for little, deflated storages are
   * inflated whole.
   */
  get cost(): number {
    if (this.entry.deflated) return this.entry.size;
    if (countOf(this.shape) === 0) return 0;
    return Math.max(bytesIn(this), (this.#last() - this.offset + 1) * ITEM_BYTES[this.dtype]);
  }

  /** Trailing axes that lie in a row: how many, and how many elements they hold. */
  #run(): { axes: number; elements: number } {
    let axes = 0, elements = 1;
    for (let i = this.shape.length - 1; i >= 0; i--) {
      if (this.shape[i] !== 1 && this.strides[i] !== elements) break;
      elements *= this.shape[i];
      axes++;
    }
    return { axes, elements };
  }

  /** @inheritdoc @throws {ZipError} if the storage is damaged @throws {TorchError} */
  *chunks(): Generator<Uint8Array> {
    if (countOf(this.shape) === 0) return;
    const item = ITEM_BYTES[this.dtype];
    const run = this.#run();
    if (run.axes === this.shape.length) {
      yield* this.archive.range(this.entry, this.offset * item, run.elements * item);
      return;
    }
    const span = (this.#last() - this.offset + 1) * item;
    if (span > MAX_SPAN) {
      throw new TorchError(
        `a view with gaps goes over ${span} bytes; at most ${MAX_SPAN} are read`,
      );
    }
    const source = new Uint8Array(span);
    let at = 0;
    for (const piece of this.archive.range(this.entry, this.offset * item, span)) {
      source.set(piece, at);
      at += piece.byteLength;
    }
    yield* this.#gathered(source, run.elements * item, this.shape.length - run.axes);
  }

  /** Runs of `bytes` bytes, one for each index of the first `axes` axes, gathered into pieces. */
  *#gathered(source: Uint8Array, bytes: number, axes: number): Generator<Uint8Array> {
    const item = ITEM_BYTES[this.dtype];
    const index = Array.from({ length: axes }, () => 0);
    let runs = countOf(this.shape.slice(0, axes));
    let from = 0;
    while (runs > 0) {
      const inPiece = Math.min(runs, Math.max(1, Math.floor(PIECE_BYTES / bytes)));
      const piece = new Uint8Array(inPiece * bytes);
      for (let i = 0; i < inPiece; i++) {
        for (let b = 0; b < bytes; b++) piece[i * bytes + b] = source[from + b];
        for (let axis = axes - 1; axis >= 0; axis--) {
          from += this.strides[axis] * item;
          if (++index[axis] < this.shape[axis]) break;
          from -= this.shape[axis] * this.strides[axis] * item;
          index[axis] = 0;
        }
      }
      runs -= inPiece;
      yield piece;
    }
  }
}

/** An open file. */
export interface TorchFile {
  /** What `torch.load` would return, tensors in the place of tensors. */
  readonly value: PickleValue;
  /** Folder that everything in the archive is in. */
  readonly prefix: string;
}

/** Whether these first bytes are those of a zip archive. */
export function isZip(start: Uint8Array): boolean {
  return start[0] === 0x50 && start[1] === 0x4b && start[2] === 3 && start[3] === 4;
}

/** Whether these first bytes are those of torch before 1.6: pickles one after the other. */
export function isLegacyTorch(start: Uint8Array): boolean {
  const magic = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46];
  return magic.every((byte, i) => start[i] === byte);
}

/**
 * Opens a file of `torch.save`.
 *
 * @throws {ZipError} if the archive is damaged
 * @throws {PickleError} if its description is damaged, or names code that is not on the list
 * @throws {TorchError} if it is another kind of archive, or tensors do not fit their storages
 */
export function openTorch(source: RandomAccess): TorchFile {
  const archive = new ZipArchive(source);
  const suffix = "/data.pkl";
  const found = [...archive.entries.values()].filter(({ name }) =>
    name.endsWith(suffix) && name.indexOf("/") === name.length - suffix.length
  );
  if (found.length !== 1) throw new TorchError("the archive has no data.pkl: not from torch.save");
  const prefix = found[0].name.slice(0, -suffix.length);
  const order = archive.entries.get(`${prefix}/byteorder`);
  if (order && new TextDecoder().decode(archive.read(order, 16)) !== "little") {
    throw new TorchError("it was written on a big-endian machine");
  }
  const storage = (id: PickleValue) => storageOf(archive, prefix, id);
  const value = unpickle(archive.read(found[0], PICKLE_LIMITS.bytes), {
    globals: torchGlobals(archive),
    persistent: storage,
  });
  return { value, prefix };
}

function isThing(value: PickleValue | undefined, what: string): value is PickleThing {
  return typeof value === "object" && value !== null && "what" in value && value.what === what;
}

/** ("storage", type, key, device, size) of torch's persistent ids. */
function storageOf(archive: ZipArchive, prefix: string, id: PickleValue): Storage {
  const [tag, type, key, , size] = itemsOf(id, "the id of a storage");
  if (tag !== "storage" || !isThing(type, "storage type") || typeof key !== "string") {
    throw new TorchError("the id of a storage is not as torch writes it");
  }
  const { dtype } = type as StorageType;
  const entry = archive.entry(`${prefix}/data/${key}`);
  const expected = counted(size, "the size of a storage") * (dtype ? ITEM_BYTES[dtype] : 1);
  if (entry.size !== expected) {
    throw new TorchError(
      `the storage ${quoted(entry.name)} is to have ${expected} bytes but has ${entry.size}`,
    );
  }
  return { what: "storage", dtype, entry } as Storage;
}

function counted(value: PickleValue | undefined, what: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw new TorchError(
      `${what} is ${typeof value === "number" ? value : kindOf(value)}, no whole number from 0`,
    );
  }
  return value;
}

function axes(value: PickleValue | undefined, what: string): number[] {
  const items = itemsOf(value, what);
  if (items.length > MAX_AXES) throw new TorchError(`${what} has ${items.length} axes`);
  return items.map((it) => counted(it, what));
}

function torchGlobals(archive: ZipArchive): Map<string, PickleGlobal | PickleThing> {
  const rebuild = (args: readonly PickleValue[], dtype?: SafetensorsDtype): TorchTensor => {
    const [storage, offset, size, stride] = args;
    if (!isThing(storage, "storage")) {
      throw new TorchError(`a tensor is to be made of ${kindOf(storage)}`);
    }
    const own = storage as Storage;
    const type = dtype ?? own.dtype;
    if (!type || own.entry.size % ITEM_BYTES[type] !== 0) {
      throw new TorchError(`the element type of ${quoted(own.entry.name)} is not known`);
    }
    const shape = axes(size, "a tensor's shape");
    const strides = axes(stride, "a tensor's strides");
    if (shape.length !== strides.length) {
      throw new TorchError(`a tensor has ${shape.length} axes but ${strides.length} strides`);
    }
    return new TorchTensor(
      type,
      shape,
      strides,
      counted(offset, "a tensor's offset"),
      archive,
      own.entry,
    );
  };
  const rebuildV2: PickleGlobal = {
    call: (args) => {
      const flags = args[6];
      if (flags instanceof PickleDict && [...flags.values()].includes(true)) {
        throw new TorchError("conjugated and negated views are not read");
      }
      return rebuild(args);
    },
  };
  const rebuildV3: PickleGlobal = {
    call: (args) => {
      const type = args[6];
      if (!isThing(type, "torch dtype")) throw new TorchError("a tensor's type is missing");
      return rebuild(args, (type as TorchDtype).dtype);
    },
  };
  const parameter: PickleGlobal = {
    call: ([data]) => {
      if (!(data instanceof TorchTensor)) {
        throw new TorchError(`a parameter is made of ${kindOf(data)}`);
      }
      return data;
    },
  };
  const globals = new Map<string, PickleGlobal | PickleThing>([
    ["torch._utils _rebuild_tensor_v2", rebuildV2],
    ["torch._utils _rebuild_tensor", { call: (args) => rebuild(args) }],
    ["torch._utils _rebuild_tensor_v3", rebuildV3],
    ["torch._utils _rebuild_parameter", parameter],
    ["torch._utils _rebuild_parameter_with_state", parameter],
    ["torch Size", { call: ([sizes]) => new PickleTuple(itemsOf(sizes, "a Size")) }],
  ]);
  for (const [dtype, [storage, name]] of Object.entries(DTYPES)) {
    globals.set(`torch ${name}`, { what: "torch dtype", dtype } as TorchDtype);
    if (storage) globals.set(`torch ${storage}`, { what: "storage type", dtype } as StorageType);
  }
  for (const module of ["torch", "torch.storage"]) {
    globals.set(
      `${module} UntypedStorage`,
      { what: "storage type", dtype: undefined } as StorageType,
    );
  }
  return globals;
}

/**
 * All tensors below a value by their path: keys of dictionaries and places in lists, joined by
 * points.
 *
 * @param fileBytes size of the file, which bounds the tensors' size
 * @throws {TorchError} if containers contain themselves or nest too deep, if two paths are alike,
 * or if views repeat values beyond reason
 */
export function torchTensors(value: PickleValue, fileBytes: number): Map<string, TorchTensor> {
  const tensors = new Map<string, TorchTensor>();
  let steps = 0, total = 0;
  const visit = (it: PickleValue, path: string, depth: number): void => {
    if (depth > MAX_DEPTH) {
      throw new TorchError("its dictionaries and lists nest too deep, or contain themselves");
    }
    if (it instanceof TorchTensor) {
      total += Math.max(bytesIn(it), it.cost);
      if (total > MAX_GROWTH * fileBytes + ALWAYS_ALLOWED) {
        throw new TorchError(
          `its tensors come to more than ${total} bytes out of a file of ${fileBytes}`,
        );
      }
      if (path.length > MAX_NAME || tensors.size >= MAX_TENSORS) {
        throw new TorchError(`it has too many tensors or one of too long a name`);
      }
      if (tensors.has(path)) throw new TorchError(`two tensors are called ${quoted(path)}`);
      tensors.set(path, it);
      return;
    }
    const below = path === "" ? "" : `${path}.`;
    const entries = it instanceof PickleDict
      ? it
      : Array.isArray(it) || it instanceof PickleTuple
      ? itemsOf(it, "a container").entries()
      : [];
    for (const [key, child] of entries) {
      if (++steps > MAX_STEPS) throw new TorchError(`it holds more than ${MAX_STEPS} values`);
      if (typeof child === "object" && child !== null) {
        visit(child, `${below}${keyText(key)}`, depth + 1);
      }
    }
  };
  visit(value, "", 0);
  return tensors;
}

/** A checkpoint has some ten thousand values, some six levels deep. */
const MAX_STEPS = 2_000_000;
const MAX_DEPTH = 64;

function keyText(key: PickleValue): string {
  return typeof key === "object" && key !== null ? kindOf(key) : String(key).slice(0, MAX_NAME + 1);
}
