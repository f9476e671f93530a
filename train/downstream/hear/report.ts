/**
 * What timestamp tasks found, for people: tables in percent.
 *
 * @module
 */
import { lined } from "../../cli/table.ts";
import { percent } from "../probe/report.ts";
import type { TimestampResult } from "./timestamp_task.ts";

/** A line for each kind of frames: F-measure of onsets, over all and by fold. */
export function foldTable(
  rows: readonly { readonly name: string; readonly result: TimestampResult }[],
): string[] {
  const [{ result: { folds } }] = rows;
  const shown = folds.length > 1 ? folds : [];
  return lined([
    ["features", "values", "onset F", "+- 95 %", ...shown.map(({ fold }) => `fold ${fold}`)],
    ...rows.map(({ name, result: { dim, mean, ci95, folds: own } }) => [
      name,
      String(dim),
      percent(mean),
      own.length > 1 ? percent(ci95) : "-",
      ...shown.map((_, i) => percent(own[i].f)),
    ]),
  ]);
}

/** A line for each class. */
export function eventTable({ per_class }: TimestampResult): string[] {
  return lined([
    ["class", "onset F", "precision", "recall"],
    ...Object.entries(per_class).map(([name, { f, precision, recall }]) => [
      name,
      ...[f, precision, recall].map(percent),
    ]),
  ]);
}
