/**
 * Damaged files for fuzzing: each is made from good ones by a few random changes, and the seed and
 * the number of an input make it again.
 *
 * @module
 */
import { Prng } from "../../../engine/prng.ts";

/** Numbers at which readers go wrong. */
const NUMBERS: readonly bigint[] = [
  ...[0n, 1n, 2n, 7n, 8n, 0x7fn, 0x80n, 0xffn, 0x100n, 0x7fffn, 0x8000n, 0xffffn, 0x10000n],
  ...[0xffffffn, 0x7fffffffn, 0x80000000n, 0xffffffffn, 0x100000000n, 2n ** 53n, 2n ** 63n],
  ...[2n ** 64n - 1n, 2n ** 40n, 1_000_000n, 16n, 64n, 65n, 1024n],
];
/** Texts at which readers of text go wrong. */
const TEXTS: readonly string[] = [
  ...["-1", "0", "1e999", "1e-999", "NaN", "null", "true", "[]", "{}", "[[[[[[[[", "]]]]", "}}"],
  ...["{{{{", '"', '""', "'", "\\", "\\u0000", "\ufeff", "\u202e", "\x1b[2J", "\n", "\r\n", "\t"],
  ...["__proto__", "constructor", "9007199254740993", "18446744073709551616", ",", ":", "=", "#"],
  ...["\ud800", "é", "\0", "../..", "/dev/zero", "%s%n", "()", "(t", "}(", "e", "\x85\x85\x85"],
];
/** Most bytes of an input. */
const MOST_BYTES = 1 << 20;
/** Most times that a part is repeated. */
const MOST_REPEATS = 4096;

/** Where inputs come from. */
export interface Corpus {
  /** Good files, at least one. */
  readonly seeds: readonly Uint8Array[];
  /** Words of the format, put in here and there. */
  readonly words?: readonly (string | Uint8Array)[];
}

/** Input number `index` of a corpus under `seed`: the same numbers give the same bytes. */
export function fuzzInput(corpus: Corpus, seed: number, index: number): Uint8Array<ArrayBuffer> {
  const random = new Draws(new Prng(seed, index));
  let bytes = new Uint8Array(random.of(corpus.seeds));
  // One change finds most; many find what one hides.
  for (let left = random.below(4) === 0 ? 1 + random.below(12) : 1; left > 0; left--) {
    bytes = changed(bytes, corpus, random).slice(0, MOST_BYTES);
  }
  return bytes;
}

class Draws {
  constructor(readonly source: Prng) {}

  /** A whole number from 0 to below `count`; 0 where that is 0. */
  below(count: number): number {
    return Math.floor(this.source.uniform() * count);
  }

  of<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)];
  }

  /** A range of bytes, a short one more often than a long one. */
  range(size: number): [from: number, to: number] {
    const from = this.below(size + 1);
    const length = this.below(2) === 0 ? this.below(16) : this.below(size - from + 1);
    return [from, Math.min(size, from + length)];
  }
}

function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, it) => sum + it.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

type Change = (bytes: Uint8Array, random: Draws, corpus: Corpus) => Uint8Array<ArrayBuffer>;

const encoder = new TextEncoder();

function numberBytes(value: bigint, width: number, little: boolean): Uint8Array {
  const bytes = new Uint8Array(width);
  for (let i = 0; i < width; i++) {
    bytes[little ? i : width - 1 - i] = Number(value >> BigInt(8 * i) & 0xffn);
  }
  return bytes;
}

function put(bytes: Uint8Array, at: number, part: Uint8Array): Uint8Array<ArrayBuffer> {
  return joined(bytes.subarray(0, at), part, bytes.subarray(at + part.length));
}

const CHANGES: readonly Change[] = [
  // A bit.
  (bytes, random) => {
    const copy = new Uint8Array(bytes);
    if (copy.length > 0) copy[random.below(copy.length)] ^= 1 << random.below(8);
    return copy;
  },
  // A byte.
  (bytes, random) => {
    const copy = new Uint8Array(bytes);
    if (copy.length > 0) copy[random.below(copy.length)] = random.below(256);
    return copy;
  },
  // A number of 1 to 8 bytes.
  (bytes, random) => {
    const part = numberBytes(random.of(NUMBERS), random.of([1, 2, 4, 8]), random.below(4) > 0);
    return put(bytes, random.below(bytes.length), part);
  },
  // A number written in digits.
  (bytes, random) => {
    const text = new TextDecoder("latin1").decode(bytes);
    const found = [...text.matchAll(/\d+/g)];
    if (found.length === 0) return new Uint8Array(bytes);
    const { 0: digits, index } = random.of(found);
    const value = encoder.encode(String(random.of(NUMBERS)));
    return joined(bytes.subarray(0, index), value, bytes.subarray(index + digits.length));
  },
  // Truncated.
  (bytes, random) => new Uint8Array(bytes.subarray(0, random.below(bytes.length))),
  // A part left out.
  (bytes, random) => {
    const [from, to] = random.range(bytes.length);
    return joined(bytes.subarray(0, from), bytes.subarray(to));
  },
  // A part repeated.
  (bytes, random) => {
    const [from, to] = random.range(bytes.length);
    const most = Math.min(MOST_REPEATS, MOST_BYTES / Math.max(1, to - from));
    const times = random.below(3) === 0 ? random.below(most) : 1 + random.below(3);
    const parts = Array.from({ length: times }, () => bytes.subarray(from, to));
    return joined(bytes.subarray(0, to), ...parts, bytes.subarray(to));
  },
  // A part of another file, over what was there or between.
  (bytes, random, { seeds }) => {
    const other = random.of(seeds);
    const [from, to] = random.range(other.length);
    const at = random.below(bytes.length + 1);
    const end = random.below(2) === 0 ? at : Math.min(bytes.length, at + to - from);
    return joined(bytes.subarray(0, at), other.subarray(from, to), bytes.subarray(end));
  },
  // A part moved.
  (bytes, random) => {
    const [from, to] = random.range(bytes.length);
    const rest = joined(bytes.subarray(0, from), bytes.subarray(to));
    const at = random.below(rest.length + 1);
    return joined(rest.subarray(0, at), bytes.subarray(from, to), rest.subarray(at));
  },
  // A word of the format or of all formats, put in, over what was there, or many times.
  (bytes, random, { words = [] }) => {
    const word = random.of([...words, ...words, ...TEXTS]);
    const part = typeof word === "string" ? encoder.encode(word) : word;
    const at = random.below(bytes.length + 1);
    const times = random.below(8) === 0 ? 1 + random.below(MOST_REPEATS) : 1;
    if (times === 1 && random.below(2) === 0) return put(bytes, at, part);
    const parts = Array.from({ length: times }, () => part);
    return joined(bytes.subarray(0, at), ...parts, bytes.subarray(at));
  },
  // Random bytes.
  (bytes, random) => {
    const [from, to] = random.range(bytes.length);
    const copy = new Uint8Array(bytes);
    for (let i = from; i < to; i++) copy[i] = random.below(256);
    return copy;
  },
];

function changed(bytes: Uint8Array, corpus: Corpus, random: Draws): Uint8Array<ArrayBuffer> {
  return random.of(CHANGES)(bytes, random, corpus);
}
