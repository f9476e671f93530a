/** `deno task pretrain`. */

import { formatBytes, openDevice } from "../../engine/mod.ts";
import {
  isDryRun,
  plannedHours,
  PRETRAIN,
  resolveConfig,
  type ResolvedConfig,
  wantsStudio,
} from "../config/config.ts";
import { labelledFolder } from "../data/labelled_folder.ts";
import { dataSource } from "../data/data_source.ts";
import { defaultWorkers, WorkerPool } from "../data/worker_pool.ts";
import { type ClipSource, type SkippedClip, syntheticSource } from "../data/clip_source.ts";
import { UsageError } from "../errors.ts";
import { environment } from "../io/environment.ts";
import { damageText, JsonLines, readJsonLines } from "../io/json_lines.ts";
import { dryRunText } from "../run/dry_run.ts";
import { pretrain } from "../run/loop.ts";
import { planRun } from "../run/plan_run.ts";
import { waiting } from "../cli/wait_line.ts";
import { sharedAdapters } from "../cluster/adapters.ts";
import { compareConfiguration } from "../cluster/agreement.ts";
import { type Group, groupOfOne } from "../cluster/group.ts";
import { Progress, type ProgressOutput } from "../cli/progress.ts";
import { resumeCommand } from "../run/failure_advice.ts";
import { openRunDirectory, runPaths, writeRunConfig } from "../run/run_directory.ts";
import { cropSamples } from "../run/schedule.ts";

/** Clips of the built-in corpus; each is made anew whenever it is drawn. */
const SYNTHETIC_CLIPS = 1024;

/** The command as help and parsing see it. */
export const COMMAND = PRETRAIN;

/** Text of `--help`. */
export const help = COMMAND.help;

/**
 * Trains; train/README.md says what it leaves behind.
 *
 * @param group processes that train together, this one among them; the first one alone writes
 */
