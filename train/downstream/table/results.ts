/**
 * The cells of a table: which probes there are to make, and what they found.
 *
 * @module
 */
import { basename, join } from "../../deps/path.ts";
import { run as probe } from "../../commands/probe.ts";
import { labelledFolder } from "../../data/labelled_folder.ts";
import { NoDataError, UsageError } from "../../errors.ts";
import { openCheckpointFile } from "../../io/checkpoint_file.ts";
import { readRegularText } from "../../io/regular_file.ts";
import { inspectPretrained } from "../../../model/pretrained/load.ts";
import type { RawArguments } from "../../cli/parser.ts";
import { encoderPath } from "../encoder_file.ts";
import { hasEvents } from "../hear/event_folder.ts";
import { digestOf } from "../../io/digest.ts";
import { fileDigest } from "../probe/feature_cache.ts";
import { publishedEncoder } from "./encoders.ts";
import { PROBING_NAMES } from "./options.ts";
import {
  type Published,
  type PublishedEncoder,
  publishedOf,
  type PublishedSet,
  setOf,
} from "./published.ts";

/** Protocols of tables. */
export type TableProtocol = "matpac" | "evar" | "hear";

/** An encoder of the table. */
export interface TableEncoder {
  /** For people; paths where two are called alike. */
  readonly name: string;
  readonly checkpoint: string;
  readonly sha256: string;
  /** What it is, where it is of another system. */
  readonly title: string | undefined;
  /** Which published one it is taken for. */
  readonly published: PublishedEncoder | undefined;
}

/** A labelled folder of the table. */
export interface TableSet {
  readonly name: string;
  readonly dir: string;
  readonly clips: number;
  readonly classes: number;
  /** Whether events are looked for. */
  readonly timestamps: boolean;
  /** Which published one it is taken for. */
  readonly published: PublishedSet | undefined;
  /** What EVAR cuts its clips to. */
  readonly seconds: number | undefined;
}

/** How clips are embedded: in pieces of 6 s as in MATPAC's paper, or as the encoder cuts them. */
export interface Variant {
  readonly name: "" | "6-s pieces" | "whole clips";
  readonly words: readonly string[];
}

/** A score with its interval. */
export interface TableScore {
  readonly mean: number;
  readonly ci95: number | null;
}

/** A cell of the table. */
export interface TableRow extends TableScore {
  readonly encoder: string;
  readonly variant: string;
  readonly dataset: string;
  readonly protocol: TableProtocol;
  readonly metric: string;
  /** Values of an embedding. */
  readonly dim: number | null;
  readonly repeats: readonly number[];
  readonly folds: number;
  readonly clips: number;
  readonly skipped: number;
  /** Nearest neighbours. */
  readonly knn?: number;
  /** The tuned probe. */
  readonly tuned?: TableScore;
  /** The protocol's own table first; percent, difference in points. */
  readonly published?: Published & { readonly difference: number };
  readonly published_elsewhere?: readonly (Published & { readonly difference: number })[];
  readonly checkpoint: { readonly path: string; readonly sha256: string };
}

/** Baselines beside encoders. */
export const BASELINES = {
  baseline_mel: "mean log-mel",
  baseline_mel_sd: "mean and sd of log-mel",
};

/** What is known of the encoders of some checkpoints. @throws {UsageError} if one cannot be read */
export async function tableEncoders(
  checkpoints: readonly string[],
  heads: number | undefined,
): Promise<TableEncoder[]> {
  const found = await Promise.all(checkpoints.map(async (checkpoint): Promise<TableEncoder> => {
    const path = encoderPath(checkpoint);
    const sha256 = await fileDigest(path);
    let published: PublishedEncoder | undefined;
    let title: string | undefined;
    try {
      using opened = openCheckpointFile(path);
      title = inspectPretrained(opened.file, heads === undefined ? {} : { heads })?.title;
      published = publishedEncoder(opened.file, checkpoint, sha256, heads);
    } catch {
      // Its probe says what is wrong with it.
    }
    return { name: basename(checkpoint), checkpoint, sha256, title, published };
  }));
  return withOwnNames(found, ({ checkpoint }) => checkpoint, "--checkpoints");
}

/** What is known of labelled folders. @throws {NoDataError} if one is none */
export function tableSets(dirs: readonly string[], protocol: TableProtocol): TableSet[] {
  const sets = dirs.map((dir): TableSet => {
    if (protocol === "hear" && hasEvents(dir)) {
      const more = { clips: 0, classes: 0, published: undefined, seconds: undefined };
      return { name: basename(dir), dir, timestamps: true, ...more };
    }
    const { clips } = labelledFolder(dir);
    if (clips.length === 0) throw new NoDataError(`${dir}: has no clips`);
    const classes = new Set(clips.flatMap(({ labels }) => labels)).size;
    const known = setOf(basename(dir), classes);
    return {
      ...{ name: basename(dir), dir, clips: clips.length, classes, timestamps: false },
      ...{ published: known?.name, seconds: known?.seconds },
    };
  });
  return withOwnNames(sets, ({ dir }) => dir, "--datasets");
}

function withOwnNames<Item extends { readonly name: string }>(
  items: readonly Item[],
  pathOf: (item: Item) => string,
  option: string,
): Item[] {
  const paths = items.map(pathOf);
  const twice = paths.find((it, i) => paths.indexOf(it) !== i);
  if (twice !== undefined) throw new UsageError(`${option} ${twice}: is given twice`);
  return items.map((it) =>
    items.filter(({ name }) => name === it.name).length > 1 ? { ...it, name: pathOf(it) } : it
  );
}

