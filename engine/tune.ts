/**
 * Choosing among kernel variants that compute the same. An op names its variants, the default
 * first; what was measured on this adapter, or what the user asked for, can take the default's
 * place.
 *
 * Measuring is never hidden in an op: {@link Tuning.collect} notes which choices some work makes,
 * `tune` of measure_variants.ts times them, and {@link Tuning.entries} is what an application may
 * keep for the next start, under `fingerprint` of the same file.
 *
 * @module
 */
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
