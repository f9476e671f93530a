/**
 * The types of values that options have: how a word of the command line becomes one, what a file of
 * options may hold for it, and what a message says is allowed.
 *
 * @module
 */
import * as v from "../deps/valibot.ts";

/** A type of values. */
export interface ValueType<Value> {
  /** A flag takes no word, a value one, a list may be given several times. */
  readonly kind: "flag" | "value" | "list";
  /** Stands for the value in help: `N`, `DIR`, `auto|gpu|software`. */
  readonly metavar: string;
  /** Completes "must be …". */
  readonly allowed: string;
  /** The same for several of them: completes "must be two …". */
  readonly plural: string;
  /**
   * What a shell completes: these words, or names of files or folders; nothing where it is absent.
   */
  readonly completes?: readonly string[] | "file" | "folder";
  /** What a file may hold, and what a word is judged by. */
  readonly schema: v.GenericSchema<unknown, Value>;
  /** A word as the schema takes it; what makes no sense stays a word. */
  readonly fromWord: (word: string) => unknown;
}

/** Bounds of a number and how it is named. */
interface Range {
  /** Smallest that is allowed. */
  readonly from?: number;
  /** It must be larger. */
  readonly above?: number;
  /** Largest that is allowed. */
  readonly to?: number;
  /** It must be smaller. */
  readonly below?: number;
  /** For help. */
  readonly metavar?: string;
  /** What is counted, such as seconds; numbers unless given. */
  readonly unit?: string;
}

const asIs = (word: string): unknown => word;

function numeral(word: string): unknown {
  return word.trim() === "" || Number.isNaN(Number(word)) ? word : Number(word);
}

function rangeText({ from, above, to, below }: Range): string {
  const lower = from !== undefined ? ` from ${from}` : above !== undefined ? ` above ${above}` : "";
  if (below !== undefined) return `${lower} and below ${below}`;
  return to === undefined ? lower : `${lower} ${from === undefined ? "and at most" : "to"} ${to}`;
}

/** A finite number. */
export function number(range: Range = {}): ValueType<number> {
  const { from, above, to, below, metavar = "X", unit } = range;
  const text = rangeText(range);
  return {
    kind: "value",
    metavar,
    allowed: `${unit ?? "a number"}${text}`,
    plural: `${unit ?? "numbers"}${text}`,
    schema: v.pipe(
      v.number(),
      v.finite(),
      v.check((x) =>
        x >= (from ?? -Infinity) && x > (above ?? -Infinity) &&
        x <= (to ?? Infinity) && x < (below ?? Infinity)
      ),
    ),
    fromWord: numeral,
  };
}

/** Largest whole number where no bound is given: counts fit into 32 bits with a sign. */
const MAX_COUNT = 2 ** 31 - 1;

/** A whole number from `from` to `to`. */
export function whole(from: number, to: number = MAX_COUNT, metavar = "N"): ValueType<number> {
  const text = rangeText({ from, ...(to !== MAX_COUNT && { to }) });
  return {
    kind: "value",
    metavar,
    allowed: `a whole number${text}`,
    plural: `whole numbers${text}`,
    schema: v.pipe(v.number(), v.integer(), v.minValue(from), v.maxValue(to)),
    fromWord: numeral,
  };
}

/** "a, b and c". */
function listed(items: readonly string[], word: "and" | "or"): string {
  return items.length < 2
    ? items.join()
    : `${items.slice(0, -1).join(", ")} ${word} ${items[items.length - 1]}`;
}

/** One of some words. `metavar` replaces the list of them in help. */
export function choice<const Name extends string>(
  names: readonly Name[],
  metavar: string = names.join("|"),
): ValueType<Name> {
  return {
    kind: "value",
    metavar,
    allowed: listed(names, "or"),
    plural: `of ${listed(names, "and")}`,
    completes: names,
    schema: v.picklist(names),
    fromWord: asIs,
  };
}

