/**
 * Measuring on a machine that others use too: repetitions of a kernel alternate with those of the
 * ceiling it is held against, so that a processor that changes its speed changes both, and what
 * cannot be judged is said to be noise.
 *
 * @module
 */
import type { Device, DeviceFeatures } from "../engine/mod.ts";
import { type CeilingLoads, ceilingLoads } from "../train/run/ceilings.ts";

/** What a kernel is bound by. */
export type Bound = "fma" | "copy";

/** Something that records dispatches without waiting for them, and frees what it makes. */
export type Work = () => void;

/** How often and how long things are measured. */
export interface Repeats {
  /** Samples per benchmark. */
  readonly count: number;
  /** A sample repeats short work until it lasts this long, ms. */
  readonly minimumMs: number;
}

/** Default and `--quick`. */
export const REPEATS: Readonly<Record<"full" | "quick", Repeats>> = {
  full: { count: 7, minimumMs: 40 },
  quick: { count: 5, minimumMs: 15 },
};

/** What else does the same as a benchmark, to be timed beside it. */
export interface Rival {
  readonly run: Work;
  /** Share of the whole that `run` does: a slow kernel is timed on some of the rows. */
  readonly share: number;
  /** Throws unless the results are ours. */
  agree(): Promise<void>;
}

/** A benchmark whose operands are on the device. */
export interface Prepared extends Disposable {
  readonly run: Work;
  /** The plain kernel, one thread per output. */
  readonly naive?: Rival;
  /** The same from our other kernels. */
  readonly composed?: Rival;
  /** Columns of this benchmark alone, from its median time. */
  extra?(ms: number): Extra;
}

/** Columns that only some benchmarks have. */
export interface Extra {
  /** Seconds of audio per second. */
  readonly real_time?: number;
  readonly samples_per_s?: number;
  /** Bytes that tensors hold. */
  readonly peak_bytes?: number;
  /** Script time of a replayed step over its dispatches. */
  readonly us_per_dispatch?: number;
}

/** What can be measured. */
export interface Benchmark {
  /** Group, variant and sizes with `/` between. */
  readonly name: string;
  /** Which ceiling it is held against. */
  readonly bound: Bound;
  /** Operations that have to be done, a multiply-add counting as two. */
  readonly flops: number;
  /** Bytes that have to be moved: each operand once. Absent where nobody counts them. */
  readonly bytes?: number;
  /** Samples, where they take long. */
  readonly count?: number;
  /** Part of `--quick`, or of the short list that `--check --quick` judges in CI too. */
  readonly tier: "check" | "quick" | "full";
  /** What the adapter must have. */
  readonly needs?: keyof DeviceFeatures;
  prepare(device: Device): Promise<Prepared>;
}

/** One line of the report; times in ms. */
export interface Row extends Extra {
  readonly name: string;
  readonly bound: Bound;
  /** Median. */
  readonly ms: number;
  /** Half the distance between the quartiles over the median. */
  readonly spread: number;
  readonly gflops?: number;
  readonly gbps?: number;
  /** Operations per byte that has to be moved. */
  readonly intensity?: number;
  /** Of the ceiling that binds, measured right before and after each sample; median. */
  readonly fraction: number;
  /** Spread of the fraction. */
  readonly fraction_spread: number;
  /** Time of the naive kernel over ours. */
  readonly naive_ratio?: number;
  /** Time of our composition over ours. */
  readonly composition_ratio?: number;
  /** Times of other engines over ours. */
  readonly peers?: Readonly<Record<string, number>>;
  /** Why a peer has no ratio. */
  readonly peer_notes?: Readonly<Record<string, string>>;
}

/** Middle value; of an even number the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Linear between neighbours, as NumPy's default. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}

/** Half the distance between the quartiles over the median. */
export function spreadOf(values: readonly number[]): number {
  return (quantile(values, 0.75) - quantile(values, 0.25)) / 2 / median(values);
}

