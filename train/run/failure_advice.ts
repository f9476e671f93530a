/**
 * What a run that cannot go on says: which checkpoint is safe, how to go on, what to change.
 *
 * @module
 */
import { DiskFullError, nameDiskFull } from "../errors.ts";
import { MEMORY_HINT } from "./memory.ts";

/** What is known of the run that failed. */
export interface FailedRun {
  /** Run directory. */
  readonly out: string;
  /** The newest complete checkpoint. */
  readonly saved: { readonly step: number; readonly path: string } | undefined;
  /** What to say before anything else. */
  readonly report?: string;
}

/** What may be done, by the name of the error; errors that are not here say all there is to say. */
const HINTS: Readonly<Record<string, string | undefined>> = {
  AnomalyError: "it comes back when the run goes on with the same settings",
  DeviceLostError: undefined,
  DiskFullError: "make room, or keep fewer checkpoints with --keep and --keep-best",
  DivergedError: "it comes back when the run goes on with the same settings",
  InterruptedError: undefined,
  OutOfMemoryError: MEMORY_HINT,
};

/** The error with `details`: where to go on from and how. */
export function withAdvice(thrown: unknown, { out, saved, report }: FailedRun): unknown {
  const error = nameDiskFull(thrown, `a file in ${out}`);
  if (!(error instanceof Error) || !Object.hasOwn(HINTS, error.name)) return error;
  const hint = HINTS[error.name];
  const lines = [
    ...report ? [report] : [],
    ...saved
      ? [
        `the checkpoint of step ${saved.step} is safe: ${saved.path}`,
        `go on with: deno task pretrain --resume --out ${out}`,
      ]
      : [
        "no checkpoint had been written yet" +
        (error instanceof DiskFullError
          ? ""
          : `; from the start: deno task pretrain --resume --out ${out}`),
      ],
    ...hint === undefined ? [] : [hint],
  ];
  return Object.assign(error, { details: lines.join("\n") });
}
