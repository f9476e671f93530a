/**
 * The commands of train/main.ts. Each is loaded when it is called, so that `--help` of one does not
 * pay for the others.
 *
 * @module
 */
import type { CommandSpec } from "../cli/command.ts";

/** What every module in `commands/` exports. */
export interface CommandModule {
  /** Its options, for completion. */
  readonly COMMAND: CommandSpec;
  /** Text of `--help`. */
  help(): string;
  /**
   * Runs with the words after the command's name; returns the exit code. When `signal`
   * aborts, the command saves what must not be lost and returns or throws soon.
   */
  run(argv: string[], signal: AbortSignal): Promise<number>;
}

/** By name. */
export const COMMANDS: Readonly<Record<string, () => Promise<CommandModule>>> = {
  pretrain: () => import("./pretrain.ts"),
  "pretrain:mpi": () => import("./pretrain_mpi.ts"),
  runs: () => import("./runs.ts"),
  studio: () => import("./studio.ts"),
  prepare: () => import("./prepare.ts"),
  import: () => import("./import.ts"),
  export: () => import("./export.ts"),
  inspect: () => import("./inspect.ts"),
  embed: () => import("./embed.ts"),
  probe: () => import("./probe.ts"),
  compare: () => import("./compare.ts"),
  table: () => import("./table.ts"),
  dataset: () => import("./dataset.ts"),
  visualize: () => import("./visualize.ts"),
  verify: () => import("./verify.ts"),
  doctor: () => import("./doctor.ts"),
  completion: () => import("./completion.ts"),
  help: () => import("./help.ts"),
};
