/**
 * A batch as a run sees it: crops of its data, what is masked of them, and what was painted there.
 *
 * @module
 */
import { binaryMask, drawMask, type Mask, type Masking } from "../../model/objectives/masking.ts";
import type { PatchGrid } from "../../model/vit/geometry.ts";
import { MsmMae } from "../../model/objectives/msm_mae.ts";
import { reconstruct } from "../../model/objectives/reconstruct.ts";
import { Prng } from "../../engine/prng.ts";
import { isAbsolute, join } from "../deps/path.ts";
import { type ClipSource, type SkippedClip, syntheticSource } from "../data/clip_source.ts";
import { samplesOf } from "../data/crop.ts";
import { dataSource } from "../data/data_source.ts";
import { type CropChoice, Loader } from "../data/loader.ts";
import type { WorkerPool } from "../data/worker_pool.ts";
import { STREAMS } from "../run/loop.ts";
import { runPaths } from "../run/run_directory.ts";
import { clipInput, statisticsOf } from "../visualize/clip.ts";
import { decibels, FRAME_SECONDS, rangeOf } from "../visualize/spectrogram.ts";
import type { BatchAnswer, BatchClip, Computed } from "./api.ts";
import { isInside } from "./confined.ts";
import { RequestError } from "./guard.ts";
import { configOf } from "./library.ts";
import { pictureOf } from "./pictures.ts";
import type { Opened } from "./workbench.ts";

/** Clips of the built-in corpus. */
const SYNTHETIC_CLIPS = 1024;

/** What a batch is made of. */
export interface BatchRequest {
  /** Directory of the run. */
  readonly dir: string;
  /** Folders that may be read. */
  readonly folders: readonly string[];
  /** The folder of sounds that takes the place of data that may not be read. */
  readonly collection: string | undefined;
  readonly pool: WorkerPool;
  /** Which one. */
  readonly number: number;
  /** Clips. */
  readonly count: number;
}

type Loose = Readonly<Record<string, unknown>>;

/** A source without the files that links and manifests name outside of folders. */
export function confined(source: ClipSource, folders: readonly string[]): ClipSource {
  const skipped: SkippedClip[] = [];
  const crop: ClipSource["crop"] = async (index, place) => {
    const path = source.describe(index);
    if (folders.some((it) => isInside(it, path))) return await source.crop(index, place);
    skipped.push({ path, reason: "is outside the folders that were named" });
    return undefined;
  };
  const { size, name, parts, statistics } = source;
  return {
    ...{ size, name, crop, describe: (index) => source.describe(index) },
    ...(parts && { parts }),
    ...(statistics && { statistics }),
    get skipped() {
      return [...skipped, ...source.skipped];
    },
  };
}

/** Data of a run, as far as they are in folders that may be read. */
async function sourceOf(
  config: Loose,
  { folders, collection, pool }: BatchRequest,
  frames: number,
): Promise<{ readonly source: ClipSource; readonly words: string }> {
  const data = Array.isArray(config.data) ? config.data.map(String) : [];
  const seed = typeof config.seed === "number" ? config.seed : 0;
  if (data.length === 0) {
    const samples = samplesOf(frames);
    return {
      source: syntheticSource({ size: SYNTHETIC_CLIPS, seed, samples }),
      words: "built-in sounds",
    };
  }
  const inside = data.every((path) => folders.some((folder) => isInside(folder, path)));
  const paths = inside ? data : collection === undefined ? undefined : [collection];
  if (!paths) {
    throw new RequestError(
      409,
      `the run's data (${data.join(", ")}) are not in a folder that was named: start the studio ` +
        "with --collection and that folder, or any folder of sounds",
    );
  }
  // Of a labelled folder the sounds alone.
  const found = await dataSource(paths.map((it) => isAbsolute(it) ? it : join(it)), {
    pool,
    ...inside && weightsOf(config.dataWeights, data.length),
  });
  return {
    source: confined(found, folders),
    words: inside ? "the run's data" : `sounds of ${paths.join(", ")}`,
  };
}

function weightsOf(value: unknown, count: number): { readonly weights?: readonly number[] } {
  const fits = Array.isArray(value) && value.length === count && value.every((it) => it > 0);
  return fits ? { weights: value } : {};
}

