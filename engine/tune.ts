/**
 * Choosing among kernel variants that compute the same. An op names its variants, the default
 * first; what was measured on this adapter, or what the user asked for, can take the default's
 * place.
 *
 * Measuring is never hidden in an op: {@link Tuning.collect} notes which choices some work makes,
 * {@link tune} times them, and {@link Tuning.entries} is what an application may keep for the next
 * start, under {@link fingerprint}.
 *
 * @module
 */
import type { Device } from "./device.ts";
import { kernelDigest, sha256 } from "./kernel.ts";
import { scope } from "./scope.ts";

/** A problem that several kernel variants can compute. */
export interface Tunable {
  /**
   * Name of the op's kernels and shape class, such as `gemm/nt/f32/1024x768x768`; the name ends at
   * the first slash.
   */
  readonly key: string;
  /** Names of the variants that fit this problem and device, the default first. */
  readonly variants: readonly string[];
  /** Launches a variant once on memory of its own. */
  run(variant: string): void;
}

/** The remembered choice for one problem. */
export interface TuningEntry {
  /** Fastest variant. */
  readonly variant: string;
  /** Median time of each variant over that of the default when it was measured. */
  readonly ratios: Readonly<Record<string, number>>;
}

/** Which variant runs where. */
export class Tuning {
  #entries = new Map<string, TuningEntry>();
  #open: Map<string, Tunable> | undefined;
  readonly #used = new Set<string>();

  /**
   * One per device.
   *
   * @param overrides variant by name of the kernels, used wherever it fits
   * @param fixed ignore what was measured, so that every machine runs the same variants
   */
  constructor(
    private readonly overrides: Readonly<Record<string, string>>,
    private readonly fixed: boolean,
  ) {}

  /**
   * The variant to run. Internal to ops.
   *
   * @param key see {@link Tunable.key}
   * @param variants see {@link Tunable.variants}
   * @param open gives {@link Tunable.run}; asked only when the problem is to be measured
   */
  pick(
    key: string,
    variants: readonly string[],
    open: () => (variant: string) => void,
  ): string {
    const name = key.slice(0, key.indexOf("/"));
    const override = this.overrides[name];
    if (override !== undefined && variants.includes(override)) {
      this.#used.add(name);
      return override;
    }
    if (this.fixed) return variants[0];
    const known = this.#entries.get(key)?.variant;
    if (known !== undefined && variants.includes(known)) return known;
    if (variants.length > 1) this.#open?.set(key, { key, variants, run: open() });
    return variants[0];
  }

  /**
   * Runs `body` and returns what it picked without a measurement; best around a recording, which
   * computes nothing.
   *
   * @param body synchronous
   */
  collect<T>(body: () => T): { readonly result: T; readonly open: readonly Tunable[] } {
    const before = this.#open;
    const open = this.#open = new Map<string, Tunable>();
    try {
      return { result: body(), open: [...open.values()] };
    } finally {
      this.#open = before;
    }
  }

  /** Names with an override that has fitted nothing so far, a misspelt one for example. */
  get unusedOverrides(): readonly string[] {
    return Object.keys(this.overrides).filter((name) => !this.#used.has(name));
  }

  /** What was measured or loaded, by key. */
  get entries(): ReadonlyMap<string, TuningEntry> {
    return this.#entries;
  }

  /** Takes over measurements, such as those of an earlier run on the same {@link fingerprint}. */
  load(entries: Iterable<readonly [key: string, entry: TuningEntry]>): void {
    for (const [key, entry] of entries) this.#entries.set(key, entry);
  }
}

/**
 * What measurements depend on: the adapter as the driver describes it, the runtime, and the text of
 * every kernel.
 */
export async function fingerprint(device: Device): Promise<string> {
  const { vendor, architecture, device: name, description, subgroupSize } = device.info;
  const runtime = (globalThis as { Deno?: { version: { deno: string } } }).Deno?.version.deno;
  const { subgroups, f16 } = device.features;
  const parts = [vendor, architecture, name, description, subgroupSize, subgroups, f16, runtime];
  return (await sha256(`${parts.join("|")}|${await kernelDigest()}`)).slice(0, 16);
}

/** How {@link tune} measures. */
export interface TuneOptions {
  /** Rounds over the variants of a problem; default 5. */
  readonly rounds?: number;
  /** Milliseconds that one timed burst of launches should last at least; default 4. */
  readonly burstMs?: number;
  /** Told before each problem. */
  readonly progress?: (done: number, all: number, key: string) => void;
}

/** A variant must be faster by this much to replace the default: less is noise. */
const WORTHWHILE = 0.95;

/**
 * A variant that takes this many times as long as the default in the first round is timed no more.
 */
const HOPELESS = 3;

/**
 * Times every variant of each problem and remembers the fastest in {@link Device.tuning}. Variants
 * take turns, so that a machine that changes its speed does so for all of them; medians decide.
 *
 * @returns how many defaults were replaced
 * @throws {KernelError} if a variant does not compile.
 */
export async function tune(
  device: Device,
  open: readonly Tunable[],
  { rounds = 5, burstMs = 4, progress }: TuneOptions = {},
): Promise<number> {
  let replaced = 0;
  const burst = async (work: () => void, count: number): Promise<number> => {
    const start = performance.now();
    for (let i = 0; i < count; i++) work();
    await device.sync();
    return performance.now() - start;
  };
  for (const [i, { key, variants, run }] of open.entries()) {
    progress?.(i, open.length, key);
    const works = variants.map((variant) => () => scope(() => run(variant)));
    // The first launch compiles.
    for (const work of works) await burst(work, 1);
    // Waiting alone takes milliseconds on some runtimes.
    const idle = await burst(() => {}, 0);
    const time = async (work: () => void, count: number): Promise<number> =>
      Math.max(1e-3, await burst(work, count) - idle);
    const count = Math.max(1, Math.ceil(burstMs / Math.max(0.05, await time(works[0], 1))));
    const times: number[][] = works.map(() => []);
    for (let round = 0; round < rounds; round++) {
      for (const [v, work] of works.entries()) {
        if (round > 0 && times[v][0] > HOPELESS * times[0][0]) continue;
        times[v].push(await time(work, count));
      }
    }
    const medians = times.map((list) => list.sort((a, b) => a - b)[list.length >> 1]);
    const best = medians.indexOf(Math.min(...medians));
    const winner = medians[best] < WORTHWHILE * medians[0] ? best : 0;
    if (winner !== 0) replaced++;
    const ratios = Object.fromEntries(
      variants.map((variant, v) => [variant, Number((medians[v] / medians[0]).toPrecision(3))]),
    );
    device.tuning.load([[key, { variant: variants[winner], ratios }]]);
  }
  return replaced;
}
