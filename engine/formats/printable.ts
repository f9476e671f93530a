/**
 * Text that comes from files, for terminals and messages: what a stranger wrote can neither steer a
 * terminal, forge a line, nor fill the screen.
 *
 * @module
 */

/** Most characters of one text from a file in a message. */
const MOST = 100;
/** Most items of a list from a file in a message. */
const MOST_ITEMS = 8;

/** Controls, formats such as changes of direction, halves of pairs, separators of lines. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu;
const UNPRINTABLE_IN_LINES = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu;

function escaped(character: string): string {
  const code = character.codePointAt(0)!.toString(16);
  return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, "0")}`;
}

function cut(text: string, most: number): string {
  // A pair is not cut in two.
  return text.length > most ? `${text.slice(0, most).replace(/[\ud800-\udbff]$/, "")}…` : text;
}

/** A text on one line: control characters become visible, a long text is cut. */
export function printable(text: string, most = 200): string {
  return cut(text, most).replace(UNPRINTABLE, escaped);
}

/** Lines as they are, without what steers a terminal; each is cut, and four times that is all. */
export function printableLines(text: string, most: number): string {
  const lines = cut(text, most * 20).replace(UNPRINTABLE_IN_LINES, escaped).split("\n");
  return cut(lines.map((it) => cut(it, most)).join("\n"), 4 * most);
}

/** A text in quotation marks, as {@link printable}. */
export function quoted(text: string): string {
  return JSON.stringify(cut(text, MOST)).replace(UNPRINTABLE, escaped);
}

/** The first of some numbers, such as sizes of axes, as `[2, 3, …]`. */
export function listed(values: readonly number[]): string {
  const more = values.length > MOST_ITEMS ? [`… (${values.length})`] : [];
  return `[${[...values.slice(0, MOST_ITEMS), ...more].join(", ")}]`;
}
