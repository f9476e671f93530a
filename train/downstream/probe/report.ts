/**
 * What probes and fine-tuning found, for people and as JSON: tables, the picture of the confusion
 * matrix, and the files that were skipped.
 *
 * @module
 */
import { printable } from "../../../engine/formats/printable.ts";
import { listSkipped } from "../../cli/listing.ts";
import { lined } from "../../cli/table.ts";
import type { Device } from "../../../engine/mod.ts";
import type { LabelledClip, LabelledFolder } from "../../data/labelled_folder.ts";
import { NoDataError, UsageError } from "../../errors.ts";
import { writeResult } from "../../io/result_file.ts";
import { confusionSvg } from "./confusion_matrix.ts";
import type { Metric } from "./protocol.ts";
import type { ProbeData } from "./splits.ts";
import type { ProbeResult } from "./summary.ts";

/** A line of the table. */
export interface ReportRow {
  /** What the probe saw. */
  readonly name: string;
  /** What it scored. */
  readonly result: ProbeResult;
}

/** Characters of a cell of a table. */
const MOST_CELL = 100;

/** Names of metrics in tables. */
export const METRIC_TITLES: Readonly<Record<Metric, string>> = {
  accuracy: "accuracy",
  balanced: "balanced accuracy",
  mAP: "mAP",
  AUC: "AUC",
};

/** Percent with two digits; a dash for nothing. */
export const percent = (share: number | null | undefined): string =>
  share === null || share === undefined ? "-" : (100 * share).toFixed(2);

/** Mean, interval of several repeats, and folds of each kind of features, in percent. */
export function scoreTable(metric: Metric, rows: readonly ReportRow[]): string[] {
  const folds = rows[0].result.folds.length > 1 ? rows[0].result.folds : [];
  return lined([
    [
      "features",
      "values",
      METRIC_TITLES[metric],
      "+- 95 %",
      ...folds.map(({ fold }) => `fold ${fold}`),
      "epoch",
    ],
    ...rows.map(({ name, result: { dim, mean, ci95, repeats, folds: own, epochs } }) => [
      name,
      String(dim),
      percent(mean),
      percent(repeats.length > 1 ? ci95 : undefined),
      ...folds.map((_, i) => percent(own[i].mean)),
      String(epochs[1]),
    ]),
  ]);
}

/** A line for each class, in percent. */
export function classTable({ per_class, confusion }: ProbeResult): string[] {
  return lined([
    ["class", "clips", ...(confusion ? ["recall", "precision"] : []), "average precision"],
    ...Object.entries(per_class).map(([name, it]) => [
      name,
      String(it.clips),
      ...(confusion ? [percent(it.recall), percent(it.precision)] : []),
      percent(it.average_precision),
    ]),
  ]);
}

/**
 * The classes that are taken for each other most often: true class, taken for, share of its clips.
 */
export function mistakes(
  classes: readonly string[],
  { confusion }: ProbeResult,
  most: number,
): { readonly from: string; readonly to: string; readonly share: number }[] {
  return (confusion ?? []).flatMap((row, i) => {
    const all = row.reduce((a, b) => a + b, 0);
    return row.flatMap((n, j) =>
      i === j || n === 0 ? [] : [{ from: classes[i], to: classes[j], share: n / all }]
    );
  }).sort((a, b) => b.share - a.share).slice(0, most);
}

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

/** What results are of, as JSON files hold it. */
export function sourcesOf(
  device: Device,
  checkpoint: { readonly path: string; readonly sha256: string },
  clips: number,
  skipped: ReadonlyMap<string, string>,
) {
  return {
    checkpoint,
    clips,
    skipped: [...skipped].map(([path, reason]) => ({ path, reason })),
    adapter: device.info.description,
  };
}

/**
 * The clips of a folder that can be used; names the files that were skipped on standard error.
 *
 * @param skipped reasons by path
 * @throws {NoDataError} if none can be used.
 */
export function usableClips(
  { dir, clips }: LabelledFolder,
  isUsable: (clip: LabelledClip) => boolean,
  skipped: ReadonlyMap<string, string>,
): LabelledClip[] {
  const rows = [...skipped].map(([path, reason]) => ({ path, reason }));
  listSkipped(`${skipped.size} of ${clips.length} clips skipped:`, rows);
  const usable = clips.filter(isUsable);
  if (usable.length === 0) throw new NoDataError(`${dir}: no clip can be used`);
  return usable;
}

/** Prints a line for each class, and what is mistaken most often. */
export function printClasses(classes: readonly string[], result: ProbeResult): void {
  console.log(`\n${classTable(result).join("\n")}`);
  const worst = mistakes(classes, result, MOST_MISTAKES);
  if (worst.length === 0) return;
  const texts = worst.map(({ from, to, share }) =>
    `${printable(from, MOST_CELL)} as ${printable(to, MOST_CELL)} (${(100 * share).toFixed(0)} %)`
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

/** @throws {UsageError} if there is no confusion matrix to draw for `--svg`. */
export function requireConfusion(svg: string | undefined, { multiLabel }: ProbeData): void {
  if (svg === undefined || !multiLabel) return;
  throw new UsageError("--svg: clips with several labels have no confusion matrix");
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
  await writeResult(path, confusionSvg(classes, confusion!, title));
}
