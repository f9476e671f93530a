/**
 * The text of `--help`: usage, the most used options, the others under headings.
 *
 * @module
 */
import type { CommandSpec } from "./command.ts";
import type { Option } from "./option.ts";
import { SUMMARIES } from "./summaries.ts";

/** Columns of a terminal that nobody made wider. */
const WIDTH = 80;
/** Column where what an option does begins; options that are longer have a line of their own. */
const TEXT_COLUMN = 24;

/**
 * Breaks a text between words.
 *
 * @param indent spaces that lines after the first begin with
 * @param first what the first line begins with
 */
export function wrapped(text: string, indent = 0, first = ""): string {
  const lines = [first];
  for (const word of text.split(/\s+/)) {
    const line = lines[lines.length - 1];
    const isEmpty = line.trim() === "" || line === first;
    if (isEmpty || line.length + 1 + word.length <= WIDTH) {
      lines[lines.length - 1] = isEmpty ? line + word : `${line} ${word}`;
    } else lines.push(" ".repeat(indent) + word);
  }
  return lines.join("\n");
}

function titleOf(name: string, { positional, type: { kind, metavar } }: Option<unknown>): string {
  if (positional) return kind === "list" ? `${metavar}...` : metavar;
  return kind === "flag" ? `--${name}` : `--${name} ${metavar}`;
}

function optionText(name: string, option: Option<unknown>): string {
  const title = `  ${titleOf(name, option)}`;
  const isNeeded = option.required ? " (needed)" : "";
  const text = option.help +
    (option.defaultText === undefined ? isNeeded : ` (default: ${option.defaultText})`);
  const margin = " ".repeat(TEXT_COLUMN);
  return title.length + 2 > TEXT_COLUMN
    ? `${title}\n${wrapped(text, TEXT_COLUMN, margin)}`
    : wrapped(text, TEXT_COLUMN, title.padEnd(TEXT_COLUMN));
}

function usage({ program, options }: CommandSpec): string {
  const entries = Object.entries(options);
  const words = (isPositional: boolean) =>
    entries.filter(([, it]) => it.positional === isPositional)
      .filter(([, it]) => isPositional || it.required)
      .map(([name, it]) => it.required ? titleOf(name, it) : `[${titleOf(name, it)}]`);
  return wrapped([...words(true), ...words(false), "[options]"].join(" "), 4, `Usage: ${program} `);
}

/** All that `--help` prints. */
export function helpText(command: CommandSpec): string {
  const groups = Map.groupBy(Object.entries(command.options), ([, it]) => it.group ?? "");
  const headings = ["", ...[...groups.keys()].filter((it) => it !== "")];
  const sections = headings.map((heading) =>
    [
      ...heading === "" ? [] : [`${heading}:`],
      ...(groups.get(heading) ?? []).map(([name, it]) => optionText(name, it)),
    ].join("\n")
  );
  return [
    usage(command),
    wrapped(command.summary),
    ...sections,
    ...command.footer === undefined ? [] : [wrapped(command.footer)],
  ].join("\n\n");
}

/** What `--help` prints without a command: all commands. */
export function overview(): string {
  const rows = Object.entries(SUMMARIES).map(([name, summary]) =>
    wrapped(summary, 13, `  ${name.padEnd(11)}`)
  );
  return [
    "Usage: deno task COMMAND [options]",
    "",
    ...rows,
    "",
    "deno task help COMMAND, or deno task COMMAND --help, lists the options of a command;",
    "deno task help --version prints the version.",
  ].join("\n");
}
