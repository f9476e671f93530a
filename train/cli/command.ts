/**
 * A command as the command line sees it: a name, a table of options, what `--help` says.
 *
 * @module
 */
import { UsageError } from "../errors.ts";
import { helpText } from "./help.ts";
import { fromWords, judge, type OptionTable, type Values } from "./option.ts";
import { parseArguments, type RawArguments } from "./parser.ts";
import { type CommandName, SUMMARIES } from "./summaries.ts";

/** What is said of a command. */
export interface CommandSpec<Table extends OptionTable = OptionTable> {
  /** How it is called: `deno task pretrain`. */
  readonly program: string;
  /** One sentence. */
  readonly summary: string;
  /** In the order of help. */
  readonly options: Table;
  /** What else is to be known, at the end of help. */
  readonly footer?: string;
}

/** What a command was called with. */
export interface Arguments<Table extends OptionTable> {
  /** Typed values, with defaults filled in. */
  readonly values: Values<Table>;
  /** The words of options that were given. */
  readonly words: RawArguments;
}

/** A command that can be asked for help and read a command line. */
export interface Command<Table extends OptionTable> extends CommandSpec<Table> {
  /** Text of `--help`. */
  readonly help: () => string;
  /**
   * Reads a command line without the command's name.
   *
   * @throws {UsageError} for options that there are not, and values that are not allowed
   */
  readonly read: (argv: readonly string[]) => Arguments<Table>;
}

/** A command of `deno task`. */
export function command<const Table extends OptionTable>(
  { name, ...about }: Pick<CommandSpec<Table>, "options" | "footer"> & {
    readonly name: CommandName;
  },
): Command<Table> {
  const spec = { program: `deno task ${name}`, summary: SUMMARIES[name], ...about };
  return {
    ...spec,
    help: () => helpText(spec),
    read: (argv) => {
      const words = parseArguments(spec.program, spec.options, argv);
      return {
        words,
        values: judge(spec.options, fromWords(spec.options, words), {
          hint: `See: ${spec.program} --help`,
        }),
      };
    },
  };
}

/**
 * Refuses options that mean nothing here.
 *
 * @param reason completes the sentence that begins with the option
 * @throws {UsageError} for the first of `names` that was given
 */
export function refuse(words: RawArguments, names: readonly string[], reason: string): void {
  const foreign = names.find((name) => words[name] !== undefined);
  if (foreign !== undefined) throw new UsageError(`--${foreign}: ${reason}`);
}

/** A command as a shell takes it. */
export function quotedCommand(program: string, argv: readonly string[]): string {
  return [program, ...argv.map(quotedWord)].join(" ");
}

function quotedWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
