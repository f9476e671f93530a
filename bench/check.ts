/**
 * Holding a run against the committed baseline: fractions of ceilings with bands, never times.
 *
 * @module
 */
import { median } from "./harness.ts";

/** What a benchmark reached when the baseline was learned. */
export interface Expectation {
  /** Of its ceiling. */
  readonly fraction: number;
  /** How far a run may fall below, as a share of the fraction. */
  readonly band: number;
  /** Time of the plain kernel over ours, where there is one. */
  readonly naive_ratio?: number;
}

/** Expectations by adapter and benchmark name. */
export type Baseline = Readonly<Record<string, Readonly<Record<string, Expectation>>>>;

/** What is judged of a row. */
export interface Measured {
  readonly name: string;
  readonly fraction: number;
  readonly fraction_spread: number;
  readonly naive_ratio?: number;
}

/** A row against its expectation. */
export interface Judgement extends Measured {
  readonly expected: Expectation;
  readonly band: number;
  /** `noisy`: its own samples differ by more than the band, so that nothing follows. */
  readonly verdict: "passed" | "failed" | "noisy";
}

/** Repeated runs of an undisturbed machine differ by less than a narrower band would allow. */
const NARROWEST = 0.15;
/** A kernel that loses a third must fail, whatever the noise. */
const WIDEST = 0.3;

/** The adapter as baselines know it; on a processor the number of cores belongs to it. */
export function adapterKey(
  { description, software }: { readonly description: string; readonly software: boolean },
  cores: number,
): string {
  return software ? `${description}, ${cores} cores` : description;
}

/**
 * Expectations from repeated runs: the median fraction, and a band of twice the largest distance
 * from it.
 *
 * @param runs of the same benchmarks
 */
export function learn(runs: readonly (readonly Measured[])[]): Record<string, Expectation> {
  const byName = Map.groupBy(runs.flat(), ({ name }) => name);
  return Object.fromEntries([...byName].map(([name, rows]) => {
    const values = rows.map((row) => row.fraction);
    const ratios = rows.flatMap(({ naive_ratio }) => naive_ratio ?? []);
    const fraction = median(values);
    const farthest = Math.max(...values.map((it) => Math.abs(it - fraction))) / fraction;
    const band = Math.min(WIDEST, Math.max(NARROWEST, 2 * farthest));
    const plain = ratios.length > 0 && { naive_ratio: round(median(ratios)) };
    return [name, { fraction: round(fraction), band: round(band), ...plain }];
  }));
}

function round(x: number): number {
  return Number(x.toPrecision(3));
}

/**
 * Judges rows; those that nothing is expected of are left out. A kernel fell only if it did so
 * against both yardsticks, its ceiling and its plain kernel: what else runs on a shared machine
 * takes caches and memory from kernels but nothing from multiply-adds in registers, and slows a
 * plain kernel as well.
 *
 * @param band takes the place of the learned bands
 */
export function judge(
  rows: readonly Measured[],
  expectations: Readonly<Record<string, Expectation>>,
  band?: number,
): Judgement[] {
  return rows.filter(({ name }) => Object.hasOwn(expectations, name)).map((row) => {
    const { name, fraction, fraction_spread, naive_ratio } = row;
    const expected = expectations[name];
    const width = band ?? expected.band;
    const fellBehind = (value?: number, learned?: number) =>
      value === undefined || learned === undefined || value < learned * (1 - width);
    const fell = fraction < expected.fraction * (1 - width) &&
      fellBehind(naive_ratio, expected.naive_ratio);
    const verdict = !fell ? "passed" : fraction_spread > width ? "noisy" : "failed";
    return { ...row, expected, band: width, verdict };
  });
}

/** Kernel, expected, measured, one line each under a heading. */
export function judgementTable(judgements: readonly Judgement[]): string {
  const percent = (x: number) => `${(100 * x).toFixed(1)}%`;
  const lines = judgements.map(({ name, fraction, fraction_spread, expected, band, verdict }) => [
    name,
    `${percent(expected.fraction)}, at least ${percent(expected.fraction * (1 - band))}`,
    `${percent(fraction)} ±${percent(fraction_spread)}`,
    verdict === "noisy" ? "too noisy to judge" : verdict,
  ]);
  const all = [["kernel", "expected of its ceiling", "measured", "verdict"], ...lines];
  const widths = all[0].map((_, column) => Math.max(...all.map((line) => line[column].length)));
  return all.map((line) => line.map((it, i) => it.padEnd(widths[i])).join("  ").trimEnd())
    .join("\n");
}
