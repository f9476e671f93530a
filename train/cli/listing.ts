/** Lists on standard error of what was left out. */

import { printable } from "../../engine/formats/printable.ts";

/** Entries that are shown. */
const MOST_SHOWN = 20;
/** Characters of each. */
const MOST_CHARACTERS = 1000;

/** Prints a headline and the first entries below it; nothing where there are none. */
export function listOnStderr(headline: string, entries: readonly string[]): void {
  if (entries.length === 0) return;
  console.error(headline);
  for (const entry of entries.slice(0, MOST_SHOWN)) {
    console.error(`  ${printable(entry, MOST_CHARACTERS)}`);
  }
  if (entries.length > MOST_SHOWN) console.error(`  and ${entries.length - MOST_SHOWN} more`);
}

/** Prints files that were skipped, with the reason, like {@link listOnStderr}. */
export function listSkipped(
  headline: string,
  rows: readonly { readonly path: string; readonly reason: string }[],
): void {
  listOnStderr(headline, rows.map(({ path, reason }) => `${path}: ${reason}`));
}
