/** `deno task pretrain`. */

import { formatBytes, openDevice } from "../../engine/mod.ts";
import { pretrainHelp, resolveConfig, type ResolvedConfig } from "../config.ts";
import { audioFolderSource, type ClipSource, syntheticSource } from "../data/loader.ts";
import { JsonLines, type SkippedRow } from "../log.ts";
import { pretrain } from "../loop.ts";
import { Progress } from "../progress.ts";
import { openRunDirectory, writeRunConfig } from "../rundir.ts";
import { cropSamples } from "../schedule.ts";

/** Clips of the built-in corpus; each is made anew whenever it is drawn. */
const SYNTHETIC_CLIPS = 1024;

/** Text of `--help`. */
export const help: () => string = pretrainHelp;

/** Trains; see INTERFACE in the README for what it leaves behind. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const config = resolveConfig(argv);
  // What can be wrong without a run is found before there is a run directory.
  const log: { skipped?: JsonLines<SkippedRow> } = {};
  const source = await sourceOf(config, (path, reason) => log.skipped?.write({ path, reason }));
  using device = await openDevice({
    adapter: config.adapter,
    memoryLimit: config.memoryLimit,
    detectAnomalies: config.anomaly,
    variants: config.variants,
    deterministic: config.deterministic,
  });
  const paths = await openRunDirectory(config);
  await writeRunConfig(paths, config, device.info);
  using skipped = JsonLines.create<SkippedRow>(paths.skipped);
  log.skipped = skipped;
  using progress = new Progress({ quiet: config.quiet });
  if (!config.quiet) {
    const { preset, recipe, geometry, batch } = config;
    console.log(`adapter ${device.info.description}`);
    console.log(`${source.name}: ${source.size} clips`);
    console.log(
      `preset ${preset}, recipe ${recipe}, batch ${batch}, crops of ${
        geometry.cropFrames / 100
      } s; run directory ${paths.dir}`,
    );
  }
  try {
    await pretrain({ device, config, paths, source, progress, signal });
  } finally {
    if (source.skipped.length > 0) {
      progress.note(
        `${source.skipped.length} of ${source.size} inputs could not be used; see ${paths.skipped}`,
      );
    }
  }
  if (!config.quiet) {
    progress.note(
      `done; peak GPU memory ${formatBytes(device.memory.peakBytes)}; encoder in ${paths.encoder}`,
    );
  }
  return 0;
}

async function sourceOf(
  config: ResolvedConfig,
  onSkip: (path: string, reason: string) => void,
): Promise<ClipSource> {
  if (config.data.length > 0) return await audioFolderSource(config.data, { onSkip });
  return syntheticSource({
    size: SYNTHETIC_CLIPS,
    seed: config.seed,
    samples: cropSamples(config.geometry),
  });
}
