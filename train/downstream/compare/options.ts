/**
 * The options of `deno task compare`: those of `pretrain`, and some of `probe`.
 *
 * @module
 */
import { basename, join } from "@std/path";
import * as v from "valibot";
import { type ObjectiveName, OBJECTIVES } from "../../../model/objectives/objectives.ts";
import type { CommandSpec, RawArguments } from "../../cli/parser.ts";
import { COMMON_WORDS, valueReader } from "../../cli/values.ts";
import { resolveConfig, type ResolvedConfig } from "../../config/config.ts";
import { optionSpecs } from "../../config/schema.ts";
import { labelledFolder } from "../../data/labelled.ts";
import { UsageError } from "../../errors.ts";
import { eventFolder, hasEvents } from "../hear/event_folder.ts";
import { SCENE_ONLY } from "../hear/options.ts";
import { PROBE_WORDS } from "../probe/options.ts";
import { metricFor } from "../probe/protocol.ts";
import { probeData } from "../probe/splits.ts";
import { MOST_VALUES } from "./intervals.ts";

const PROGRAM = "deno task compare";
const NAMES = Object.keys(OBJECTIVES) as ObjectiveName[];

/** Options of `pretrain` that a comparison sets itself. */
const OWN: ReadonlySet<string> = new Set(["objective", "seed", "out", "resume", "quiet"]);
/** Options that both commands take. */
const SHARED = ["workers", "adapter"] as const;
/** Options of `probe` that do not share a name with one of `pretrain` that means something else. */
const PROBE_VALUES = [
  "protocol",
  "metric",
  "repeats",
  "patience",
  "mode",
  "pool",
  "bands",
  "seconds",
  "cache",
] as const;

const TRAINING = optionSpecs().filter(({ name }) => !OWN.has(name));

/** Words with commas between them, none of them twice. */
function several<const S extends v.GenericSchema<string, unknown>>(item: S) {
  return v.pipe(
    v.string(),
    v.transform((it) => it.split(",").map((word) => word.trim())),
    v.array(item),
    v.check((items) => new Set(items).size === items.length),
  );
}

const seeds = v.pipe(
  several(v.pipe(
    v.string(),
    v.regex(/^\d{1,10}$/),
    v.transform(Number),
    v.maxValue(2 ** 32 - 1),
  )),
  v.maxLength(MOST_VALUES),
);

const WORDS = {
  ...Object.fromEntries(PROBE_VALUES.map((name) => [name, PROBE_WORDS[name]])) as Pick<
    typeof PROBE_WORDS,
    typeof PROBE_VALUES[number]
  >,
  objectives: {
    schema: v.optional(several(v.picklist(NAMES)), NAMES.join(",")),
    allowed: `some of ${NAMES.join(", ")}, each once, with commas between them`,
  },
  seeds: {
    schema: v.optional(seeds, "1,2,3"),
    allowed: `at most ${MOST_VALUES} different whole numbers with commas between them`,
  },
  out: { schema: COMMON_WORDS.path, allowed: "a folder" },
} as const;

/** The command as help and parsing see it. */
export const SPEC: CommandSpec = {
  program: PROGRAM,
  summary:
    "Trains several objectives alike, probes them on labelled folders, and writes one table of what came out.",
  options: [
    {
      name: "objectives",
      kind: "value",
      metavar: "NAME[,NAME...]",
      description: "What is compared.",
      defaultText: NAMES.join(","),
    },
    {
      name: "seeds",
      kind: "value",
      metavar: "N[,N...]",
      description: "Each objective is trained once with each.",
      defaultText: "1,2,3",
    },
    {
      name: "dataset",
      kind: "list",
      metavar: "DIR",
      description: "Labelled folder to probe on; may be given several times.",
    },
    {
      name: "out",
      kind: "value",
      metavar: "DIR",
      description: "Folder of runs, probes and tables; one that was begun is gone on with.",
    },
    {
      name: "keep-checkpoints",
      kind: "flag",
      description:
        "Keeps the checkpoints of finished runs. Without it encoder, config.json and logs stay.",
    },
    { name: "quiet", kind: "flag", description: "No progress; what is done, and the tables." },
    {
      name: "tuned",
      kind: "flag",
      description: "Also probes everything as the tuned baseline of probe is probed.",
    },
    ...PROBE_VALUES.map((name) => {
      const { schema: _, allowed: __, ...it } = PROBE_WORDS[name];
      return { name, kind: "value" as const, ...it, description: `probe: ${it.description}` };
    }),
    {
      name: "config",
      kind: "value",
      metavar: "FILE",
      description: "TOML or JSONC file with pretrain's options by name; the command line wins.",
    },
    ...TRAINING.map((it) => ({ ...it, description: `pretrain: ${it.description}` })),
  ],
  footer:
    "Runs go into DIR/OBJECTIVE-seedN one after the other, then every encoder is probed, beside it the encoder before " +
    "training and mean log-mel; the result is DIR/compare.md and DIR/compare.json. The same command goes on where it " +
    "was ended. A run that fails is named in the table; the others go on, and the exit code is 1.",
};

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
export function planOf(given: RawArguments): Plan {
  const value = valueReader(PROGRAM, WORDS, given);
  const [out, objectives, seeds] = [value("out"), value("objectives"), value("seeds")];
  const quiet = given.quiet === true;
  const training = [
    ...wordsOf(given, ["config", ...TRAINING.map(({ name }) => name)]),
    ...quiet ? ["--quiet"] : [],
  ];
  const runs = seeds.flatMap((seed) =>
    objectives.map((objective): PlannedRun => {
      const name = `${objective}-seed${seed}`;
      const own = ["--objective", objective, "--seed", String(seed), "--out", join(out, name)];
      const words = [...training, ...own];
      return { name, objective, seed, words, config: resolveConfig(words) };
    })
  );
  refuseUnlike(runs);
  const tuned = given.tuned === true;
  const dirs = given.dataset as readonly string[] | undefined;
  if (dirs === undefined) {
    throw new UsageError("--dataset: is needed", `See: ${PROGRAM} --help`);
  }
  const judge = (dir: string): PlannedDataset => plannedDataset(given, value, dir);
  return {
    ...{ out, objectives, seeds, runs, tuned, quiet },
    datasets: named(dirs.map(judge)),
    protocol: value("protocol"),
    keepCheckpoints: given["keep-checkpoints"] === true,
  };
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

function plannedDataset(
  given: RawArguments,
  value: ReturnType<typeof valueReader<typeof WORDS>>,
  dir: string,
): PlannedDataset {
  for (const name of PROBE_VALUES) value(name);
  const hear = value("protocol") === "hear";
  const timestamps = hear && hasEvents(dir);
  const refuse = (names: readonly string[], where: string) => {
    const foreign = names.find((name) => name !== "cache" && given[name] !== undefined);
    if (foreign === undefined) return;
    throw new UsageError(`--${foreign}: means nothing with ${where}`);
  };
  // Other options of these names are pretrain's here.
  if (hear) refuse(["repeats", "tuned"], "--protocol hear");
  if (timestamps) {
    refuse(SCENE_ONLY, `a folder with events.csv, which ${dir} is`);
    eventFolder(dir);
  } else {
    const folder = labelledFolder(dir);
    metricFor(probeData(folder, folder.clips), value("metric"));
  }
  return {
    ...{ name: basename(dir), dir, timestamps },
    words: [
      ...["--dataset", dir],
      ...wordsOf(given, [...PROBE_VALUES.filter((name) => name !== "cache"), "tuned"]),
    ],
    passing: [
      ...wordsOf(given, [...SHARED, ...timestamps ? [] : ["cache"]]),
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
