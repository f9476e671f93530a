/**
 * Tables of text.
 *
 * @module
 */

import { printable } from "../../engine/formats/printable.ts";

/** Characters of a cell that are shown. */
const MOST_CELL = 100;

/**
 * Columns lined up, two spaces between them; what would move a terminal's cursor is escaped, since
 * names in cells come from files.
 *
 * @param left how many columns from the first stand at the left; the others stand at the right
 */
export function lined(cells: readonly (readonly string[])[], left = 1): string[] {
  const rows = cells.map((row) => row.map((it) => printable(it, MOST_CELL)));
  const widths = cells[0].map((_, i) =>
    rows.reduce((most, row) => Math.max(most, row[i].length), 0)
  );
  return rows.map((row) =>
    row.map((cell, i) => i < left ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ")
  );
}

/** A table in Markdown as `deno fmt` leaves it, the first column to the left, others right. */
export function markdownTable(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0].map((_, i) => Math.max(3, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[], fill = " ") =>
    `| ${
      cells.map((cell, i) =>
        i === 0 ? cell.padEnd(widths[i], fill) : cell.padStart(widths[i], fill)
      ).join(" | ")
    } |`;
  const rule = widths.map((width, i) => i === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`);
  const [head, ...body] = rows;
  return [line(head), line(rule), ...body.map((row) => line(row))];
}
