/**
 * What probes and fine-tuning tell and write alike.
 *
 * @module
 */
import { dirname } from "@std/path";
import { listSkipped } from "../../cli/listing.ts";
import type { LabelledFolder } from "../../data/labelled.ts";
import { UsageError } from "../../errors.ts";
import { writeAtomic } from "../../run/rundir.ts";
import type { Metric, ProbeResult } from "./protocol.ts";
import { classTable, confusionSvg, METRIC_TITLES, mistakes } from "./report.ts";

/** Mistakes that are listed. */
const MOST_MISTAKES = 5;

/** The part of a result that every kind of features has, as JSON files hold it. */
export function numbersOf({ dim, mean, ci95, repeats, folds, epochs, rates }: ProbeResult) {
  return {
    mean,
    ci95,
    repeats,
    folds: folds.map((it) => it.mean),
    fold_names: folds.map((it) => it.fold),
    dim,
    best_epochs: { least: epochs[0], median: epochs[1], most: epochs[2] },
    learning_rates: rates,
  };
}

/** Names files that were skipped, on standard error. */
export function tellSkipped(skipped: ReadonlyMap<string, string>, all: number): void {
  const rows = [...skipped].map(([path, reason]) => ({ path, reason }));
  listSkipped(`${skipped.size} of ${all} clips skipped:`, rows);
}

/** Prints a line for each class, and what is mistaken most often. */
export function tellClasses(classes: readonly string[], result: ProbeResult): void {
  console.log(`\n${classTable(result).join("\n")}`);
  const worst = mistakes(classes, result, MOST_MISTAKES);
  if (worst.length === 0) return;
  const texts = worst.map(({ from, to, share }) =>
    `${from} as ${to} (${(100 * share).toFixed(0)} %)`
  );
  console.log(`\nmost often mistaken: ${texts.join(", ")}`);
}

/** How much was tested, for people. */
export function testedText(
  { dir }: LabelledFolder,
  clips: number,
  classes: readonly string[],
  { folds }: ProbeResult,
): string {
  const parts = folds.length === 1 ? `${folds[0].clips} tested` : `${folds.length} folds`;
  return `${dir}: ${clips} clips, ${classes.length} classes, ${parts}`;
}

/** Writes results as JSON. @throws {UsageError} if the file cannot be written */
export async function writeRecord(path: string, record: unknown): Promise<void> {
  const bytes = new TextEncoder().encode(`${JSON.stringify(record, null, 2)}\n`);
  await writeInto(path, () => writeAtomic(path, [bytes]));
}

/**
 * Draws the confusion matrix.
 *
 * @param how the second line of its title
 * @throws {UsageError} if the file cannot be written.
 */
export async function writePicture(
  path: string,
  { dir }: LabelledFolder,
  classes: readonly string[],
  metric: Metric,
  { mean, confusion }: ProbeResult,
  how: string,
): Promise<void> {
  const title = `${dir}: ${METRIC_TITLES[metric]} ${(100 * mean).toFixed(1)} %\n${how}`;
  const bytes = new TextEncoder().encode(confusionSvg(classes, confusion!, title));
  await writeInto(path, () => writeAtomic(path, [bytes]));
}

/** Makes the folder of a result and writes it. @throws {UsageError} if that cannot be */
export async function writeInto(path: string, write: () => Promise<void>): Promise<void> {
  try {
    await Deno.mkdir(dirname(path), { recursive: true });
    await write();
  } catch (error) {
    if (!Object.values(Deno.errors).some((it) => error instanceof it)) throw error;
    throw new UsageError(`${path}: cannot be written`, (error as Error).message);
  }
}
