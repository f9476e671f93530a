/**
 * Comparing results with reference numbers, and the tolerances for it.
 *
 * @module
 */

/**
 * Largest error relative to the largest reference value, and relative L2 error, that a check may
 * have.
 */
export interface Tolerance {
  /** Largest error / largest |reference|. */
  readonly max: number;
  /** ||error|| / ||reference||. */
  readonly l2: number;
  /** Why this much is granted. */
  readonly reason: string;
}

/** One row of the report. */
export interface CheckRow {
  /** Set of reference numbers. */
  readonly set: string;
  /** What was compared. */
  readonly check: string;
  /** Largest error relative to the largest |reference|. */
  readonly max_error: number;
  /** Relative L2 error. */
  readonly rel_l2: number;
  /** Allowed `max_error`. */
  readonly tolerance: number;
  /** Allowed `rel_l2`. */
  readonly tolerance_l2: number;
  /** Whether both hold. */
  readonly passed: boolean;
  /** Why the tolerance is what it is. */
  readonly reason: string;
}

/**
 * How much larger than PyTorch's float32/float64 difference an error may be: other summation
 * orders.
 */
const FACTOR = 8;

const observed = (what: string, max: number, l2: number): Tolerance => ({
  max: FACTOR * max,
  l2: FACTOR * l2,
  reason: `${FACTOR} x the float32/float64 difference of ${what} in PyTorch ` +
    "(tests/README.md, Golden files)",
});

/** Tolerances by quantity: {@link FACTOR} times what runs in float32 differ by. */
export const TOLERANCES = {
  power: observed("the STFT power", 3.5e-7, 1.5e-7),
  logMelSweep: observed(
    "the log-mel of a sweep, where nearly empty bins stand beside loud ones",
    9e-5,
    5e-6,
  ),
  logMel: observed("the log-mel", 2e-6, 1e-7),
  logMelCentred: observed("the centred (nnAudio) log-mel", 3.3e-5, 3.5e-6),
  resample: observed(
    "resampling from 48000 Hz; kernels here are built in float64 for every rate",
    1.5e-6,
    6e-7,
  ),
  forward: observed("forward tensors", 1.4e-6, 8e-7),
  loss: observed("losses and gradient norms", 2e-7, 2e-7),
  gradient: observed("gradients", 2.1e-6, 1.8e-6),
  updated: observed("parameters after updates", 7.3e-6, 4.2e-7),
  teacher: observed("teachers after averaging", 2e-7, 8e-8),
  operation: observed("single operations", 1.8e-6, 1.6e-6),
  offsetNorm: observed("a layer norm whose rows have an offset of 1000", 2.7e-5, 2.1e-5),
  embedding: observed("embeddings of the inference package", 1e-6, 9e-7),
  probe: observed("a probe's weights, logits and losses", 5e-7, 2e-7),
  metric: { max: 1e-12, l2: 1e-12, reason: "metrics are float64 on both sides" },
  exact: { max: 0, l2: 0, reason: "indices and copies are exact" },
  table: {
    max: 2e-7,
    l2: 2e-7,
    reason: "tables are float64 results rounded once or twice to float32 (6e-8 each)",
  },
  schedule: { max: 1e-12, l2: 1e-12, reason: "schedules are float64 on both sides" },
} as const satisfies Record<string, Tolerance>;

type Numbers = ArrayLike<number>;

/**
 * Errors of `actual` against `expected`; non-finite values must match exactly.
 *
 * @param floor errors are relative to this much at least
 */
export function errorsOf(
  actual: Numbers,
  expected: Numbers,
  floor = 0,
): { max: number; l2: number } {
  if (actual.length !== expected.length) return { max: Infinity, l2: Infinity };
  let largest = 0;
  let worst = 0;
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    if (!Number.isFinite(expected[i]) || !Number.isFinite(actual[i])) {
      if (Object.is(actual[i], expected[i])) continue;
      return { max: Infinity, l2: Infinity };
    }
    const error = Math.abs(actual[i] - expected[i]);
    largest = Math.max(largest, Math.abs(expected[i]));
    worst = Math.max(worst, error);
    difference += error ** 2;
    norm += expected[i] ** 2;
  }
  const relative = (error: number, scale: number) =>
    error === 0 ? 0 : scale === 0 ? Infinity : error / scale;
  return {
    max: relative(worst, Math.max(largest, floor)),
    l2: Math.sqrt(relative(difference, Math.max(norm, floor ** 2))),
  };
}

/** Collects the rows of one set. */
export class Report {
  readonly rows: CheckRow[] = [];

  /** @param set name in every row */
  constructor(private readonly set: string) {}

  /** Compares whole arrays. */
  compare(check: string, actual: Numbers, expected: Numbers, tolerance: Tolerance): void {
    this.#push(check, errorsOf(actual, expected), tolerance);
  }

  /**
   * Compares row by row (rows of `width`), for values that span many orders of magnitude; reports
   * the worst row. What float64 itself could not resolve beside the largest value (a saturated
   * softmax's gradient of 1e-25 comes out as 0 in the reference) is no error.
   */
  compareRows(
    check: string,
    actual: Numbers,
    expected: Numbers,
    width: number,
    tolerance: Tolerance,
  ): void {
    const worst = { max: 0, l2: 0 };
    if (actual.length !== expected.length) worst.max = worst.l2 = Infinity;
    const a = Float64Array.from(actual);
    const e = Float64Array.from(expected);
    const floor = Number.EPSILON *
      e.reduce((most, x) => Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most, 0);
    for (let at = 0; at < e.length; at += width) {
      const row = errorsOf(a.subarray(at, at + width), e.subarray(at, at + width), floor);
      worst.max = Math.max(worst.max, row.max);
      worst.l2 = Math.max(worst.l2, row.l2);
    }
    this.#push(`${check} (row by row)`, worst, tolerance);
  }

  #push(check: string, { max, l2 }: { max: number; l2: number }, tolerance: Tolerance): void {
    this.rows.push({
      set: this.set,
      check,
      max_error: max,
      rel_l2: l2,
      tolerance: tolerance.max,
      tolerance_l2: tolerance.l2,
      passed: max <= tolerance.max && l2 <= tolerance.l2,
      reason: tolerance.reason,
    });
  }
}
