/**
 * The probes of a comparison: `deno task probe` on each run and folder, one JSON file each.
 *
 * @module
 */
import { readRegularText } from "../../io/regular_file.ts";
import { basename, join } from "../../deps/path.ts";
import { run as probe } from "../../commands/probe.ts";
import { digestOf } from "../../io/digest.ts";
import { fileDigest } from "../probe/feature_cache.ts";
import { runPaths } from "../../run/run_directory.ts";
import type { PlannedDataset, PlannedRun } from "./plan.ts";

/** What one kind of features scores. */
export interface Score {
  readonly mean: number;
  readonly ci95: number;
  /** Score of each repeat; timestamp tasks have none. */
  readonly repeats?: readonly number[];
  readonly folds: readonly unknown[];
}

/** Features beside those of the trained encoder, as the keys of records name them. */
export const REFERENCES = ["untrained", "baseline_mel", "baseline_mel_sd"] as const;

/** The part of `probe --json FILE` that a comparison reads. */
export interface ProbeRecord extends
  Score,
  Partial<
    Record<
      "encoder_tuned" | typeof REFERENCES[number] | `${typeof REFERENCES[number]}_tuned`,
      Score
    >
  > {
  readonly metric: string;
  readonly checkpoint: { readonly sha256: string };
}

/** What is probed beside the trained encoder. */
export type References = Readonly<Record<typeof REFERENCES[number], boolean>>;

/** Where a probe's results are: other options have another folder. */
function fileOf(out: string, { dir, words }: PlannedDataset, { name }: PlannedRun): string {
  const folder = `${basename(dir)}-${digestOf(words).slice(0, 8)}`;
  return join(out, "probes", folder, `${name}.json`);
}

/**
 * Probes a run's encoder unless that was done.
 *
 * @param references what is probed with it; timestamp tasks have no mean log-mel
 * @returns what was found, now or before
 * @throws as `probe`
 */
export async function probeRun(
  out: string,
  run: PlannedRun,
  dataset: PlannedDataset,
  references: References,
  signal: AbortSignal,
): Promise<ProbeRecord> {
  const file = fileOf(out, dataset, run);
  const probed = REFERENCES.filter((key) =>
    references[key] && !(key !== "untrained" && dataset.timestamps)
  );
  const weights = await fileDigest(runPaths(run.config.out).encoder);
  const done = readRecord(file);
  if (done?.checkpoint.sha256 === weights && probed.every((key) => done[key] !== undefined)) {
    return done;
  }
  await probe([
    ...["--checkpoint", run.config.out, "--json", file],
    ...dataset.words,
    ...dataset.passing,
    ...probed.includes("untrained") ? ["--untrained"] : [],
    ...probed.includes("baseline_mel") ? [] : ["--no-baseline"],
  ], signal);
  return readRecord(file)!;
}

/** Records are written whole or not at all. */
function readRecord(file: string): ProbeRecord | undefined {
  try {
    return JSON.parse(readRegularText(file));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