/** The variants of an encoder under a protocol. */
export function variantsOf(
  { title }: TableEncoder,
  protocol: TableProtocol,
  given: RawArguments,
): Variant[] {
  if (title === undefined || protocol !== "matpac" || given.split !== undefined) {
    return [{ name: "", words: [] }];
  }
  return [{ name: "6-s pieces", words: ["--split", "6"] }, { name: "whole clips", words: [] }];
}

/** EVAR's rate for all encoders but M2D, of which its protocol here has the rate. */
const EVAR_RATE = "3e-4";

/** Words of the probe of a cell that decide on its result. */
function wordsOf(
  encoder: TableEncoder,
  set: TableSet,
  { words }: Variant,
  protocol: TableProtocol,
  given: RawArguments,
): string[] {
  const passed = PROBING_NAMES.flatMap((name) => {
    const value = given[name];
    if (value === undefined) return [];
    return value === true ? [`--${name}`] : [value].flat().flatMap((it) => [`--${name}`, it]);
  });
  const { seconds } = set;
  const other = encoder.title !== undefined;
  return [
    ...["--protocol", protocol],
    ...protocol === "evar" && seconds !== undefined && given.seconds === undefined
      ? ["--seconds", String(seconds)]
      : [],
    ...protocol === "evar" && other && given.lr === undefined ? ["--lr", EVAR_RATE] : [],
    ...protocol === "hear" ? [] : ["--knn"],
    ...words,
    ...passed,
  ];
}

/** What `probe --json FILE` says. */
interface ProbeRecord extends TableScore {
  readonly metric: string;
  readonly dim?: number;
  readonly repeats?: readonly number[];
  readonly folds: readonly unknown[];
  readonly clips: number;
  readonly skipped: readonly unknown[];
  readonly checkpoint: { readonly path: string; readonly sha256: string };
  readonly knn?: TableScore;
  readonly encoder_tuned?: TableScore;
  readonly baseline_mel?: TableScore & { readonly dim: number };
  readonly baseline_mel_sd?: TableScore & { readonly dim: number };
}

/** What is needed to make a cell. */
export interface CellContext {
  readonly out: string;
  readonly encoder: TableEncoder;
  readonly set: TableSet;
  readonly variant: Variant;
  readonly protocol: TableProtocol;
  readonly given: RawArguments;
  /** Whether the log-mel baselines are judged with it. */
  readonly baselines: boolean;
  readonly signal: AbortSignal;
}

/**
 * Makes a cell unless it was made before: its probe's JSON is in `probes/`, features are in
 * `features/`.
 *
 * @returns the cell, and those of the baselines; whether it was there
 * @throws as `probe`.
 */
export async function cellOf(
  { out, encoder, set, variant, protocol, given, baselines, signal }: CellContext,
): Promise<{ readonly rows: TableRow[]; readonly before: boolean }> {
  const words = wordsOf(encoder, set, variant, protocol, given);
  const name = digestOf({ words, dir: set.dir, baselines, heads: given.heads }).slice(0, 12);
  const file = join(
    out,
    "probes",
    set.name.replaceAll(/[^\w.-]/g, "_"),
    `${encoder.name.replaceAll(/[^\w.-]/g, "_")}-${encoder.sha256.slice(0, 8)}-${name}.json`,
  );
  let record = readRecord(file);
  const before = record?.checkpoint.sha256 === encoder.sha256;
  if (!before) {
    const passing = ["heads", "workers", "adapter"].flatMap((name) => {
      const value = given[name];
      return typeof value === "string" ? [`--${name}`, value] : [];
    });
    await probe([
      ...["--checkpoint", encoder.checkpoint, "--dataset", set.dir, "--json", file],
      ...words,
      ...passing,
      ...set.timestamps ? [] : ["--cache", join(out, "features")],
      ...baselines || set.timestamps ? [] : ["--no-baseline"],
      "--quiet",
    ], signal);
    record = readRecord(file)!;
  }
  return { rows: rowsOf(record!, encoder, set, variant, protocol), before };
}

function readRecord(file: string): ProbeRecord | undefined {
  try {
    return JSON.parse(readRegularText(file));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function rowsOf(
  record: ProbeRecord,
  encoder: TableEncoder,
  set: TableSet,
  variant: Variant,
  protocol: TableProtocol,
): TableRow[] {
  const { mean, ci95, metric, dim, repeats = [], folds, clips, skipped, knn } = record;
  const common = {
    ...{ dataset: set.name, protocol, metric, folds: folds.length, clips },
    skipped: skipped.length,
    checkpoint: { path: encoder.checkpoint, sha256: encoder.sha256 },
  };
  const ci = (score: TableScore) => ({
    mean: score.mean,
    // One repeat has no interval.
    ci95: repeats.length > 1 ? score.ci95 : null,
  });
  const [published, ...elsewhere] = publishedOf(encoder.published, set.published, protocol)
    .map((it) => ({ ...it, difference: 100 * mean - it.value }));
  const own: TableRow = {
    ...{ encoder: encoder.name, variant: variant.name, ...common, ...ci({ mean, ci95 }) },
    ...{ dim: dim ?? null, repeats },
    ...knn && { knn: knn.mean },
    ...record.encoder_tuned && { tuned: ci(record.encoder_tuned) },
    ...published && { published },
    ...elsewhere.length > 0 && { published_elsewhere: elsewhere },
  };
  const beside = (Object.keys(BASELINES) as (keyof typeof BASELINES)[]).flatMap((key) => {
    const score = record[key];
    if (!score) return [];
    const of = { encoder: BASELINES[key], variant: "", dim: score.dim, repeats: [] };
    return [{ ...of, ...common, ...ci(score) }];
  });
  return [own, ...beside];
}
