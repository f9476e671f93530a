/**
 * What pickles hold, as plain data, and the globals that checkpoints of training programs name
 * beside torch's.
 *
 * @module
 */
import { printable, quoted } from "../../engine/formats/printable.ts";

/** The bytes are no pickle that is read here; the message says what was met and where. */
export class PickleError extends Error {
  /** Stable name. */
  override name = "PickleError";
}

/** A Python tuple. */
export class PickleTuple {
  /** Wraps the items. */
  constructor(readonly items: readonly PickleValue[]) {}
}

/** A Python dictionary, `kind` saying which; keys keep their order. */
export class PickleDict extends Map<PickleValue, PickleValue> {
  /** What a BUILD opcode gave an OrderedDict beside its entries, such as torch's `_metadata`. */
  attributes: PickleValue = null;

  /** An empty one. */
  constructor(readonly kind: "dict" | "OrderedDict" | "defaultdict" | "Namespace" = "dict") {
    super();
  }
}

/** A global that is on the list. */
export interface PickleGlobal {
  /** What REDUCE does with it; absent: it cannot be called. */
  readonly call?: (args: readonly PickleValue[]) => PickleValue;
  /** What NEWOBJ does with it; absent: it has no instances. */
  readonly create?: () => PickleValue;
}

/** Data of a kind of its own, made by a {@link PickleGlobal}; `what` says what it is. */
export interface PickleThing {
  /** Its kind. */
  readonly what: string;
}

/** What a pickle can hold. Whole numbers beyond 2^53 are bigints, lists are arrays. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | PickleTuple
  | PickleDict
  | Set<PickleValue>
  | PickleGlobal
  | PickleThing;

/** Globals by `module name`. */
export type PickleGlobals = ReadonlyMap<string, PickleGlobal | string | PickleThing>;

/** How a value is named in messages. */
export function kindOf(value: PickleValue | undefined): string {
  if (value === undefined) return "nothing";
  if (value === null) return "None";
  if (Array.isArray(value)) return "a list";
  if (value instanceof PickleTuple) return "a tuple";
  if (value instanceof PickleDict) return `a ${value.kind}`;
  if (value instanceof Set) return "a set";
  if (value instanceof Uint8Array) return "bytes";
  if (typeof value === "object") return "what" in value ? `a ${value.what}` : "a global";
  return { boolean: "a bool", number: "a number", bigint: "a number", string: "a string" }[
    typeof value as "boolean" | "number" | "bigint" | "string"
  ];
}

/** Items of a list or tuple. @throws {PickleError} if it is neither */
export function itemsOf(value: PickleValue | undefined, of: string): readonly PickleValue[] {
  if (value instanceof PickleTuple) return value.items;
  if (Array.isArray(value)) return value;
  throw new PickleError(`${of} is ${kindOf(value)}, not a list or tuple`);
}

/** A key in a message. */
function keyText(key: PickleValue): string {
  if (typeof key === "string") return quoted(key);
  return typeof key === "object" && key !== null ? kindOf(key) : printable(String(key));
}

/**
 * Sets an entry as a dict display would. @throws {PickleError} at a key that is there or cannot be
 * one
 */
export function setItem(dict: PickleDict, key: PickleValue, value: PickleValue): void {
  if (Array.isArray(key) || key instanceof PickleDict || key instanceof Set) {
    throw new PickleError(`${kindOf(key)} is used as a key`);
  }
  if (dict.has(key)) {
    throw new PickleError(`the key ${keyText(key)} occurs twice`);
  }
  dict.set(key, value);
}

/** Adds the pairs of `dict([(key, value), …])`. */
function filled(dict: PickleDict, pairs: PickleValue | undefined): PickleDict {
  if (pairs === undefined) return dict;
  for (const pair of itemsOf(pairs, "what a dict is made from")) {
    const [key, value, more] = itemsOf(pair, "an entry of a dict");
    if (value === undefined || more !== undefined) throw new PickleError("an entry is no pair");
    setItem(dict, key, value);
  }
  return dict;
}

function latin1(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 255) throw new PickleError("text that is not latin1 is to become bytes");
    bytes[i] = code;
  }
  return bytes;
}

/** A numpy dtype: its letter and width, such as `f8`. */
interface NumpyDtype extends PickleThing {
  readonly what: "numpy dtype";
  readonly code: string;
}

export function isNumpyDtype(value: PickleValue | undefined): value is NumpyDtype {
  return typeof value === "object" && value !== null && "what" in value &&
    value.what === "numpy dtype";
}

