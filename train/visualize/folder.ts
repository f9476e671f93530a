/**
 * The clips of a folder with their labels, and their embeddings in the plane.
 *
 * @module
 */
import { join, relative, SEPARATOR } from "../deps/path.ts";
import { NoDataError } from "../errors.ts";
import type { OnSkip } from "../io/folders.ts";
import { exists } from "../datasets/dataset.ts";
import { labelledFolder } from "../data/labelled_folder.ts";
import { Prng } from "../../engine/prng.ts";
import type { ClipEncoder } from "../downstream/clip_encoder.ts";
import { audioFiles } from "../downstream/embed_files.ts";
import {
  audioDigests,
  clipFeatures,
  type ClipFeaturesOptions,
  encoderSource,
} from "../downstream/probe/features.ts";
import type { EmbeddingMap, MapClip } from "./embedding_map.ts";
import { principalComponents } from "./components.ts";
import { FEWEST_FOR_UMAP, umap } from "./projection.ts";

/** A clip of a folder. */
export interface FolderClip extends MapClip {
  /** Its file. */
  readonly path: string;
}

/**
 * The clips of a labelled folder (with meta.csv), else all audio below a folder, whose labels are
 * then the folders in it.
 *
 * @param onSkip hears of subfolders that cannot be listed
 * @throws {NoDataError} if meta.csv cannot be used
 * @throws {FolderError} if the folder cannot be listed
 */
export async function clipsOf(folder: string, onSkip?: OnSkip): Promise<FolderClip[]> {
  if (await exists(join(folder, "meta.csv"))) {
    return labelledFolder(folder).clips.map(({ path, labels }) => ({
      path,
      labels,
      name: relative(join(folder, "audio"), path),
    }));
  }
  return (await audioFiles([folder], onSkip)).map((path) => {
    const name = relative(folder, path);
    const parts = name.split(SEPARATOR);
    return { path, name, labels: parts.length > 1 ? [parts[0]] : [] };
  });
}

/** At most `most` of the clips, drawn at random, in their order. */
export function sampled<Clip>(clips: readonly Clip[], most: number, seed: number): Clip[] {
  if (clips.length <= most) return [...clips];
  const order = new Prng(seed).permutation(clips.length).subarray(0, most).sort();
  return Array.from(order, (i) => clips[i]);
}

/** What {@link featuresOf} works with. */
export interface FeaturesOptions
  extends Pick<ClipFeaturesOptions, "pool" | "onProgress" | "onSkip" | "signal"> {
  /** Shows no progress of its own. */
  readonly quiet?: boolean;
  /** Computes. */
  readonly encoder: ClipEncoder;
}

/** What {@link mapOf} works with. */
export interface MapOptions extends FeaturesOptions {
  /** Hears how far UMAP is. */
  readonly onEpoch?: (done: number, total: number) => void;
  /** Of UMAP. */
  readonly seed: number;
}

/**
 * Embeds clips as the encoder does by default: mean over time, bands of MATPAC side by side.
 *
 * @throws {NoDataError} if fewer than two can be used
 */
export async function featuresOf<Clip extends FolderClip>(
  clips: readonly Clip[],
  { encoder, onSkip, ...rest }: FeaturesOptions,
): Promise<Map<Clip, Float32Array>> {
  const paths = clips.map(({ path }) => path);
  const digests = await audioDigests(paths, onSkip, rest);
  const source = encoderSource(encoder, "", {});
  const { features } = await clipFeatures({ source, paths, digests, onSkip, ...rest });
  const rows = new Map(
    clips.flatMap((clip) => {
      const values = features.get(digests.get(clip.path) ?? "");
      return values ? [[clip, values] as const] : [];
    }),
  );
  if (rows.size >= 2) return rows;
  throw new NoDataError(`${rows.size} of ${clips.length} clips can be used; a map needs two`);
}

/**
 * Embeds clips and lays them out.
 *
 * @throws {NoDataError} as {@link featuresOf}
 */
export async function mapOf(
  clips: readonly FolderClip[],
  { seed, onEpoch, ...options }: MapOptions,
): Promise<EmbeddingMap> {
  const rows = await featuresOf(clips, options);
  const values = [...rows.values()];
  return {
    clips: [...rows.keys()],
    components: principalComponents(values, 2),
    neighbours: values.length < FEWEST_FOR_UMAP ? undefined : umap(values, seed, onEpoch),
  };
}
