/**
 * The host's random generator: initial weights, data order, crops and synthetic sound. Numbers that
 * kernels draw are random.ts's.
 *
 * @module
 */
/** The whole state of a generator: four 32-bit words, ready for JSON. */
export interface PrngState {
  /** xoshiro128** state, not all zero. */
  readonly words: readonly [number, number, number, number];
}

/** Random draws, as {@link Prng} makes them. */
export interface RandomSource {
  /** Uniform in [0, 1). */
  uniform(): number;
  /** Standard normal. */
  normal(): number;
}

/**
 * A small seeded generator: xoshiro128** (Blackman and Vigna, 2018), seeded by hashing. Same seed
 * and streams, same numbers on every machine.
 */
export class Prng implements RandomSource {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /**
   * Starts the sequence that belongs to these numbers.
   *
   * @param seed any integer that a double holds exactly
   * @param streams further integers that select an independent sequence, such as an epoch or a clip
   * index
   * @throws {RangeError} if one of them is no such integer.
   */
  constructor(seed: number, ...streams: number[]) {
    let hash = 0x9e3779b9;
    for (const value of [seed, ...streams]) {
      if (!Number.isSafeInteger(value)) {
        throw new RangeError(`a seed must be an integer, got ${value}`);
      }
      hash = mix(hash ^ mix(value >>> 0));
      hash = mix(hash ^ mix(Math.floor(value / 2 ** 32) ^ 0x5bf03635));
    }
    // The finaliser is a bijection, so at most one of four different words is zero.
    this.#a = mix(hash + 0x9e3779b9);
    this.#b = mix(hash + 0x3c6ef372);
    this.#c = mix(hash + 0xdaa66d2b);
    this.#d = mix(hash + 0x78dde6e4);
  }

  /** A generator that goes on from a saved state. */
  static fromState({ words }: PrngState): Prng {
    const prng = new Prng(0);
    [prng.#a, prng.#b, prng.#c, prng.#d] = words;
    return prng;
  }

  /** The state now, for `fromState`. */
  state(): PrngState {
    return {
      words: [this.#a >>> 0, this.#b >>> 0, this.#c >>> 0, this.#d >>> 0],
    };
  }

  /** The next 32 bits, an integer in [0, 2^32). */
  next(): number {
    const scrambled = Math.imul(rotate(Math.imul(this.#b, 5), 7), 9);
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = rotate(this.#d, 11);
    return scrambled >>> 0;
  }

  /** Uniform in [0, 1) in steps of 2^-53, or in [low, high) when bounds are given. */
  uniform(low = 0, high = 1): number {
    const unit = ((this.next() >>> 5) * 2 ** 26 + (this.next() >>> 6)) /
      2 ** 53;
    return low + (high - low) * unit;
  }

  /**
   * Uniform integer in [0, n), without bias: the draws of an incomplete last round are thrown away.
   *
   * @throws {RangeError} if n is not an integer from 1 to 2^32.
   */
  integer(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) {
      throw new RangeError(
        `integer(n) needs n from 1 to 4294967296, got ${n}`,
      );
    }
    const limit = 2 ** 32 - (2 ** 32 % n);
    let draw = this.next();
    while (draw >= limit) draw = this.next();
    return draw % n;
  }

  /**
   * Standard normal (Box-Muller; the second value is dropped so that the state is the four words
   * alone).
   */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** A uniformly random order of 0 to n - 1 (Fisher-Yates). */
  permutation(n: number): Uint32Array {
    const order = new Uint32Array(n);
    for (let i = 0; i < n; i++) order[i] = i;
    for (let i = n - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      const swapped = order[i];
      order[i] = order[j];
      order[j] = swapped;
    }
    return order;
  }
}

function rotate(x: number, bits: number): number {
  return (x << bits) | (x >>> (32 - bits));
}

/** 32-bit finaliser of MurmurHash3. */
function mix(x: number): number {
  let h = x | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
