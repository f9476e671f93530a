/**
 * Reads pickles as `torch.save` writes them (protocols 2 to 5) with a stack machine of its own.
 *
 * A pickle is a program: in Python it may name any function and call it. Here the opcodes and the
 * globals are those of a list; a global stands for code in this repository that builds plain data,
 * nothing is imported and nothing else is called. The machine does not recurse, and everything that
 * a program could make it hoard is counted.
 *
 * @module
 */
import {
  isGlobal,
  isNumpyArray,
  isNumpyDtype,
  itemsOf,
  kindOf,
  PickleDict,
  PickleError,
  type PickleGlobals,
  PickleTuple,
  type PickleValue,
  PLAIN_GLOBALS,
  plainInteger,
  setItem,
  sizeOf,
} from "./pickle_values.ts";
import { quoted } from "../../engine/formats/printable.ts";

/** Bounds on what a pickle may hold. */
export interface PickleLimits {
  /** Bytes of it. */
  readonly bytes: number;
  /** Opcodes that are run. */
  readonly steps: number;
  /** Values made. */
  readonly values: number;
  /** Values on the stack. */
  readonly stack: number;
  /** Marks open at a time: how deep containers nest while they are read. */
  readonly marks: number;
  /** Values remembered. */
  readonly memo: number;
  /** Bytes of a whole number. */
  readonly longBytes: number;
  /** Bytes of a string. */
  readonly stringBytes: number;
  /**
   * Items and characters that calls may go through, all together: a call can name the same long
   * list again and again.
   */
  readonly work: number;
}

/** A checkpoint with optimizer state has some ten thousand values in some hundred kilobytes. */
export const PICKLE_LIMITS: PickleLimits = {
  bytes: 1 << 24,
  steps: 4_000_000,
  values: 1_000_000,
  stack: 500_000,
  marks: 1_000,
  memo: 500_000,
  longBytes: 256,
  stringBytes: 1 << 24,
  work: 1 << 22,
};

/** Bytes of a text that is put together by hand. */
const SHORT = 64;
/** Most characters of a global's name. */
const MAX_NAME = 1000;

/** How to read one. */
export interface UnpickleOptions {
  /** Globals that may be named, beside {@link PLAIN_GLOBALS}. */
  readonly globals?: PickleGlobals;
  /** What a persistent id stands for; absent: none may occur. */
  readonly persistent?: (id: PickleValue) => PickleValue;
  /** Tighter or wider bounds. */
  readonly limits?: Partial<PickleLimits>;
}

const MARK = Symbol("mark");

/**
 * Runs a pickle.
 *
 * @returns the value that STOP leaves
 * @throws {PickleError} at anything that is not on the lists, damaged, or beyond the limits
 */
export function unpickle(bytes: Uint8Array, options: UnpickleOptions = {}): PickleValue {
  return new Machine(bytes, options).run();
}

class Machine {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #globals: PickleGlobals | undefined;
  readonly #persistent: UnpickleOptions["persistent"];
  readonly #limits: PickleLimits;
  readonly #stack: (PickleValue | typeof MARK)[] = [];
  readonly #memo = new Map<number, PickleValue>();
  #steps = 0;
  #marks = 0;
  #made = 0;
  #work = 0;
  #at = 0;

