/**
 * Options: what one is, tables of them, and how given values are judged by a table.
 *
 * @module
 */
import * as v from "../deps/valibot.ts";
import { printable } from "../../engine/formats/printable.ts";
import { UsageError } from "../errors.ts";
import { suggestion } from "./nearest.ts";
import type { RawArguments } from "./parser.ts";
import { FLAG, type ValueType } from "./value_types.ts";

/** Wrong options that a message names. */
const MOST_WRONG = 8;

/** All that is known of an option but its name, which is its key in a table. */
export interface Option<Value> {
  /** What values it has. */
  readonly type: Omit<ValueType<unknown>, "schema">;
  /** The type's schema, with the default where there is one. */
  readonly schema: v.GenericSchema<unknown, Value>;
  /** One sentence or two. */
  readonly help: string;
  /** What help says of the default; none where there is nothing to say. */
  readonly defaultText?: string;
  /** Heading in help; options without one are the most used and come first. */
  readonly group?: string;
  /** Whether the command does nothing without it. */
  readonly required: boolean;
  /** Whether the value stands by itself, without a name. */
  readonly positional: boolean;
}

/** What can be said of an option beside type and help. */
interface Settings<Value> {
  /** The value where none is given. */
  readonly default?: Value;
  /** What help says instead of the default, for instance where that depends on other options. */
  readonly defaultText?: string;
  /** Whether the command does nothing without it. */
  readonly required?: boolean;
  /** Whether the value stands by itself, without a name. */
  readonly positional?: boolean;
}

/**
 * An option. Its value is undefined where it is not given, unless it is required or has a default.
 *
 * @param type what values it has
 * @param help one sentence or two, without the default
 */
export function option<Value>(
  type: ValueType<Value>,
  help: string,
  settings:
    & Settings<NoInfer<Value>>
    & ({ readonly default: NoInfer<Value> } | { readonly required: true }),
): Option<Value>;
export function option<Value>(
  type: ValueType<Value>,
  help: string,
  settings?: Settings<NoInfer<Value>>,
): Option<Value | undefined>;
export function option(
  { schema, ...type }: ValueType<unknown>,
  help: string,
  settings: Settings<unknown> = {},
): Option<unknown> {
  const { required = false, positional = false } = settings;
  const shown = settings.defaultText ??
    (type.kind === "flag" ? undefined : settings.default?.toString());
  return {
    type,
    schema: required ? schema : v.optional(schema, settings.default as undefined),
    help,
    ...(shown && { defaultText: shown }),
    required,
    positional,
  };
}

/** An option without a value: whether it is given. */
export function flag(help: string): Option<boolean> {
  return option(FLAG, help, { default: false });
}

/** Options by name, in the order of help. */
export type OptionTable = Readonly<Record<string, Option<unknown>>>;

/** What a table's options are after judging. */
export type Values<Table extends OptionTable> = {
  readonly [Name in keyof Table]: v.InferOutput<Table[Name]["schema"]>;
};

/** The same options under a heading in help; headings of their own come after it. */
export function group<const Table extends OptionTable>(heading: string, options: Table): Table {
  const entries = Object.entries(options).map(([name, it]) => [
    name,
    { ...it, group: it.group === undefined ? heading : `${heading}, ${it.group.toLowerCase()}` },
  ]);
  return Object.fromEntries(entries);
}

/** Some of a table's options. */
export function pick<Table extends OptionTable, const Name extends keyof Table & string>(
  options: Table,
  names: readonly Name[],
): Pick<Table, Name> {
  return Object.fromEntries(names.map((name) => [name, options[name]])) as Pick<Table, Name>;
}

/** All of a table's options but some. */
export function omit<Table extends OptionTable, const Name extends keyof Table & string>(
  options: Table,
  names: readonly Name[],
): Omit<Table, Name> {
  const rest = Object.entries(options).filter(([name]) =>
    !(names as readonly string[]).includes(name)
  );
  return Object.fromEntries(rest) as Omit<Table, Name>;
}

/** How messages name an option. */
function titleOf(name: string, { positional, type }: Option<unknown>): string {
  return positional ? type.metavar : `--${name}`;
}

function show(value: unknown): string {
  if (typeof value === "string") return value || '""';
  if (typeof value === "number") return String(value);
  const isList = Array.isArray(value) && value.every((it) => typeof it === "string");
  return isList ? value.map(show).join(" ") : JSON.stringify(value) ?? String(value);
}

/** Words of the command line as the schemas of their options take them. */
export function fromWords(options: OptionTable, words: RawArguments): Record<string, unknown> {
  const value = (name: string, word: RawArguments[string]): unknown =>
    typeof word === "string" ? options[name].type.fromWord(word) : word;
  return Object.fromEntries(Object.entries(words).map(([name, word]) => [name, value(name, word)]));
}

/**
 * Judges values and fills defaults in; options that have no value are left out.
 *
 * @param hint what a message says beside options that are needed
 * @param sourceOf where an option's value is from, for messages: " (in run.toml)"
 * @throws {UsageError} naming each wrong option, its value and what is allowed
 */
export function judge<Table extends OptionTable>(
  options: Table,
  given: Readonly<Record<string, unknown>>,
  { hint, sourceOf = () => "" }: {
    readonly hint?: string;
    readonly sourceOf?: (name: string) => string;
  },
): Values<Table> {
  const wrong = Object.keys(given).filter((name) => !Object.hasOwn(options, name)).map((name) =>
    `${printable(name)}${sourceOf(name)}: no such option${
      suggestion(name, Object.keys(options)) ||
      `; allowed are ${Object.keys(options).join(", ")}`
    }`
  );
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(options)) {
    const title = titleOf(name, option);
    const result = v.safeParse(option.schema, given[name]);
    if (!result.success) {
      wrong.push(
        given[name] === undefined
          ? `${title}: is needed`
          : `${title} ${printable(show(given[name]))}${
            sourceOf(name)
          }: must be ${option.type.allowed}`,
      );
    } else if (result.output !== undefined) values[name] = result.output;
  }
  if (wrong.length === 0) return values as Values<Table>;
  const isMissing = wrong.some((it) => it.endsWith(": is needed"));
  const details = [
    ...wrong.slice(1, MOST_WRONG),
    ...wrong.length > MOST_WRONG ? [`and ${wrong.length - MOST_WRONG} more`] : [],
    ...isMissing && hint !== undefined ? [hint] : [],
  ];
  throw new UsageError(wrong[0], details.join("\n") || undefined);
}
