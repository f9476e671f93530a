/**
 * The one place that knows the argument-parsing library. A command describes its
 * options as data; what comes back are the raw words, checked for names only.
 * Values are judged by the command's own schema, which files go through as well.
 */

import { runParser } from "@optique/core/facade";
import { object } from "@optique/core/constructs";
import { formatMessage, type Message, message, text } from "@optique/core/message";
import { multiple, optional } from "@optique/core/modifiers";
import { argument, option } from "@optique/core/primitives";
import type { Parser } from "@optique/core/parser";
import { string } from "@optique/core/valueparser";
import { UsageError } from "../errors.ts";

/**
 * One `--name`, one positional argument where `kind` is "positional", or any number of them
 * ("positionals").
 */
export interface OptionSpec {
  /** Long name without the dashes. */
  readonly name: string;
  /** A flag takes no value, a value one, a list may be given several times. */
  readonly kind: "flag" | "value" | "list" | "positional" | "positionals";
  /** Stands for the value in help: `N`, `DIR`, `auto|gpu|software`. */
  readonly metavar?: string;
  /** One sentence for help. */
  readonly description: string;
  /** The default as help shows it; nothing is filled in from it. */
  readonly defaultText?: string;
}

/** A command as help and parsing see it. */
export interface CommandSpec {
  /** How it is called: `deno task pretrain`. */
  readonly program: string;
  /** One sentence. */
  readonly summary: string;
  readonly options: readonly OptionSpec[];
  /** Text after the option table of help. */
  readonly footer?: string;
}

/** What was given, by option name; what was not given is absent. */
export type RawArguments = Record<string, string | readonly string[] | true>;

/**
 * Parses `argv` (without the command's name).
 *
 * @throws UsageError for an unknown option, a missing value, an option given twice
 */
export function parseArguments(spec: CommandSpec, argv: readonly string[]): RawArguments {
  const parsers = Object.fromEntries(spec.options.map((it) => [it.name, parserOf(it)]));
  const result = runParser(object(parsers), spec.program, argv, {
    aboveError: "none",
    stderr: () => {},
    onError: (_code, error) => {
      throw new UsageError(
        plain(error).replace(/\s+/g, " ").trim(),
        `See: ${spec.program} --help`,
      );
    },
  });
  const given: RawArguments = {};
  for (const { name } of spec.options) {
    const value = result[name];
    if (value === undefined || value === false) continue;
    if (Array.isArray(value) && value.length === 0) continue;
    given[name] = value as RawArguments[string];
  }
  return given;
}

/** Whether help is asked for anywhere before a `--`. */
export function wantsHelp(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return (end < 0 ? argv : argv.slice(0, end)).some((it) => it === "--help" || it === "-h");
}

/** Help text: usage, every option with its default, footer. `width` in columns. */
export function helpText(spec: CommandSpec, width = 100): string {
  const parsers = Object.fromEntries(spec.options.map((it) => [it.name, parserOf(it)]));
  let shown = "";
  runParser(object(parsers), spec.program, ["--help"], {
    help: { option: { names: ["--help"] }, onShow: () => {} },
    brief: message`${text(spec.summary)}`,
    ...(spec.footer === undefined ? {} : { footer: message`${text(spec.footer)}` }),
    maxWidth: width,
    showUsage: false,
    termWidth: "auto",
    stdout: (line) => {
      shown += `${line}\n`;
    },
  });
  const positional = spec.options.filter((it) => it.kind.startsWith("positional"))
    .map((it) => {
      const name = it.metavar ?? it.name.toUpperCase();
      return it.kind === "positionals" ? ` ${name}...` : ` [${name}]`;
    }).join("");
  return `Usage: ${spec.program} [options]${positional}\n\n${shown.trimEnd()}`;
}

function parserOf(spec: OptionSpec): Parser<"sync", unknown, unknown> {
  const suffix = spec.defaultText === undefined ? "" : ` (default: ${spec.defaultText})`;
  const description = message`${text(spec.description + suffix)}`;
  const metavar = (spec.metavar ?? spec.name.toUpperCase()) as "VALUE";
  if (spec.kind === "positional") {
    return optional(argument(string({ metavar }), { description }));
  }
  if (spec.kind === "positionals") {
    return multiple(argument(string({ metavar }), { description }));
  }
  const name = `--${spec.name}` as const;
  switch (spec.kind) {
    case "flag":
      return optional(option(name, { description }));
    case "value":
      return optional(option(name, string({ metavar }), { description }));
    case "list":
      return multiple(option(name, string({ metavar }), { description }));
  }
}

function plain(error: Message): string {
  return formatMessage(error, { colors: false, quotes: true });
}