export async function run(
  argv: string[],
  signal: AbortSignal,
  group: Group = groupOfOne(),
): Promise<number> {
  const isFirst = group.rank === 0;
  // A name made of the time is the same for all.
  const [time] = await group.gather(String(Date.now()));
  const now = new Date(Number(time));
  const resolved = resolveConfig(argv, now, group.size);
  let config = isFirst ? resolved : { ...resolved, quiet: true };
  const hours = plannedHours(argv, group.size);
  // What can be wrong without a run is found before there is a run directory.
  const log: { skipped?: JsonLines<SkippedClip> } = {};
  const listed = new Set<string>();
  /** Clips that other processes could not use. */
  const foreign = new Set<string>();
  /** Found while there is no run directory. */
  const early: SkippedClip[] = [];
  const onSkip = (path: string, reason: string): void => {
    if (listed.has(path)) return;
    listed.add(path);
    if (log.skipped) log.skipped.write({ path, reason });
    else early.push({ path, reason });
  };
  const here = group.hosts.filter((it) => it === group.hosts[group.rank]).length;
  const workers = config.data.length > 0 ? config.workers ?? defaultWorkers(here) : 0;
  using pool = new WorkerPool(workers, config.maxHours);
  const openSource = (config: ResolvedConfig) =>
    waiting(
      () => `looking through ${config.data.join(", ")}`,
      sourceOf(config, pool, onSkip),
      config,
    );
  let source = await openSource(config);
  const folder = config.eval === undefined ? undefined : labelledFolder(config.eval);
  using device = await openDevice({
    adapter: config.adapter,
    memoryLimit: config.memoryLimit,
    detectAnomalies: config.anomaly,
    variants: config.variants,
    deterministic: config.deterministic,
  });
  if (hours !== undefined) {
    const { dataWeights } = config;
    config = await planRun(argv, now, { hours, device, source, pool, quiet: config.quiet });
    if (config.dataWeights !== dataWeights) source = await openSource(config);
    if (!config.quiet) { for (const reason of config.plan!) console.log(`- ${reason}`); }
  }
  await compareConfiguration(group, config, source);
  const shared = await sharedAdapters(group, device.info, environment);
  if (isDryRun(argv)) {
    if (isFirst) console.log(dryRunText(device, config, source).join("\n"));
    return 0;
  }
  if (!isFirst) {
    // The directory is there and clean.
    await group.gather("");
    using progress = new Progress({ quiet: true, output: NO_OUTPUT });
    const paths = runPaths(config.out);
    await pretrain({ device, config, paths, source, progress, signal, group });
    return 0;
  }
  using paths = await openRunDirectory(config);
  if (!config.resume) await writeRunConfig(paths, config, device.info);
  await group.gather("");
  const before = readJsonLines<SkippedClip>(paths.skipped);
  using skipped = JsonLines.append<SkippedClip>(paths.skipped);
  for (const { path } of before.rows) listed.add(path);
  for (const row of early) {
    if (!before.rows.some(({ path }) => path === row.path)) skipped.write(row);
  }
  log.skipped = skipped;
  using studio = wantsStudio(argv)
    ? await (await import("../studio/thread.ts")).studioThread({
      folder: paths.dir,
      adapter: config.adapter,
    })
    : undefined;
  using progress = new Progress({ quiet: config.quiet });
  if (studio) progress.note(studio.address);
  if (shared !== undefined) progress.note(shared);
  const damage = damageText(paths.skipped, before.damaged);
  if (damage !== "") progress.note(damage);
  if (!config.quiet) {
    const { objective, preset, recipe, geometry, batch } = config;
    progress.note(`adapter ${device.info.description}`);
    if (group.size > 1) progress.note(groupText(group, config));
    progress.note(`${source.name}: ${source.size} clips`);
    progress.note(
      `objective ${objective}, preset ${preset}, recipe ${recipe}, batch ${batch}, crops of ${
        geometry.cropFrames / 100
      } s; run directory ${paths.dir}`,
    );
  }
  try {
    await pretrain({
      ...{ device, config, paths, source, progress, signal, group },
      onSkip: ({ path, reason }) => {
        foreign.add(path);
        onSkip(path, reason);
      },
      ...(folder && { evaluation: { folder, onSkip } }),
      // Options that do not fit the run leave those that it was started with.
      onResumed: () => writeRunConfig(paths, config, device.info),
    });
  } finally {
    const unusable = new Set([...source.skipped.map(({ path }) => path), ...foreign]).size;
    if (unusable > 0) {
      progress.note(
        `${unusable} of ${source.size} inputs could not be used; see ${paths.skipped}`,
      );
    }
  }
  if (!config.quiet) {
    progress.finish();
    progress.note(`encoder in ${paths.encoder}; next, for instance:`);
    progress.note(`  deno task embed --checkpoint ${paths.dir} AUDIO --out embeddings.npz`);
    progress.note(`  deno task probe --checkpoint ${paths.dir} --dataset LABELLED_FOLDER`);
    progress.note(
      `done: ${progress.summary()}; peak GPU memory ${formatBytes(device.memory.peakBytes)}`,
    );
  }
  return 0;
}

/** Nothing is shown. */
const NO_OUTPUT: ProgressOutput = { write: () => {}, columns: () => undefined, now: Date.now };

/** Who trains together, and how the run goes on should the job end. */
function groupText(
  { size, hosts, library }: Group,
  { batch, microBatch, out }: ResolvedConfig,
): string {
  const machines = new Set(hosts).size;
  const passes = batch / size / microBatch;
  return `${size} ranks on ${machines} ${machines === 1 ? "machine" : "machines"}, ` +
    `${batch / size} clips of an update each${passes > 1 ? ` in ${passes} passes` : ""}; ` +
    `${library}; should the job end: ${resumeCommand({ out, ranks: size })}`;
}

async function sourceOf(
  config: ResolvedConfig,
  pool: WorkerPool,
  onSkip: (path: string, reason: string) => void,
): Promise<ClipSource> {
  const { data, dataWeights: weights, standardise } = config;
  if (data.length > 0) {
    return await dataSource(data, { standardise, pool, onSkip, ...(weights && { weights }) });
  }
  if (weights || standardise === "store") {
    throw new UsageError(`--${weights ? "data-weights" : "standardise store"}: needs --data`);
  }
  return syntheticSource({
    size: SYNTHETIC_CLIPS,
    seed: config.seed,
    samples: cropSamples(config.geometry),
  });
}
