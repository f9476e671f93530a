/**
 * From the paths of `--data` to one source of clips.
 *
 * @module
 */
import { basename, dirname, join } from "../deps/path.ts";
import * as v from "../deps/valibot.ts";
import { MATPAC_STATISTICS } from "../../model/frontend/log_mel.ts";
import { NoDataError, UsageError } from "../errors.ts";
import { AUDIO_EXTENSIONS, type OnSkip, walkFiles } from "../io/folders.ts";
import { readRegularText } from "../io/regular_file.ts";
import { NameTable, readManifest } from "./manifest.ts";
import {
  CACHE_BYTES,
  type ClipSource,
  fileSource,
  type FileSourceOptions,
  joinSources,
  type Statistics,
} from "./clip_source.ts";

/** Names of the files that `prepare` leaves in a store beside the spectrograms. */
export const STORE_FILES = { manifest: "manifest.tsv", stats: "stats.json" } as const;

/** What stats.json holds: mean and standard deviation over all values of a store. */
export const STORE_STATISTICS = v.object({
  mean: v.pipe(v.number(), v.finite()),
  std: v.pipe(v.number(), v.finite(), v.gtValue(0)),
  values: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
});

/** Options of {@link dataSource}. */
export interface DataOptions extends Omit<FileSourceOptions, "statistics"> {
  /** As in `joinSources`. */
  readonly weights?: readonly number[];
  /**
   * Whose mean and standard deviation log-mel values are standardised with; default the paper's.
   */
  readonly standardise?: "paper" | "store";
}

/** Files of one path, before they are read. */
interface Listing {
  readonly name: string;
  readonly root: string;
  readonly names: NameTable;
  /** Folder that may hold stats.json. */
  readonly store: string;
}

/**
 * The source for some paths, each a folder of audio, a folder of `.npy` log-mels (by its
 * manifest.tsv where there is one), or a manifest.
 *
 * @throws {UsageError} if there is not one weight per path, or statistics are wanted of stores that
 * have none
 * @throws {NoDataError | FolderError} if a path cannot be read or holds nothing to train on.
 */
export async function dataSource(
  paths: readonly string[],
  { weights, standardise = "paper", ...options }: DataOptions = {},
): Promise<ClipSource> {
  if (weights && weights.length !== paths.length) {
    throw new UsageError(
      `--data-weights: ${weights.length} weights for ${paths.length} --data; must be one for each`,
    );
  }
  const listings: Listing[] = [];
  for (const path of paths) listings.push(await listingOf(path, options.onSkip));
  const statistics = standardise === "store"
    ? storeStatistics(listings, weights)
    : MATPAC_STATISTICS;
  const own = { cache: { free: CACHE_BYTES }, ...options, statistics };
  return joinSources(
    listings.map(({ name, root, names }) => fileSource(name, root, names, own)),
    weights,
  );
}

async function listingOf(path: string, onSkip: OnSkip = () => {}): Promise<Listing> {
  const isFile = await Deno.stat(path).then((it) => it.isFile, () => false);
  if (isFile && !/\.tsv$/i.test(path)) {
    throw new NoDataError(`${path}: must be a folder or a manifest that ends in .tsv`);
  }
  const manifest = isFile ? path : join(path, STORE_FILES.manifest);
  if (isFile || await Deno.stat(manifest).then((it) => it.isFile, () => false)) {
    const { root, names } = await readManifest(manifest);
    return { name: `manifest ${manifest}`, root, names, store: isFile ? dirname(path) : path };
  }
  const kinds = { audio: 0, npy: 0 };
  const names = await NameTable.from(async function* () {
    for await (const file of walkFiles(path, [...AUDIO_EXTENSIONS, ".npy"], onSkip)) {
      kinds[/\.npy$/i.test(basename(file)) ? "npy" : "audio"]++;
      yield file.slice(path.length).replace(/^[\\/]+/, "");
    }
  }());
  if (kinds.audio > 0 && kinds.npy > 0) {
    throw new NoDataError(
      `${path}: holds ${kinds.audio} audio files and ${kinds.npy} .npy files; ` +
        "give a folder of one kind, or a manifest",
    );
  }
  if (names.size === 0) {
    throw new NoDataError(
      `no data in folder ${path}: no ${AUDIO_EXTENSIONS.join(" ")} or .npy files`,
    );
  }
  return { name: `folder ${path}`, root: path, names, store: path };
}

/**
 * Statistics of all stores together, each counting by its weight, or without weights by its number
 * of values.
 */
function storeStatistics(
  listings: readonly Listing[],
  weights?: readonly number[],
): Statistics {
  let [total, sum, squares] = [0, 0, 0];
  const without: string[] = [];
  for (const [i, { store }] of listings.entries()) {
    const path = join(store, STORE_FILES.stats);
    let text: string;
    try {
      text = readRegularText(path);
    } catch {
      without.push(path);
      continue;
    }
    const { mean, std, values } = statisticsIn(text, path);
    const weight = weights?.[i] ?? values;
    total += weight;
    sum += weight * mean;
    squares += weight * (std * std + mean * mean);
  }
  if (total === 0) {
    throw new UsageError(
      `--standardise store: there is no ${without.join(" and no ")}`,
      "prepare writes it; --standardise paper needs none",
    );
  }
  const mean = sum / total;
  return { mean, std: Math.sqrt(squares / total - mean * mean) };
}

function statisticsIn(text: string, path: string): v.InferOutput<typeof STORE_STATISTICS> {
  try {
    return v.parse(STORE_STATISTICS, JSON.parse(text));
  } catch (error) {
    throw new UsageError(`--standardise store: ${path} is broken: ${(error as Error).message}`);
  }
}
