/**
 * What a comparison is to do: the runs, and the folders that their encoders are probed on.
 *
 * @module
 */
import { basename, join } from "../../deps/path.ts";
import type { ObjectiveName } from "../../../model/objectives/objectives.ts";
import { type Arguments, refuse } from "../../cli/command.ts";
import type { RawArguments } from "../../cli/parser.ts";
import { shardFacts } from "../../cli/shared_options.ts";
import type { Shard, ShardFacts } from "../../io/shards.ts";
import { resolveConfig, type ResolvedConfig } from "../../config/config.ts";
import { labelledFolder } from "../../data/labelled_folder.ts";
import { UsageError } from "../../errors.ts";
import { eventFolder, hasEvents } from "../hear/event_folder.ts";
import { SCENE_ONLY } from "../hear/options.ts";
import { metricFor } from "../probe/protocol.ts";
import { probeData } from "../probe/splits.ts";
import { type COMPARE_OPTIONS, PROBING_NAMES, TRAINING_NAMES } from "./options.ts";

/** What a comparison is called with. */
type CompareArguments = Arguments<typeof COMPARE_OPTIONS>;

/** A run of the comparison. */
export interface PlannedRun {
  /** Name of its folder. */
  readonly name: string;
  /** What it learns. */
  readonly objective: ObjectiveName;
  /** Start of its random choices. */
  readonly seed: number;
  /** What `pretrain` makes of {@link words}. */
  readonly config: ResolvedConfig;
  /** Words for `pretrain`. */
  readonly words: readonly string[];
}

/** A labelled folder of the comparison. */
export interface PlannedDataset {
  /** For tables. */
  readonly name: string;
  /** Where it is. */
  readonly dir: string;
  /** Whether events are to be found in it. */
  readonly timestamps: boolean;
  /** Words for `probe` that decide on its result. */
  readonly words: readonly string[];
  /** Words for `probe` that do not. */
  readonly passing: readonly string[];
}

/** All that is to be done. */
export interface Plan {
  /** Where everything goes. */
  readonly out: string;
  /** In the order of the table. */
  readonly objectives: readonly ObjectiveName[];
  /** In the order given. */
  readonly seeds: readonly number[];
  /** All objectives with the first seed, then with the next. */
  readonly runs: readonly PlannedRun[];
  /** In the order given. */
  readonly datasets: readonly PlannedDataset[];
  /** Of probes. */
  readonly protocol: "matpac" | "evar" | "hear";
  /** Whether tuned probes are made as well. */
  readonly tuned: boolean;
  /** Whether checkpoints of finished runs stay. */
  readonly keepCheckpoints: boolean;
  /** No progress. */
  readonly quiet: boolean;
  /** The part of the runs, with their probes, that is this process's. */
  readonly shard: Shard | undefined;
  /** What all shards have in common. */
  readonly facts: ShardFacts;
}

/** Words of the command line that have these options' values again. */
function wordsOf(given: RawArguments, names: readonly string[]): string[] {
  return names.flatMap((name) => {
    const value = given[name];
    if (value === undefined) return [];
    if (value === true) return [`--${name}`];
    return [value].flat().flatMap((it) => [`--${name}`, it]);
  });
}

/**
 * What is to be done; nothing is written.
 *
 * @throws {UsageError} for options that do not fit, also where `pretrain` or `probe` would find
 * that out later
 * @throws {NoDataError} for a folder to probe on that is none
 */
export function planOf({ values, words }: CompareArguments): Plan {
  const { out, objectives, seeds, quiet, protocol, shard } = values;
  const tuned = isTuned(values);
  const training = [...wordsOf(words, TRAINING_NAMES), ...quiet ? ["--quiet"] : []];
  const runs = seeds.flatMap((seed) =>
    objectives.map((objective): PlannedRun => {
      const name = `${objective}-seed${seed}`;
      const own = ["--objective", objective, "--seed", String(seed), "--out", join(out, name)];
      const words = [...training, ...own];
      return { name, objective, seed, words, config: resolveConfig(words) };
    })
  );
  refuseUnlike(runs);
  const datasets = named(values.dataset.map((dir) => plannedDataset({ values, words }, dir)));
  return {
    ...{ out, objectives, seeds, runs, datasets, protocol, tuned, quiet, shard },
    facts: shardFacts(words, ["keep-checkpoints"]),
    keepCheckpoints: values["keep-checkpoints"],
  };
}

/** Whether encoders are probed tuned as well; HEAR's perceptrons choose among rates anyway. */
function isTuned(
  { protocol, tuned, "no-tuned": not }: CompareArguments["values"],
): boolean {
  if (tuned && not) throw new UsageError("--tuned and --no-tuned exclude each other");
  return protocol !== "hear" && !not;
}

/** Refuses presets that give objectives other clips. */
function refuseUnlike(runs: readonly PlannedRun[]): void {
  const same = (option: string, of: (config: ResolvedConfig) => string) => {
    const found = new Map(runs.map(({ objective, config }) => [objective, of(config)]));
    if (new Set(found.values()).size === 1) return;
    const texts = [...found].map(([objective, text]) => `${objective} ${text}`);
    throw new UsageError(
      `--${option}: is needed, for all alike; left alone it would be ${texts.join(", ")}`,
    );
  };
  same("crop-frames", ({ geometry }) => String(geometry.cropFrames));
  same("steps", ({ length }) => JSON.stringify(length).replace(/[{}"]/g, "").replace(":", " "));
}

function plannedDataset({ values, words }: CompareArguments, dir: string): PlannedDataset {
  const hear = values.protocol === "hear";
  const timestamps = hear && hasEvents(dir);
  // Other options of these names are pretrain's here.
  if (hear) refuse(words, ["repeats", "tuned", "no-tuned"], "means nothing with --protocol hear");
  if (timestamps) {
    const names = SCENE_ONLY.filter((name) => name !== "cache");
    refuse(words, names, `means nothing with a folder with events.csv, which ${dir} is`);
    eventFolder(dir);
  } else {
    const folder = labelledFolder(dir);
    metricFor(probeData(folder, folder.clips), values.metric);
  }
  return {
    ...{ name: basename(dir), dir, timestamps },
    words: [
      ...["--dataset", dir],
      ...wordsOf(words, PROBING_NAMES.filter((name) => name !== "cache")),
      ...isTuned(values) ? ["--tuned"] : [],
    ],
    passing: [
      ...wordsOf(words, ["workers", "adapter", ...timestamps ? [] : ["cache"]]),
      "--quiet",
    ],
  };
}

/** The same, with paths for names where two folders have one name. */
function named(datasets: readonly PlannedDataset[]): PlannedDataset[] {
  const dirs = datasets.map(({ dir }) => dir);
  const twice = dirs.find((dir, i) => dirs.indexOf(dir) !== i);
  if (twice !== undefined) throw new UsageError(`--dataset ${twice}: is given twice`);
  return datasets.map((it) =>
    datasets.filter(({ name }) => name === it.name).length > 1 ? { ...it, name: it.dir } : it
  );
}
