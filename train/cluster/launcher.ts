/**
 * What the program that started this process says of its rank: known before MPI is.
 *
 * @module
 */
import type { Shard } from "../io/shards.ts";

/** A process among those of one job. */
export interface Launched {
  /** From 0. */
  readonly rank: number;
  /** Processes of the job. */
  readonly size: number;
  /** Place among the processes of this machine, from 0; undefined where nobody says. */
  readonly localRank: number | undefined;
  /** Whose variables these are: which library is tried first. */
  readonly by: "openmpi" | "pmi" | "slurm";
}

/** Variables of each launcher, the surest first. */
const LAUNCHERS = [
  {
    by: "openmpi",
    rank: "OMPI_COMM_WORLD_RANK",
    size: "OMPI_COMM_WORLD_SIZE",
    local: "OMPI_COMM_WORLD_LOCAL_RANK",
  },
  // Hydra (MPICH, Intel MPI) and `srun --mpi=pmi2`; the latter says the local rank as Slurm does.
  { by: "pmi", rank: "PMI_RANK", size: "PMI_SIZE", local: "MPI_LOCALRANKID" },
  { by: "slurm", rank: "SLURM_PROCID", size: "SLURM_NTASKS", local: "SLURM_LOCALID" },
] as const;

/** A script of sbatch has the variables of a rank, too, but only `srun` starts steps. */
const SLURM_STEP = "SLURM_STEP_ID";

/** All variables that are looked at: what a task has to allow. */
export const LAUNCH_VARIABLES: readonly string[] = [
  ...LAUNCHERS.flatMap(({ rank, size, local }) => [rank, size, local]),
  SLURM_STEP,
];

function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

/**
 * Rank and size by the launcher's variables; undefined where nobody launched this process as one
 * of several.
 *
 * @param get reads a variable
 */
export function launched(get: (name: string) => string | undefined): Launched | undefined {
  const whole = (name: string) => wholeNumber(get(name));
  for (const { by, ...names } of LAUNCHERS) {
    if (by === "slurm" && whole(SLURM_STEP) === undefined) continue;
    const [rank, size] = [whole(names.rank), whole(names.size)];
    if (rank === undefined || size === undefined || rank >= size) continue;
    return { by, rank, size, localRank: whole(names.local) ?? whole("SLURM_LOCALID") };
  }
  return undefined;
}

/** Variables of the tasks of a Slurm array. */
const ARRAY = {
  id: "SLURM_ARRAY_TASK_ID",
  first: "SLURM_ARRAY_TASK_MIN",
  step: "SLURM_ARRAY_TASK_STEP",
  count: "SLURM_ARRAY_TASK_COUNT",
} as const;

/**
 * The part of a divided work that is this process's: its rank, or its task of a Slurm array whose
 * numbers are evenly spaced, or both; undefined where it is one of one.
 *
 * @param get reads a variable
 */
export function shardOfJob(get: (name: string) => string | undefined): Shard | undefined {
  const { rank, size } = launched(get) ?? { rank: 0, size: 1 };
  const [id, first = 0, step = 1, count] = [ARRAY.id, ARRAY.first, ARRAY.step, ARRAY.count]
    .map((name) => wholeNumber(get(name)));
  if (id === undefined || count === undefined) {
    return size > 1 ? { index: rank + 1, count: size } : undefined;
  }
  const task = (id - first) / (step || 1);
  if (!Number.isInteger(task) || task < 0 || task >= count) return undefined;
  return { index: task * size + rank + 1, count: count * size };
}