/**
 * Fraction of a ceiling that was sampled before the first and after every sample of the kernel.
 *
 * @param rates of the kernel, n of them
 * @param ceilings n + 1 of them
 */
export function fractionsOf(rates: readonly number[], ceilings: readonly number[]): number[] {
  return rates.map((rate, i) => 2 * rate / (ceilings[i] + ceilings[i + 1]));
}

/** How steady the ceilings were over a run. */
export interface Noise {
  /** Spread of all samples of the FMA ceiling. */
  readonly drift: number;
  /** Median relative distance of neighbouring samples: what neighbours cannot take out. */
  readonly jitter: number;
}

/**
 * Above these nothing is judged. Undisturbed runs on two shared cores showed drifts up to 0.2,
 * jitters up to 0.06.
 */
export const NOISE_LIMIT: Noise = { drift: 0.4, jitter: 0.15 };

/** @param rows samples of one ceiling, row by row in order of time */
export function noiseOf(rows: readonly (readonly number[])[]): Noise {
  const jumps = rows.flatMap((samples) =>
    samples.slice(1).map((value, i) => 2 * Math.abs(value - samples[i]) / (value + samples[i]))
  );
  const all = rows.flat();
  return all.length < 2 ? { drift: 0, jitter: 0 } : { drift: spreadOf(all), jitter: median(jumps) };
}

/** Whether a run is too noisy to judge. */
export function isNoisy({ drift, jitter }: Noise): boolean {
  return drift > NOISE_LIMIT.drift || jitter > NOISE_LIMIT.jitter;
}

/** Milliseconds a sample of a ceiling lasts. */
const CEILING_MS = 15;
/** Rounds in one sample; more would fill the recorder's ring several times over. */
const MOST_ROUNDS = 4096;

/** A device with its ceilings, ready to time work. */
export class Harness implements Disposable {
  /** Samples of the ceilings taken beside each row, in order. */
  readonly samples: Record<Bound, number[][]> = { fma: [], copy: [] };
  #rounds: Record<Bound, number> = { fma: 1, copy: 1 };

  private constructor(
    readonly device: Device,
    readonly repeats: Repeats,
    readonly loads: CeilingLoads & Disposable,
    /**
     * Whether asking for the end of submitted work waits for it, as Deno's `onSubmittedWorkDone`
     * does.
     */
    private readonly drains: boolean,
  ) {}

  /** Builds and calibrates the ceilings. */
  static async open(device: Device, repeats: Repeats): Promise<Harness> {
    const loads = await ceilingLoads(device.gpu);
    // Deno waits inside the call and then sleeps 10 ms before it settles; only the call is worth
    // timing then.
    let drains = false;
    for (let rounds = 1;; rounds *= 2) {
      const start = performance.now();
      loads.fma.submit(rounds);
      const done = device.gpu.queue.onSubmittedWorkDone();
      const called = performance.now() - start;
      await done;
      const settled = performance.now() - start;
      if (settled < 60 && rounds < 2 ** 20) continue;
      drains = called > settled / 2;
      break;
    }
    const harness = new Harness(device, repeats, loads, drains);
    for (const bound of ["fma", "copy"] as const) {
      await harness.#time(() => loads[bound].submit(1), 1);
      const once = await harness.#time(() => loads[bound].submit(1), 1);
      const rounds = Math.max(1, Math.round(CEILING_MS / once));
      const many = await harness.#time(() => loads[bound].submit(rounds), 1);
      harness.#rounds[bound] = Math.max(1, Math.round(rounds * CEILING_MS / many));
    }
    return harness;
  }