// Arrays stand in the place of what was there; their values are not read.
export function isNumpyArray(value: PickleValue): boolean {
  return typeof value === "object" && value !== null && "what" in value &&
    value.what === "numpy array";
}

const NUMPY_SCALARS: Readonly<Record<string, (view: DataView) => number | bigint | boolean>> = {
  f8: (it) => it.getFloat64(0, true),
  f4: (it) => it.getFloat32(0, true),
  i8: (it) => plainInteger(it.getBigInt64(0, true)),
  i4: (it) => it.getInt32(0, true),
  u1: (it) => it.getUint8(0),
  b1: (it) => it.getUint8(0) !== 0,
};

function numpyScalar([dtype, bytes]: readonly PickleValue[]): PickleValue {
  if (isNumpyDtype(dtype) && bytes instanceof Uint8Array) {
    const width = Number(dtype.code.slice(1));
    const read = Object.hasOwn(NUMPY_SCALARS, dtype.code) ? NUMPY_SCALARS[dtype.code] : undefined;
    if (read && bytes.byteLength === width) {
      return read(new DataView(bytes.buffer, bytes.byteOffset, width));
    }
  }
  return { what: "numpy scalar" };
}

export function plainInteger(value: bigint): number | bigint {
  const plain = Number(value);
  return Number.isSafeInteger(plain) ? plain : value;
}

const set: PickleGlobal = { call: ([items]) => new Set(items ? itemsOf(items, "a set") : []) };
const path: PickleGlobal = {
  call: (parts) => {
    const text = parts.map((it) => typeof it === "string" ? it : kindOf(it)).join("/")
      .replace(/^\/\//, "/");
    if (text.length > 1 << 16) throw new PickleError("a path is too long");
    return text;
  },
};
const scalar: PickleGlobal = { call: numpyScalar };
const inert = (what: string): PickleGlobal => ({ call: () => ({ what }) });

function named(
  modules: readonly string[],
  names: readonly string[],
  global: PickleGlobal,
): [string, PickleGlobal][] {
  return modules.flatMap((module) =>
    names.map((name): [string, PickleGlobal] => [`${module} ${name}`, global])
  );
}

const BUILTINS = ["__builtin__", "builtins"] as const;

/** What occurs in checkpoints of training programs and is plain data. */
export const PLAIN_GLOBALS: PickleGlobals = new Map<string, PickleGlobal>([
  ["collections OrderedDict", {
    call: ([pairs]) => filled(new PickleDict("OrderedDict"), pairs),
  }],
  ["collections defaultdict", { call: () => new PickleDict("defaultdict") }],
  ["argparse Namespace", { create: () => new PickleDict("Namespace") }],
  ...named(BUILTINS, ["set", "frozenset"], set),
  // Factories of a defaultdict; they are only ever named.
  ...named(BUILTINS, ["dict", "list", "int", "float", "bool", "str"], {}),
  ...named(BUILTINS, ["bytes"], { call: () => new Uint8Array(0) }),
  ["_codecs encode", { call: ([text]) => latin1(typeof text === "string" ? text : "") }],
  ...named(["pathlib", "pathlib._local"], [
    "PosixPath",
    "WindowsPath",
    "PurePosixPath",
    "PureWindowsPath",
  ], path),
  ["numpy dtype", {
    call: ([code]): NumpyDtype => ({
      what: "numpy dtype",
      code: typeof code === "string" ? code : "",
    }),
  }],
  ...named(["numpy.core.multiarray", "numpy._core.multiarray"], ["scalar"], scalar),
  ...named(["numpy.core.multiarray", "numpy._core.multiarray"], ["_reconstruct"], {
    call: () => ({ what: "numpy array" }),
  }),
  ["numpy ndarray", {}],
  ["torch device", inert("torch device")],
]);

/** Items or characters one level down. */
export function sizeOf(value: PickleValue): number {
  if (typeof value === "string" || Array.isArray(value)) return value.length;
  if (value instanceof Uint8Array) return value.byteLength;
  if (value instanceof PickleTuple) return value.items.length;
  return value instanceof Map || value instanceof Set ? value.size : 0;
}

export function isGlobal(value: PickleValue): value is PickleGlobal {
  return typeof value === "object" && value !== null && !Array.isArray(value) &&
    !(value instanceof PickleTuple) && !(value instanceof Map) && !(value instanceof Set) &&
    !(value instanceof Uint8Array) && !("what" in value);
}
