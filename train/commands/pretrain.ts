/** `deno task pretrain`. */

import { pretrainHelp, resolveConfig } from "../config.ts";

/** Text of `--help`. */
export const help: () => string = pretrainHelp;

/** Parses the options; training is not wired yet. */
export function run(argv: string[], _signal: AbortSignal): Promise<number> {
  resolveConfig(argv);
  return Promise.reject(new Error("not wired yet"));
}