  /** Milliseconds per call of `work`, out of `rounds` calls submitted together. */
  async #time(work: Work, rounds: number): Promise<number> {
    const { device } = this;
    const start = performance.now();
    for (let i = 0; i < rounds; i++) work();
    device.flush();
    const done = device.gpu.queue.onSubmittedWorkDone();
    if (!this.drains) await done;
    return Math.max(1e-4, performance.now() - start) / rounds;
  }

  /** One sample of a ceiling, in 10^9 operations or bytes per second. */
  async ceiling(bound: Bound): Promise<number> {
    const rounds = this.#rounds[bound];
    const ms = await this.#time(() => this.loads[bound].submit(rounds), 1);
    return rounds * this.loads[bound].giga / ms * 1000;
  }

  /** Calls of `work` that fill a sample. Warms up first. */
  async rounds(work: Work, minimumMs = this.repeats.minimumMs): Promise<number> {
    await this.#time(work, 1);
    const once = await this.#time(work, 1);
    const guess = Math.min(MOST_ROUNDS, Math.max(1, Math.ceil(minimumMs / once)));
    if (guess < 4) return guess;
    // A single short call is mostly the cost of submitting it.
    const each = await this.#time(work, guess);
    return Math.min(MOST_ROUNDS, Math.max(guess, Math.ceil(minimumMs / each)));
  }

  /** Measures a benchmark; samples of other engines (`peers`) alternate with its own. */
  async measure(
    benchmark: Benchmark,
    peers: Readonly<Record<string, () => Promise<number>>> = {},
  ): Promise<Row> {
    const { name, bound, flops, bytes = 0, count = this.repeats.count } = benchmark;
    using prepared = await benchmark.prepare(this.device);
    const rivals: Record<string, Rival> = {};
    if (prepared.naive) rivals.naive = prepared.naive;
    if (prepared.composed) rivals.composed = prepared.composed;
    const rounds: Record<string, number> = { ours: await this.rounds(prepared.run) };
    for (const [rival, { agree, run }] of Object.entries(rivals)) {
      await agree();
      rounds[rival] = await this.rounds(run, this.repeats.minimumMs / 2);
    }
    const ceilings = [await this.ceiling(bound)];
    const times: number[] = [];
    const ratios: Record<string, number[]> = {};
    for (let i = 0; i < count; i++) {
      const ms = await this.#time(prepared.run, rounds.ours);
      times.push(ms);
      ceilings.push(await this.ceiling(bound));
      // Rivals are far from close calls: two samples do.
      if (i >= 2) continue;
      for (const [rival, { run, share }] of Object.entries(rivals)) {
        (ratios[rival] ??= []).push(await this.#time(run, rounds[rival]) / share / ms);
      }
      for (const [peer, sample] of Object.entries(peers)) {
        (ratios[peer] ??= []).push(await sample() / ms);
      }
    }
    await this.device.sync();
    this.samples[bound].push(ceilings);
    const work = bound === "fma" ? flops : bytes;
    const fractions = fractionsOf(times.map((ms) => work / ms / 1e6), ceilings);
    const ms = median(times);
    const ratio = (rival: string) => ratios[rival] && median(ratios[rival]);
    const peerRatios = Object.fromEntries(Object.keys(peers).map((peer) => [peer, ratio(peer)]));
    return {
      name,
      bound,
      ms,
      spread: spreadOf(times),
      ...(bound === "fma" ? { gflops: flops / ms / 1e6 } : { gbps: bytes / ms / 1e6 }),
      ...(bytes > 0 && { intensity: flops / bytes }),
      fraction: median(fractions),
      fraction_spread: spreadOf(fractions),
      ...(rivals.naive && { naive_ratio: ratio("naive") }),
      ...(rivals.composed && { composition_ratio: ratio("composed") }),
      ...(Object.keys(peers).length > 0 && { peers: peerRatios }),
      ...prepared.extra?.(ms),
    };
  }

  /**
   * Steadiness of the ceilings beside all rows so far, of whichever ceiling was the less steady.
   */
  get noise(): Noise {
    const [fma, copy] = [noiseOf(this.samples.fma), noiseOf(this.samples.copy)];
    return {
      drift: Math.max(fma.drift, copy.drift),
      jitter: Math.max(fma.jitter, copy.jitter),
    };
  }

  [Symbol.dispose](): void {
    this.loads[Symbol.dispose]();
  }
}