/** Words that `read` makes something of; undefined where it cannot. */
export function parsed<Value>(
  metavar: string,
  allowed: string,
  read: (word: string) => Value | undefined,
): ValueType<Value> {
  return {
    kind: "value",
    metavar,
    allowed,
    plural: allowed,
    schema: v.pipe(
      v.string(),
      v.transform(read),
      v.check((it) => it !== undefined),
      v.transform((it) => it as Value),
    ),
    fromWord: asIs,
  };
}

function text(
  metavar: string,
  allowed: string,
  completes: "file" | "folder" = "file",
): ValueType<string> {
  const schema = v.pipe(v.string(), v.minLength(1));
  return { kind: "value", metavar, allowed, plural: allowed, completes, schema, fromWord: asIs };
}
/** Name of a file. */
export const file = (metavar = "FILE"): ValueType<string> => text(metavar, "a file");
/** Name of a folder. */
export const folder = (metavar = "DIR"): ValueType<string> => text(metavar, "a folder", "folder");
/** Name of either. */
export const path = (metavar = "PATH"): ValueType<string> => text(metavar, "a path");

/** Whether or not: `--name` on the command line, true or false in a file. */
export const FLAG: ValueType<boolean> = {
  kind: "flag",
  metavar: "",
  allowed: "true or false",
  plural: "true or false",
  schema: v.boolean(),
  fromWord: asIs,
};

/** An option that may be given several times; a file holds an array, or a single value. */
export function repeated<Value>(item: ValueType<Value>): ValueType<Value[]> {
  return {
    ...item,
    kind: "list",
    allowed: `${item.allowed} or a list of such`,
    schema: v.union([
      v.array(item.schema),
      v.pipe(item.schema, v.transform((it) => [it])),
    ]),
  };
}

/** An array in a file; on the command line words with `separator` between them. */
function joined<Values>(
  item: ValueType<unknown>,
  separator: string,
  schema: v.GenericSchema<unknown, Values>,
): Pick<ValueType<Values>, "kind" | "schema" | "fromWord"> {
  const split = (given: unknown): unknown =>
    typeof given === "string"
      ? given.split(separator).map((it) => item.fromWord(it.trim()))
      : given;
  return {
    kind: "value",
    schema: v.pipe(v.unknown(), v.transform(split), schema),
    fromWord: asIs,
  };
}

/** Values with commas between them, one at least. */
export function several<Value>(
  item: ValueType<Value>,
  { most, distinct = false }: { readonly most?: number; readonly distinct?: boolean } = {},
): ValueType<Value[]> {
  const allowed = (most === undefined ? "" : `at most ${most} `) +
    `${distinct ? "different " : ""}${item.plural} with commas between them`;
  const schema = v.pipe(
    v.array(item.schema),
    v.minLength(1),
    v.maxLength(most ?? Infinity),
    v.check((items) => !distinct || new Set(items).size === items.length),
  );
  const metavar = `${item.metavar}[,${item.metavar}...]`;
  return { metavar, allowed, plural: allowed, ...joined(item, ",", schema) };
}

/** Two values with a comma between them: the start and the end of something that moves. */
export function pair<Value>(item: ValueType<Value>): ValueType<[Value, Value]> {
  const allowed = `two ${item.plural} with a comma between them`;
  const schema = v.strictTuple([item.schema, item.schema]);
  const metavar = `${item.metavar},${item.metavar}`;
  return { metavar, allowed, plural: allowed, ...joined(item, ",", schema) };
}

/** Two sizes with an x between them, such as 16x8. */
export function sides(
  first: ValueType<number>,
  second: ValueType<number>,
  allowed: string,
): ValueType<[number, number]> {
  const schema = v.strictTuple([first.schema, second.schema]);
  const metavar = `${first.metavar}x${second.metavar}`;
  return { metavar, allowed, plural: allowed, ...joined(first, "x", schema) };
}
