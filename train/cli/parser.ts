/**
 * The one place that knows the argument-parsing library: from the command line to the words of each
 * option, checked for names only.
 *
 * @module
 */
import {
  argument,
  formatMessage,
  multiple,
  object,
  option as named,
  optional,
  type Parser,
  runParser,
  string,
} from "../deps/optique.ts";
import { UsageError } from "../errors.ts";
import { suggestion } from "./nearest.ts";
import type { Option, OptionTable } from "./option.ts";

/** What was given, by option name; what was not given is absent. */
export type RawArguments = Readonly<Record<string, string | readonly string[] | true>>;

/**
 * Parses `argv` (without the command's name).
 *
 * @param program how the command is called, for messages
 * @throws {UsageError} for an unknown option, a missing value, an option given twice
 */
export function parseArguments(
  program: string,
  options: OptionTable,
  argv: readonly string[],
): RawArguments {
  const parsers = Object.entries(options).map(([name, it]) => [name, parserOf(name, it)] as const);
  const result = runParser(object(Object.fromEntries(parsers)), program, argv, {
    aboveError: "none",
    stderr: () => {},
    onError: (_code, error) => {
      const text = formatMessage(error, { colors: false, quotes: true });
      throw new UsageError(
        unknownOption(options, argv) ?? text.replace(/\s+/g, " ").trim(),
        `See: ${program} --help`,
      );
    },
  });
  const isGiven = (value: unknown): boolean =>
    value !== undefined && value !== false && !(Array.isArray(value) && value.length === 0);
  return Object.fromEntries(
    Object.entries(result).filter(([, value]) => isGiven(value)),
  ) as RawArguments;
}

/** What is said of the first name that no option has; undefined where all names are known. */
function unknownOption(options: OptionTable, argv: readonly string[]): string | undefined {
  const names = Object.keys(options).filter((name) => !options[name].positional);
  const given = beforeDashes(argv).flatMap((it) => /^--([^=]+)/.exec(it)?.[1] ?? []);
  const name = given.find((it) => !names.includes(it));
  return name && `no option --${name}${suggestion(name, names, "--")}`;
}

function beforeDashes(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf("--");
  return end < 0 ? argv : argv.slice(0, end);
}

/** Whether help is asked for anywhere before a `--`. */
export function wantsHelp(argv: readonly string[]): boolean {
  return beforeDashes(argv).some((it) => it === "--help" || it === "-h");
}

/** Whether the version is asked for anywhere before a `--`. */
export function wantsVersion(argv: readonly string[]): boolean {
  return beforeDashes(argv).includes("--version");
}

function parserOf(
  name: string,
  { positional, type }: Option<unknown>,
): Parser<"sync", unknown, unknown> {
  const word = string({ metavar: (type.metavar || "VALUE") as "VALUE" });
  const parser: Parser<"sync", unknown, unknown> = positional
    ? argument(word)
    : type.kind === "flag"
    ? named(`--${name}`)
    : named(`--${name}`, word);
  return type.kind === "list" ? multiple(parser) : optional(parser);
}
