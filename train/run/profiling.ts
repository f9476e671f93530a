/**
 * `pretrain --profile N`: some updates of a run, kernel by kernel.
 *
 * @module
 */

import { chromeTrace, type Device, Profiler, table } from "../../engine/mod.ts";
import { measureCeilings } from "./ceilings.ts";
import type { Progress } from "../cli/progress.ts";
import type { RunPaths } from "./run_directory.ts";
import { writeAtomic } from "../io/atomic_write.ts";

/** Updates in which pipelines are compiled and buffers made. */
const WARM_UP = 3;

/** What is profiled, and who is told. */
export interface RunProfileOptions {
  readonly device: Device;
  /** Updates to profile; 0 or undefined for none. */
  readonly updates: number | undefined;
  readonly paths: RunPaths;
  readonly progress: Progress;
  /** Whether the table is not printed. */
  readonly quiet: boolean;
}

/** Profiles the updates after the first three of a run and leaves the run alone otherwise. */
export class RunProfile {
  readonly #options: RunProfileOptions;
  #begun = 0;
  #profiler: Profiler | undefined;
  #ceilings: { fmaGflops: number; copyGbps: number } | undefined;

  constructor(options: RunProfileOptions) {
    this.#options = options;
  }

  /** Call before each update. */
  async before(): Promise<void> {
    const { device, updates = 0 } = this.#options;
    const begun = this.#begun++;
    if (begun === WARM_UP + updates) await this.finish();
    if (begun !== WARM_UP || updates === 0) return;
    await device.sync();
    this.#ceilings = await measureCeilings(device.gpu);
    this.#profiler = Profiler.start(device, { ceilings: this.#ceilings });
  }

  /** Ends a profile that is under way: writes its files and prints its table. */
  async finish(): Promise<void> {
    const { device, paths, progress, quiet, updates = 0 } = this.#options;
    const profiler = this.#profiler;
    if (!profiler) {
      if (updates > 0 && this.#begun <= WARM_UP) {
        progress.note(`--profile: the run ended within the ${WARM_UP} updates to warm up`);
      }
      return;
    }
    this.#profiler = undefined;
    const profile = await profiler.stop();
    // The rest of the run replays a plan, which has memory of its own.
    device.trim();
    const { fmaGflops, copyGbps } = this.#ceilings!;
    const kernels = table(profile, "kernels");
    const text = [
      `${device.info.description}: at best ${fmaGflops.toFixed(1)} GFLOP/s, ` +
      `${copyGbps.toFixed(1)} GB/s (measured)`,
      kernels,
      "",
      table(profile),
      "",
    ].join("\n");
    const encoder = new TextEncoder();
    await writeAtomic(paths.profileTable, [encoder.encode(text)]);
    await writeAtomic(paths.profileTrace, [encoder.encode(chromeTrace(profile))]);
    if (!quiet) progress.note(kernels);
    progress.note(`profile in ${paths.profileTable} and ${paths.profileTrace}`);
  }
}
