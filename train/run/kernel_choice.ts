/**
 * Choosing the kernels of a run: what the user asked for, what an earlier run measured on this
 * adapter, or what is measured now.
 *
 * @module
 */
import { type Device, tune } from "../../engine/mod.ts";
import { refuseInterrupted } from "../io/interruption.ts";
import { loadTuning, saveTuning } from "../io/user_cache.ts";
import type { ResolvedConfig } from "../config/config.ts";
import { UsageError } from "../errors.ts";
import type { Progress } from "../cli/progress.ts";

/** What it needs to know of a run. */
export interface TuningContext {
  /** Runs everything. */
  readonly device: Device;
  /** Says whether to measure. */
  readonly config: Pick<ResolvedConfig, "tune" | "variants" | "deterministic" | "quiet">;
  /** Who is told. */
  readonly progress: Progress;
}

/**
 * Settles which kernel variants the run uses.
 *
 * @param record records the run's work without computing it
 * @returns what `record` returned
 * @throws {UsageError} for a variant that the run has no use for
 */
export async function prepareKernels<T>(
  { device, config, progress }: TuningContext,
  record: () => T,
): Promise<T> {
  const measures = !config.deterministic &&
    (config.tune === "on" || config.tune === "auto" && !device.info.software);
  if (measures) await loadTuning(device);
  const { result, open } = device.tuning.collect(record);
  for (const family of device.tuning.unusedOverrides) {
    throw new UsageError(
      `--variant ${family}=${config.variants[family]}: no kernel of this run has that variant`,
    );
  }
  if (measures && open.length > 0) {
    const start = performance.now();
    const replaced = await tune(device, open, {
      progress: (done, all) => {
        refuseInterrupted();
        progress.stage("timing kernel variants", done, all);
      },
    });
    progress.stage("timing kernel variants", open.length, open.length);
    const file = await saveTuning(device);
    if (!config.quiet) {
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      progress.note(
        `${open.length} kinds of work timed in ${seconds} s, ` +
          `${replaced} with another variant than the default; ` +
          (file ? `remembered in ${file}` : "could not be remembered: no writable cache folder"),
      );
    }
  }
  return result;
}
