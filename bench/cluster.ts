/**
 * What several ranks on this machine cost each other: sums of gradients, and whole updates.
 *
 * @module
 */
import { LAUNCH_VARIABLES } from "../train/cluster/launcher.ts";
import { median } from "./harness.ts";
import { MARK } from "./peers/workloads.ts";

/** What `--filter` picks the rows by. */
export const CLUSTER = ["cluster/exchange", "cluster/step"] as const;

/** Launchers and the words without which they refuse or ranks take each other's cores. */
const LAUNCHERS = [
  {
    name: "mpirun.openmpi",
    words: ["--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1"],
  },
  { name: "mpirun.mpich", words: [] },
] as const;

/** Ranks of a row. */
const RANKS = [1, 2, 4];

/** What rank 0 of `cluster_child.ts` says. */
export interface ClusterTimes {
  readonly library: string;
  /** Bytes of gradients summed over all ranks in a second. */
  readonly exchange_gbps: number;
  /** Bytes copied by one thread in a second, measured in turns with it. */
  readonly memcpy_gbps: number;
  /** Updates whose gradients are summed, in turns with updates whose gradients are not, in ms. */
  readonly step_ms: readonly number[];
  readonly alone_ms: readonly number[];
}

/** A row of a report. */
export interface ClusterRow {
  readonly library: string;
  readonly ranks: number;
  /** Sums in 10^9 bytes of gradients a second. */
  readonly exchange_gbps: number;
  /** The same as a share of a copy. */
  readonly of_memcpy: number;
  /** Middle share of an update's time that the exchange adds. */
  readonly exchange_share: number;
}

async function once(
  { name, words }: typeof LAUNCHERS[number],
  ranks: number,
): Promise<ClusterTimes | undefined> {
  const script = new URL("cluster_child.ts", import.meta.url).pathname;
  try {
    const { stdout } = await new Deno.Command(name, {
      args: [
        ...[...words, "-n", String(ranks), Deno.execPath(), "run", "--no-prompt", "--no-check"],
        ...["--allow-ffi", "--allow-read", `--allow-env=TESSERA_MPI,${LAUNCH_VARIABLES}`, script],
      ],
      stdin: "null",
      stderr: "null",
    }).output();
    const line = new TextDecoder().decode(stdout).split("\n").find((it) => it.startsWith(MARK));
    return line && JSON.parse(line.slice(MARK.length));
  } catch {
    // It is not installed.
    return undefined;
  }
}

/** Rows of the launchers that there are. */
export async function measureCluster(): Promise<ClusterRow[]> {
  const rows: ClusterRow[] = [];
  for (const launcher of LAUNCHERS) {
    for (const ranks of RANKS) {
      const times = await once(launcher, ranks);
      if (!times) continue;
      const { library, exchange_gbps, memcpy_gbps, step_ms, alone_ms } = times;
      rows.push({
        ...{ library, ranks, exchange_gbps },
        of_memcpy: exchange_gbps / memcpy_gbps,
        exchange_share: median(step_ms.map((ms, i) => ms / alone_ms[i] - 1)),
      });
    }
  }
  return rows;
}

/** Two lines for each row. */
export function clusterLines(rows: readonly ClusterRow[]): string {
  if (rows.length === 0) return `${CLUSTER.join(", ")}  no mpirun.openmpi and no mpirun.mpich`;
  return rows.flatMap(({ library, ranks, exchange_gbps, of_memcpy, exchange_share }) => {
    const where = `${ranks} ${ranks === 1 ? "rank" : "ranks"}, ${library}`;
    return [
      ...ranks > 1
        ? [
          `${CLUSTER[0]}  ${where}: ${exchange_gbps.toFixed(2)} GB/s, ` +
          `${(100 * of_memcpy).toFixed(1)} % of memcpy`,
        ]
        : [],
      `${CLUSTER[1]}  ${where}: the exchange costs ${(100 * exchange_share).toFixed(1)} %`,
    ];
  }).join("\n");
}