  constructor(bytes: Uint8Array, { globals, persistent, limits }: UnpickleOptions) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#globals = globals;
    this.#persistent = persistent;
    this.#limits = { ...PICKLE_LIMITS, ...limits };
    if (bytes.byteLength > this.#limits.bytes) {
      throw new PickleError(`${bytes.byteLength} bytes are more than ${this.#limits.bytes}`);
    }
  }

  run(): PickleValue {
    for (;;) {
      const start = this.#at;
      if (++this.#steps > this.#limits.steps) {
        throw new PickleError(`it takes more than ${this.#limits.steps} steps`);
      }
      const code = this.#bytes[this.#take(1)];
      const operation = OPERATIONS[code];
      if (!operation) {
        throw new PickleError(
          `opcode 0x${
            code.toString(16).padStart(2, "0")
          } at byte ${start} is not one that is read here`,
        );
      }
      if (operation === STOP) {
        const value = this.pop();
        if (this.#stack.length > 0) {
          throw new PickleError(`${this.#stack.length} values are left behind at the end`);
        }
        return value;
      }
      try {
        operation(this);
      } catch (error) {
        if (!(error instanceof PickleError)) throw error;
        throw new PickleError(`${error.message} (at byte ${start} of the pickle)`, {
          cause: error.cause,
        });
      }
    }
  }

  #take(length: number): number {
    const at = this.#at;
    if (length > this.#bytes.byteLength - at) {
      throw new PickleError(
        `${length} bytes are to follow at byte ${at}, but the pickle ends at ` +
          `${this.#bytes.byteLength}`,
      );
    }
    this.#at += length;
    return at;
  }

  u8 = (): number => this.#view.getUint8(this.#take(1));
  u16 = (): number => this.#view.getUint16(this.#take(2), true);
  u32 = (): number => this.#view.getUint32(this.#take(4), true);
  i32 = (): number => this.#view.getInt32(this.#take(4), true);
  u64 = (): number => Number(this.#view.getBigUint64(this.#take(8), true));
  f64 = (): number => this.#view.getFloat64(this.#take(8), false);

  raw(length: number, limit: number = this.#limits.stringBytes): Uint8Array {
    if (length > limit) throw new PickleError(`a text or number of ${length} bytes is too long`);
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  text(length: number): string {
    const bytes = this.raw(length);
    // The decoder takes longer to start than to read a name.
    if (length < SHORT && bytes.every((it) => it < 0x80)) return String.fromCharCode(...bytes);
    try {
      return UTF8.decode(bytes);
    } catch {
      throw new PickleError("a string is not UTF-8");
    }
  }

  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0 || end - this.#at > MAX_NAME) throw new PickleError("a name has no end");
    const text = this.text(end - this.#at);
    this.#at++;
    return text;
  }

  long(length: number): number | bigint {
    const bytes = this.raw(length, this.#limits.longBytes);
    // Digits are read at once; shifting byte by byte takes the square of the length.
    const digits = Array.from(bytes.toReversed(), (it) => it.toString(16).padStart(2, "0"));
    const value = BigInt(`0x0${digits.join("")}`);
    return plainInteger(BigInt.asIntN(8 * length, value));
  }

  push(value: PickleValue): void {
    if (++this.#made > this.#limits.values) {
      throw new PickleError(`it holds more than ${this.#limits.values} values`);
    }
    if (this.#stack.length >= this.#limits.stack) {
      throw new PickleError(`more than ${this.#limits.stack} values wait on the stack`);
    }
    this.#stack.push(value);
  }

  mark(): void {
    if (++this.#marks > this.#limits.marks) {
      throw new PickleError(`containers nest deeper than ${this.#limits.marks}`);
    }
    this.#stack.push(MARK);
  }

  pop(): PickleValue {
    const value = this.#stack.pop();
    if (value === undefined || value === MARK) throw new PickleError("a value is missing");
    return value;
  }

  /** Drops the value or the mark on top. */
  drop(): void {
    const value = this.#stack.pop();
    if (value === undefined) throw new PickleError("a value is missing");
    if (value === MARK) this.#marks--;
  }

  top(): PickleValue {
    const value = this.#stack.at(-1);
    if (value === undefined || value === MARK) throw new PickleError("a value is missing");
    return value;
  }

  /** Takes the values above the last mark, and the mark. */
  popMark(): PickleValue[] {
    const at = this.#stack.lastIndexOf(MARK);
    if (at < 0) throw new PickleError("a mark is missing");
    this.#marks--;
    const values = this.#stack.splice(at).slice(1);
    return values as PickleValue[];
  }

  /** @param index default: as many as there are */
  put(index: number = this.#memo.size): void {
    this.#memo.set(index, this.top());
    if (this.#memo.size > this.#limits.memo) {
      throw new PickleError(`more than ${this.#limits.memo} values are remembered`);
    }
  }

  get(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw new PickleError(`value ${index} was never remembered`);
    this.push(value);
  }

  global(module: PickleValue, name: PickleValue): void {
    if (typeof module !== "string" || typeof name !== "string") {
      throw new PickleError(`it names ${kindOf(name)} in ${kindOf(module)} as what is to be built`);
    }
    if (module.length + name.length > MAX_NAME) {
      throw new PickleError(`a name in ${quoted(module)} is too long`);
    }
    const key = `${module} ${name}`;
    const known = this.#globals?.get(key) ?? PLAIN_GLOBALS.get(key);
    if (known === undefined) {
      throw new PickleError(
        `it names ${quoted(`${module}.${name}`)}, which is not on the list of what may be built`,
      );
    }
    this.push(known);
  }

  reduce(): void {
    const args = this.pop();
    const callee = this.pop();
    if (!(args instanceof PickleTuple)) {
      throw new PickleError(`a call's arguments are ${kindOf(args)}`);
    }
    if (!isGlobal(callee) || !callee.call) {
      throw new PickleError(`${kindOf(callee)} that cannot be called is called`);
    }
    for (const arg of args.items) this.#charge(arg);
    this.push(callee.call(args.items));
  }

  #charge(value: PickleValue): void {
    this.#work += sizeOf(value);
    if (this.#work > this.#limits.work) throw new PickleError("its calls go through too much");
  }

  newObject(): void {
    const args = this.pop();
    const type = this.pop();
    if (!(args instanceof PickleTuple) || args.items.length > 0) {
      throw new PickleError("an object is made with arguments");
    }
    if (!isGlobal(type) || !type.create) {
      throw new PickleError(`an object of ${kindOf(type)} is made`);
    }
    this.push(type.create());
  }

  build(): void {
    const state = this.pop();
    const target = this.top();
    if (target instanceof PickleDict && target.kind === "OrderedDict") target.attributes = state;
    else if (target instanceof PickleDict && target.kind === "Namespace") {
      if (!(state instanceof PickleDict)) {
        throw new PickleError(`the state of a Namespace is ${kindOf(state)}`);
      }
      this.#charge(state);
      for (const [key, value] of state) setItem(target, key, value);
    } else if (isNumpyDtype(target)) {
      if (itemsOf(state, "the state of a numpy type")[1] === ">") {
        throw new PickleError("numbers of numpy are big-endian");
      }
    } else if (!isNumpyArray(target)) {
      throw new PickleError(`state is given to ${kindOf(target)}`);
    }
  }

  persistent(): void {
    const id = this.pop();
    if (!this.#persistent) throw new PickleError("it refers to data outside of itself");
    this.push(this.#persistent(id));
  }

  append(values: readonly PickleValue[]): void {
    const list = this.top();
    if (!Array.isArray(list)) throw new PickleError(`values are appended to ${kindOf(list)}`);
    for (const value of values) list.push(value);
  }

  add(values: readonly PickleValue[]): void {
    const items = this.top();
    if (!(items instanceof Set)) throw new PickleError(`values are added to ${kindOf(items)}`);
    for (const value of values) items.add(value);
  }

  setItems(pairs: readonly PickleValue[]): void {
    const dict = this.top();
    if (!(dict instanceof PickleDict)) {
      throw new PickleError(`entries are given to ${kindOf(dict)}`);
    }
    if (pairs.length % 2 !== 0) throw new PickleError("a key has no value");
    for (let i = 0; i < pairs.length; i += 2) setItem(dict, pairs[i], pairs[i + 1]);
  }

  tuple(count: number): void {
    const items = new Array<PickleValue>(count);
    for (let i = count - 1; i >= 0; i--) items[i] = this.pop();
    this.push(new PickleTuple(items));
  }
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

type Operation = (machine: Machine) => void;

const STOP: Operation = () => {};

function dictOf(pairs: readonly PickleValue[], m: Machine): void {
  m.push(new PickleDict());
  m.setItems(pairs);
}

/** The opcodes that are read; names are those of Python's pickletools. */
const OPERATIONS: readonly (Operation | undefined)[] = (() => {
  const table: Record<string, Operation> = {
    "\x80": (m) => { // PROTO
      const version = m.u8();
      if (version > 5) throw new PickleError(`protocol ${version} is not known`);
    },
    "\x95": (m) => void m.u64(), // FRAME
    ".": STOP,
    "(": (m) => m.mark(),
    "0": (m) => m.drop(),
    "1": (m) => void m.popMark(),
    "2": (m) => m.push(m.top()), // DUP
    "N": (m) => m.push(null),
    "\x88": (m) => m.push(true),
    "\x89": (m) => m.push(false),
    "J": (m) => m.push(m.i32()),
    "K": (m) => m.push(m.u8()),
    "M": (m) => m.push(m.u16()),
    "\x8a": (m) => m.push(m.long(m.u8())), // LONG1
    "\x8b": (m) => m.push(m.long(m.u32())), // LONG4
    "G": (m) => m.push(m.f64()),
    "X": (m) => m.push(m.text(m.u32())),
    "\x8c": (m) => m.push(m.text(m.u8())), // SHORT_BINUNICODE
    "\x8d": (m) => m.push(m.text(m.u64())), // BINUNICODE8
    "U": (m) => m.push(m.text(m.u8())), // SHORT_BINSTRING
    "T": (m) => m.push(m.text(m.u32())), // BINSTRING
    "C": (m) => m.push(m.raw(m.u8())), // SHORT_BINBYTES
    "B": (m) => m.push(m.raw(m.u32())), // BINBYTES
    "\x8e": (m) => m.push(m.raw(m.u64())), // BINBYTES8
    ")": (m) => m.tuple(0),
    "\x85": (m) => m.tuple(1),
    "\x86": (m) => m.tuple(2),
    "\x87": (m) => m.tuple(3),
    "t": (m) => m.push(new PickleTuple(m.popMark())),
    "]": (m) => m.push([]),
    "l": (m) => m.push(m.popMark()), // LIST
    "a": (m) => m.append([m.pop()]),
    "e": (m) => m.append(m.popMark()),
    "}": (m) => m.push(new PickleDict()),
    "d": (m) => dictOf(m.popMark(), m), // DICT
    "s": (m) => {
      const value = m.pop();
      m.setItems([m.pop(), value]);
    },
    "u": (m) => m.setItems(m.popMark()),
    "\x8f": (m) => m.push(new Set()), // EMPTY_SET
    "\x90": (m) => m.add(m.popMark()), // ADDITEMS
    "\x91": (m) => m.push(new Set(m.popMark())), // FROZENSET
    "q": (m) => m.put(m.u8()),
    "r": (m) => m.put(m.u32()),
    "\x94": (m) => m.put(), // MEMOIZE
    "h": (m) => m.get(m.u8()),
    "j": (m) => m.get(m.u32()),
    "c": (m) => m.global(m.line(), m.line()),
    "\x93": (m) => { // STACK_GLOBAL
      const name = m.pop();
      m.global(m.pop(), name);
    },
    "R": (m) => m.reduce(),
    "\x81": (m) => m.newObject(), // NEWOBJ
    "b": (m) => m.build(),
    "Q": (m) => m.persistent(), // BINPERSID
  };
  const list: (Operation | undefined)[] = Array.from({ length: 256 });
  for (const [letter, operation] of Object.entries(table)) {
    list[letter.charCodeAt(0)] = operation;
  }
  return list;
})();
