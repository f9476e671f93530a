/** `deno task compare`: objectives trained alike, probed, in one table. */

import { join } from "../deps/path.ts";
import { type Command, command, quotedCommand } from "../cli/command.ts";
import { COMPARE_OPTIONS } from "../downstream/compare/options.ts";
import { type Plan, type PlannedRun, planOf } from "../downstream/compare/plan.ts";
import { probeRun, type References } from "../downstream/compare/probes.ts";
import { markdownOf } from "../downstream/compare/report.ts";
import { comparisonOf, type ProbeOutcome } from "../downstream/compare/results.ts";
import {
  attempt,
  isFailure,
  isFinished,
  type RunOutcome,
  runSummary,
  throwIfInterrupted,
  trainRun,
} from "../downstream/compare/runs.ts";
import { lockFolder } from "../io/lock.ts";
import { isInShard, ShardFolder, shardText } from "../io/shards.ts";
import { makeFolder, writeJson, writeResult } from "../io/result_file.ts";
import { gitCommit } from "../io/git.ts";

/** The command as help and parsing see it. */
export const COMMAND: Command<typeof COMPARE_OPTIONS> = command({
  name: "compare",
  options: COMPARE_OPTIONS,
  footer:
    "Runs go into DIR/OBJECTIVE-seedN one after the other, then every encoder is probed, beside " +
    "it the encoder before training and mean (and sd) of log-mel; the result is DIR/compare.md " +
    "and DIR/compare.json. The same command goes on where it was ended. A run that fails is " +
    "named in the table; the others go on, and the exit code is 1. Parts of --shard make their " +
    "share of the runs and probe them; the call without it writes the table.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const plan = planOf(COMMAND.read(argv));
  await makeFolder(plan.out);
  const { shard } = plan;
  const shards = new ShardFolder<true>(join(plan.out, ".shards"), plan.facts);
  const parts = shard === undefined ? await shards.parts() : undefined;
  using _ = lockFolder(plan.out, "comparison", shard !== undefined);
  using own = shard && await shards.begin(shard);
  const runs = await train(plan, signal);
  const probes = await probeAll(plan, runs, signal);
  if (own) {
    await own.finish(true);
    const failed = [...runs, ...probes].filter(({ result }) => isFailure(result)).length;
    console.log(`shard ${shardText(shard!)} is complete; ${failed} of its runs and probes failed`);
    return failed > 0 ? 1 : 0;
  }
  const found = comparisonOf(plan, runs, probes);
  const line = quotedCommand(COMMAND.program, argv);
  const { out, objectives, seeds, datasets, protocol, tuned } = plan;
  const [{ config: { preset, recipe, batch, length, geometry } }] = plan.runs;
  await writeJson(join(out, "compare.json"), {
    command: line,
    settings: {
      ...{ objectives, seeds, protocol, tuned },
      datasets: datasets.map(({ name, dir }) => ({ name, dir })),
      ...{ preset, recipe, batch, length, crop_frames: geometry.cropFrames },
    },
    git_commit: gitCommit() ?? null,
    ...found,
  });
  const text = markdownOf(plan, found, line);
  const file = join(out, "compare.md");
  await writeResult(file, text);
  if (parts) await shards.remove();
  console.log(`\n${text}\nwritten to ${file}`);
  return found.failures.length > 0 ? 1 : 0;
}

/** Trains what is not trained. */
async function train(
  { runs, keepCheckpoints, shard }: Plan,
  signal: AbortSignal,
): Promise<RunOutcome[]> {
  // Runs of other options are found before the first one begins.
  const finished = runs.map(isFinished);
  const outcomes: RunOutcome[] = [];
  for (const [i, run] of runs.entries()) {
    if (!isInShard(i, shard)) continue;
    throwIfInterrupted(signal);
    const { name, objective, seed } = run;
    const result = await attempt(name, signal, async () => {
      if (finished[i]) console.log(`${name}: is there`);
      else {
        console.log(`${name}: run ${i + 1} of ${runs.length}`);
        await trainRun(run, keepCheckpoints, signal);
      }
      return runSummary(run);
    });
    outcomes.push({ name, objective, seed, result });
  }
  return outcomes;
}

/** Probes what is not probed. */
async function probeAll(
  { out, runs, datasets }: Plan,
  outcomes: readonly RunOutcome[],
  signal: AbortSignal,
): Promise<ProbeOutcome[]> {
  const results = new Map(outcomes.map(({ name, result }) => [name, result]));
  const isOwn = ({ name }: PlannedRun) => results.has(name);
  // Those of other shards are taken to be good: what is missing then is probed in the end.
  const trained = runs.filter((run) => !isOwn(run) || !isFailure(results.get(run.name)!));
  const probes: ProbeOutcome[] = [];
  for (const dataset of datasets) {
    for (const run of trained.filter(isOwn)) {
      throwIfInterrupted(signal);
      const name = `probe of ${run.name} on ${dataset.name}`;
      const work = () => probeRun(out, run, dataset, referencesOf(run, trained), signal);
      probes.push({ dataset, run, result: await attempt(name, signal, work) });
    }
  }
  return probes;
}

/**
 * All objectives begin with the same encoder, so that one run of a seed stands for it; mean log-mel
 * has no seed.
 */
function referencesOf(run: PlannedRun, trained: readonly PlannedRun[]): References {
  return {
    untrained: run === trained.find(({ seed }) => seed === run.seed),
    baseline_mel: run === trained[0],
    baseline_mel_sd: run === trained[0],
  };
}
