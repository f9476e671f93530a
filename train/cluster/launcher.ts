/**
 * What the program that started this process says of its rank: known before MPI is.
 *
 * @module
 */

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

/**
 * Rank and size by the launcher's variables; undefined where nobody launched this process as one
 * of several.
 *
 * @param get reads a variable
 */
export function launched(get: (name: string) => string | undefined): Launched | undefined {
  const whole = (name: string): number | undefined => {
    const text = get(name);
    return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined;
  };
  for (const { by, ...names } of LAUNCHERS) {
    if (by === "slurm" && whole(SLURM_STEP) === undefined) continue;
    const [rank, size] = [whole(names.rank), whole(names.size)];
    if (rank === undefined || size === undefined || rank >= size) continue;
    return { by, rank, size, localRank: whole(names.local) ?? whole("SLURM_LOCALID") };
  }
  return undefined;
}
