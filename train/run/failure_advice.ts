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
  /** Processes of it. */
  readonly ranks: number;
  /** The newest complete checkpoint, as far as this process knows. */
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

/** The words that go on with a run. */
export function resumeCommand({ out, ranks }: Pick<FailedRun, "out" | "ranks">): string {
  const words = `--resume --out ${out}`;
  return ranks === 1
    ? `deno task pretrain ${words}`
    : `mpirun -n ${ranks} deno task pretrain:mpi ${words} (any number of ranks; srun likewise)`;
}

/** The error with `details`: where to go on from and how. */
export function withAdvice(thrown: unknown, run: FailedRun): unknown {
  const { out, saved, report } = run;
  const again = resumeCommand(run);
  const error = nameDiskFull(thrown, `a file in ${out}`);
  if (!(error instanceof Error) || !Object.hasOwn(HINTS, error.name)) return error;
  const hint = HINTS[error.name];
  const lines = [
    ...report ? [report] : [],
    ...saved
      ? [
        `the checkpoint of step ${saved.step} is safe: ${saved.path}`,
        `go on with: ${again}`,
      ]
      : [
        "no checkpoint had been written yet" +
        (error instanceof DiskFullError ? "" : `; from the start: ${again}`),
      ],
    ...hint === undefined ? [] : [hint],
  ];
  return Object.assign(error, { details: lines.join("\n") });
}
