/**
 * Values of options that commands judge by themselves: schemas that several share, and reading by
 * schema.
 */

import * as v from "valibot";
import { UsageError } from "../errors.ts";
import type { OptionSpec, RawArguments } from "./parser.ts";

/** How an option's word is judged. */
export interface Word {
  /** From the word, or undefined where it was not given, to the value. */
  readonly schema: v.GenericSchema<unknown, unknown>;
  /** What is allowed, for the message. */
  readonly allowed: string;
}

/** A whole number in a range. */
export function wholeNumber(least: number, most: number): v.GenericSchema<string, number> {
  return v.pipe(
    v.string(),
    v.regex(/^\d+$/),
    v.transform(Number),
    v.minValue(least),
    v.maxValue(most),
  );
}

/** Threads and adapter, as commands that decode audio and use a device list them. */
export const COMMON_OPTIONS: readonly OptionSpec[] = [
  {
    name: "workers",
    kind: "value",
    metavar: "N",
    description: "Threads that decode and resample; 0 does it beside everything else.",
    defaultText: "one for each core",
  },
  {
    name: "adapter",
    kind: "value",
    metavar: "auto|gpu|software",
    description: "WebGPU adapter.",
    defaultText: "auto",
  },
];

/** Of commands that open an encoder. */
export const HEADS_OPTION: OptionSpec = {
  name: "heads",
  kind: "value",
  metavar: "N",
  description: "Attention heads of the encoder, for a file that does not say them.",
  defaultText: "as the file says, else one for each 64 of the width",
};

/** How values of options that several commands have are judged. */
export const COMMON_WORDS = {
  path: v.pipe(v.string(), v.minLength(1)),
  workers: {
    schema: v.optional(wholeNumber(0, 256)),
    allowed: "a whole number from 0 to 256",
  },
  heads: {
    schema: v.optional(wholeNumber(1, 4096)),
    allowed: "a whole number from 1 to 4096",
  },
  adapter: {
    schema: v.optional(v.picklist(["auto", "gpu", "software"]), "auto"),
    allowed: "auto, gpu or software",
  },
} as const;

/**
 * Reads options by name.
 *
 * @param program how the command is called
 * @param words by name of the option
 * @returns a function that throws a {@link UsageError} for a word that is not allowed or missing
 */
export function valueReader<Words extends Readonly<Record<string, Word>>>(
  program: string,
  words: Words,
  given: RawArguments,
): <K extends keyof Words & string>(name: K) => v.InferOutput<Words[K]["schema"]> {
  return (name) => {
    const { schema, allowed } = words[name];
    const result = v.safeParse(schema, given[name]);
    if (result.success) return result.output as v.InferOutput<Words[typeof name]["schema"]>;
    throw given[name] === undefined
      ? new UsageError(`--${name}: is needed`, `See: ${program} --help`)
      : new UsageError(`--${name} ${given[name]}: must be ${allowed}`);
  };
}