/** Draws a batch. */
export async function batchOf(
  { encoder: any, model }: Opened,
  request: BatchRequest,
): Promise<Omit<BatchAnswer, keyof Computed>> {
  const config = configOf(runPaths(request.dir).config);
  const encoder = any.own("a batch of training");
  const { cropFrames, patch, melBands } = encoder.geometry;
  const { source, words } = await sourceOf(config, request, cropFrames);
  const { number, count } = request;
  const seed = typeof config.seed === "number" ? config.seed : 0;
  const choice = cropsOf(config.crops);
  const { cropsPerClip: crops = 1 } = choice;
  const clipsOf = Math.ceil(count / crops);
  const batch = clipsOf * crops;
  const loader = new Loader({
    ...{ source, batch, cropSamples: samplesOf(cropFrames), seed, ahead: 1, ...choice },
  });
  loader.restore(loader.stateAfter(number * clipsOf));
  const { samples, logmels, kinds, clips } = await loader.next();
  const grid = { rows: melBands / patch[0], columns: Math.floor(cropFrames / patch[1]) };
  const frames = grid.columns * patch[1];
  const masks = masksOf(config, seed, grid);
  for (let row = 0; row < number * batch; row++) masks.next();
  const statistics = statisticsOf(encoder);
  const { autoencoder } = model;
  const answers: BatchClip[] = [];
  for (let row = 0; row < count; row++) {
    const values = kinds[row] === "waveform"
      ? (await clipInput(encoder, rowOf(samples!, row, batch), 0, 0)).chunk
      : cut(rowOf(logmels!, row, batch), melBands, frames);
    const mask = masks.next().value;
    const input = decibels(values, statistics);
    const range = rangeOf({ values: input, frames, bands: melBands, start: 0 });
    const painted = autoencoder instanceof MsmMae
      ? decibels((await reconstruct(autoencoder, values, mask)).reconstruction, statistics)
      : undefined;
    answers.push({
      name: source.describe(clips[row]),
      input: pictureOf(input, melBands, frames, range),
      painted: painted ? pictureOf(painted, melBands, frames, range) : null,
      mask: [...binaryMask(mask)],
    });
  }
  const missing = autoencoder instanceof MsmMae
    ? ""
    : ` Nothing is painted: ${autoencoder.missing}.`;
  return {
    clips: answers,
    grid,
    length: frames * FRAME_SECONDS,
    words: `Crops of ${words} in the run's order, clips ${number * clipsOf + 1} to ` +
      `${(number + 1) * clipsOf}${crops > 1 ? ` with ${crops} crops each` : ""}; ` +
      (config.seed === seed ? "the masks are the run's" : "masks drawn as in training") +
      ` (${maskingOf(config.masking).kind}, ${(100 * ratioOf(config.geometry)).toFixed(0)} % ` +
      `hidden).${missing}`,
  };
}

/**
 * The masks of a run's clips, the first of those that a clip has, in the order in which the run
 * meets them.
 */
export function* masksOf(config: Loose, seed: number, grid: PatchGrid): Generator<Mask, never> {
  const [masking, ratio] = [maskingOf(config.masking), ratioOf(config.geometry)];
  const each = Number.isInteger(config.masksPerClip) ? Number(config.masksPerClip) : 1;
  const random = new Prng(seed, STREAMS.masks);
  for (;;) {
    yield drawMask(masking, () => random.uniform(), 1, grid, ratio);
    for (let more = 1; more < each; more++) {
      drawMask(masking, () => random.uniform(), 1, grid, ratio);
    }
  }
}

function rowOf(values: Float32Array, row: number, rows: number): Float32Array {
  const size = values.length / rows;
  return values.slice(row * size, (row + 1) * size);
}

/** The first frames of each band. */
function cut(values: Float32Array, bands: number, frames: number): Float32Array {
  const all = values.length / bands;
  const kept = new Float32Array(bands * frames);
  for (let band = 0; band < bands; band++) {
    kept.set(values.subarray(band * all, band * all + frames), band * frames);
  }
  return kept;
}

function cropsOf(value: unknown): Partial<CropChoice> {
  const { cropsPerClip, speeds } = (value ?? {}) as Partial<CropChoice>;
  const isPair = Array.isArray(speeds) && speeds.length === 2 && speeds.every(Number.isFinite);
  return { cropsPerClip: cropsPerClip === 2 ? 2 : 1, ...isPair && speeds[0] > 0 && { speeds } };
}

function maskingOf(value: unknown): Masking {
  const { kind, run } = (value ?? {}) as { kind?: unknown; run?: unknown };
  if (kind === "structured") return { kind };
  if (kind === "time") return { kind, run: typeof run === "number" ? run : 1 };
  return { kind: "random" };
}

function ratioOf(value: unknown): number {
  const { maskRatio } = (value ?? {}) as { maskRatio?: unknown };
  return typeof maskRatio === "number" && maskRatio > 0 && maskRatio < 1 ? maskRatio : 0.7;
}
