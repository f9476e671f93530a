/**
 * A run as lines for a person and as JSON for programs.
 *
 * @module
 */
import { type AdapterInfo, formatBytes } from "../engine/mod.ts";
import type { Ceilings } from "../train/run/ceilings.ts";
import type { Noise, Row } from "./harness.ts";
import type { ClusterRow } from "./cluster.ts";
import type { StartupTimes } from "./peers/workloads.ts";

/** What `--json` writes (bench/README.md, The JSON file). */
export interface Report {
  readonly adapter: AdapterInfo;
  readonly driver: string;
  /** ISO 8601. */
  readonly date: string;
  readonly ceiling: {
    readonly fma_gflops: number;
    /** Of a copy kernel. */
    readonly copy_gbps: number;
    readonly buffer_copy_gbps: number;
    readonly dispatch_us: number;
    readonly readback_ms: number;
  };
  /** Of the ceilings over the run. */
  readonly noise: Noise;
  readonly results: readonly Row[];
  /** Of fresh processes, by engine; absent where it was not asked for. */
  readonly startup?: Readonly<Record<string, StartupTimes>>;
  /** Of several ranks on this machine; absent where it was not asked for. */
  readonly cluster?: readonly ClusterRow[];
}

/** Puts a run together. */
export function reportOf(
  adapter: AdapterInfo,
  ceilings: Ceilings,
  noise: Noise,
  results: readonly Row[],
  date: Date,
): Report {
  return {
    adapter,
    driver: adapter.description,
    date: date.toISOString(),
    ceiling: {
      fma_gflops: ceilings.fmaGflops,
      copy_gbps: ceilings.copyGbps,
      buffer_copy_gbps: ceilings.bufferCopyGbps,
      dispatch_us: ceilings.dispatchUs,
      readback_ms: ceilings.readbackMs,
    },
    noise,
    results,
  };
}

/** What the adapter can do, in two lines. */
export function ceilingLines(adapter: AdapterInfo, ceilings: Ceilings): string {
  const { fmaGflops, copyGbps, bufferCopyGbps, dispatchUs, readbackMs } = ceilings;
  return `${adapter.description || adapter.device}\n` +
    `FMA ${fmaGflops.toFixed(1)} GFLOP/s, copy kernel ${copyGbps.toFixed(1)} GB/s ` +
    `(buffer copy ${bufferCopyGbps.toFixed(1)} GB/s), dispatch ${dispatchUs.toFixed(1)} us, ` +
    `read-back ${readbackMs.toFixed(1)} ms`;
}

/** 2 digits where they say something. */
export function times(ratio: number): string {
  return `${ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(2)}x`;
}

/** What a row reached, with its unit. */
export function rateOf({ gflops, gbps }: Row): string {
  return gflops !== undefined
    ? `${gflops.toFixed(1)} GFLOP/s`
    : gbps !== undefined
    ? `${gbps.toFixed(2)} GB/s`
    : "";
}

/** One line of the table; names are padded to `width`. */
export function rowLine(row: Row, width: number): string {
  const parts = [
    row.name.padEnd(width),
    `${row.ms.toFixed(row.ms < 10 ? 3 : 1).padStart(8)} ms ±${percent(row.spread)}`,
    rateOf(row).padStart(13),
    `${percent(row.fraction)} of ${row.bound === "fma" ? "FMA" : "copy"}`,
  ];
  const add = (value: number | undefined, text: (value: number) => string) => {
    if (value !== undefined) parts.push(text(value));
  };
  add(row.naive_ratio, (it) => `naive ${times(it)}`);
  add(row.composition_ratio, (it) => `composed ${times(it)}`);
  for (const [peer, ratio] of Object.entries(row.peers ?? {})) {
    parts.push(`${peer} ${times(ratio)}`);
  }
  for (const [peer, note] of Object.entries(row.peer_notes ?? {})) parts.push(`${peer}: ${note}`);
  add(row.real_time, (it) => `${it.toFixed(0)} x real time`);
  add(row.samples_per_s, (it) => `${it.toFixed(2)} samples/s`);
  add(row.peak_bytes, formatBytes);
  add(row.us_per_dispatch, (it) => `${it.toFixed(1)} us of script per dispatch`);
  return parts.join("  ");
}

function percent(x: number): string {
  return `${(100 * x).toFixed(0)}%`.padStart(4);
}

/** How steady the machine was. */
export function noiseLine({ drift, jitter }: Noise): string {
  return `ceilings: spread ${percent(drift).trim()} over the run, ${
    percent(jitter).trim()
  } between neighbouring samples`;
}
