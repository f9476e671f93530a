/**
 * Means of a few values with intervals.
 *
 * @module
 */
import { meanOf, standardError } from "../probe/metrics.ts";

/** Quantile 0.975 of Student's t by degrees of freedom, from 1. */
const QUANTILES = [
  ...[12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228],
  ...[2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093],
];

/** The most values that there is an interval of. */
export const MOST_VALUES = QUANTILES.length + 1;

/** A mean, and half its 95 % interval where there is one. */
export interface Estimate {
  readonly mean: number;
  readonly ci95: number | null;
  /** Values that it is the mean of. */
  readonly n: number;
}

/**
 * Mean of values that are independent draws, with the interval t sd / sqrt(n), sd with n - 1. Of a
 * few values 1.96 in the place of t would be too narrow: of three it covers 81 % and not 95 %.
 *
 * @param values from 1 to {@link MOST_VALUES}; a single one has no interval
 */
export function estimateOf(values: readonly number[]): Estimate {
  const mean = meanOf(values);
  const n = values.length;
  if (n < 2) return { mean, ci95: null, n };
  return { mean, ci95: QUANTILES[n - 2] * standardError(values), n };
}

/** Values by seed. */
export type BySeed = ReadonlyMap<number, number>;

/** Mean of the differences of values with the same seed; undefined where no seed has both. */
export function pairedDifference(values: BySeed, reference: BySeed): Estimate | undefined {
  const both = [...values].filter(([seed]) => reference.has(seed));
  if (both.length === 0) return undefined;
  return estimateOf(both.map(([seed, value]) => value - reference.get(seed)!));
}

/**
 * Whether 0 is outside an interval that says something: scores of few clips come in steps, so that
 * two may well be equal by chance.
 */
export function isClear({ mean, ci95, n }: Estimate): boolean {
  return ci95 !== null && n > 2 && Math.abs(mean) > ci95;
}

/** The middle value, or the mean of the two; NaN of nothing. */
export function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return meanOf(sorted.slice(Math.ceil(middle) - 1, Math.floor(middle) + 1));
}
