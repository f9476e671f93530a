/**
 * Errors with exit codes, and how they are reported.
 *
 * The codes are part of the interface that scripts rely on:
 * 0 done, 1 a check failed, the training diverged or the disk is full, 2 wrong usage, 3 no adapter,
 * 4 no usable data, 5 device lost or out of memory, 130 interrupted.
 *
 * @module
 */

import { printableLines } from "../engine/formats/printable.ts";

/** Wrong option, wrong configuration or a wrong combination of them (exit 2). */
export class UsageError extends Error {
  /** Stable name, used to pick the exit code. */
  override name = "UsageError";
  /** What to print after the first line: the usage line, the allowed values, a hint. */
  readonly details: string | undefined;

  /** `message` is the first line that is printed. */
  constructor(message: string, details?: string) {
    super(message);
    this.details = details;
  }
}

/** A signal ended the command; training has written a checkpoint of its updates (exit 130). */
export class InterruptedError extends Error {
  /** Stable name, used to pick the exit code. */
  override name = "InterruptedError";

  /** `together` says that all processes of a run end for it, after the same update. */
  constructor(message: string, readonly together = false) {
    super(message);
  }
}

/** Nothing to train on, or data that cannot be read; the message names the source (exit 4). */
export class NoDataError extends Error {
  /** Stable name, used to pick the exit code. */
  override readonly name = "NoDataError";
}

/** The training left the finite numbers, or a loss scale collapsed (exit 1). */
export class DivergedError extends Error {
  /** Stable name, used to pick the exit code. */
  override name = "DivergedError";

  /** `step` counts from 1: the first update that shows it. */
  constructor(message: string, readonly step: number) {
    super(message);
  }
}

/** A folder that is being written was removed or renamed by somebody else (exit 1). */
export class RemovedError extends Error {
  /** Stable name, used to pick the exit code. */
  override name = "RemovedError";
}

/** A file could not be written because the disk, or the user's share of it, is full (exit 1). */
export class DiskFullError extends Error {
  /** Stable name, used to pick the exit code. */
  override name = "DiskFullError";
}

/** Whether an error is the system's: no such file, no permission, an I/O error and the like. */
export function isSystemError(error: unknown): error is Error {
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? error.code : undefined;
  return Object.values(Deno.errors).some((it) => error instanceof it) ||
    typeof code === "string" && /^E[A-Z0-9]+$/.test(code);
}

const DISK_FULL: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT"]);

/** `error` as a {@link DiskFullError} that names the file where it means that, else as it is. */
export function nameDiskFull(error: unknown, path: string): unknown {
  if (!(error instanceof Error && "code" in error && DISK_FULL.has(error.code))) return error;
  return new DiskFullError(`${path} could not be written: ${error.message}`, { cause: error });
}

/** Exit code of a process that was interrupted: 128 + SIGINT. */
export const EXIT_INTERRUPTED = 130;

// By name, so that this file needs neither the engine nor the data loader: `--help` stays quick.
const EXIT_CODES: ReadonlyMap<string, number> = new Map([
  ["AnomalyError", 1],
  ["DivergedError", 1],
  ["DiskFullError", 1],
  ["RemovedError", 1],
  ["UsageError", 2],
  ["NoAdapterError", 3],
  ["NoDataError", 4],
  ["FolderError", 4],
  ["DeviceLostError", 5],
  ["OutOfMemoryError", 5],
  ["InterruptedError", EXIT_INTERRUPTED],
]);

// Their message says all there is to say; a stack would only hide it.
function isExpected(error: Error): boolean {
  return EXIT_CODES.has(error.name) || isSystemError(error);
}

/** The error that came first where closing what was open failed after it. */
function firstOf(error: unknown): unknown {
  return error instanceof SuppressedError ? firstOf(error.suppressed) : error;
}

/** The process exit code for anything thrown; 1 for what is not one of the known errors. */
export function exitCodeOf(error: unknown): number {
  return error instanceof Error ? EXIT_CODES.get(error.name) ?? 1 : 1;
}

/**
 * The text for standard error: one line first, then details. Known errors give the
 * rest of their message, their `details` and the chain of causes; unknown ones their stack.
 */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return `error: ${String(error)}`;
  const [first, ...rest] = error.message.split("\n");
  const lines = [
    isExpected(error) ? `error: ${first}` : `error: ${error.name}: ${first}`,
    ...rest,
  ];
  const details: unknown = "details" in error ? error.details : undefined;
  if (typeof details === "string" && details !== "") lines.push(details);
  if (!isExpected(error) && error.stack !== undefined) {
    lines.push(...error.stack.split("\n").filter((line) => /^\s+at /.test(line)));
  }
  for (let cause = error.cause; cause !== undefined; cause = nextCause(cause)) {
    lines.push(`caused by: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  return printableLines(lines.join("\n"), MOST_LINE);
}

/** Most characters of a line of an error: texts from files may stand in it. */
const MOST_LINE = 2000;

function nextCause(cause: unknown): unknown {
  return cause instanceof Error ? cause.cause : undefined;
}

/** Prints {@link describeError} to standard error and returns {@link exitCodeOf}. */
export function reportError(thrown: unknown): number {
  const error = firstOf(thrown);
  console.error(describeError(error));
  return exitCodeOf(error);
}
