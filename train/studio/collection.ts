/**
 * A folder of sounds: its clips, their embeddings, the map of them, and which are near to a sound.
 *
 * @module
 */
import type { SkippedClip } from "../data/clip_source.ts";
import { clipsOf, featuresOf, type FolderClip, sampled } from "../visualize/folder.ts";
import { principalComponents } from "../visualize/components.ts";
import { FEWEST_FOR_UMAP, umapSteps } from "../visualize/projection.ts";
import type { CollectionClip, MapAnswer, NearestAnswer } from "./api.ts";
import { isInside } from "./confined.ts";
import { RequestError } from "./guard.ts";
import type { Library } from "./library.ts";
import type { Workbench } from "./workbench.ts";

interface Placed {
  readonly clip: FolderClip;
  readonly n: number;
  readonly values: Float32Array;
}

interface Known {
  readonly placed: Promise<readonly Placed[]>;
  /** Of the model that embedded them, once it is open. */
  key?: string;
  map: MapAnswer;
}

const SEED = 0;
/** Clips that are near. */
const NEAREST = 8;

/** A folder of sounds. */
export class Collection {
  readonly #folder: string;
  readonly #most: number;
  #clips: Promise<readonly FolderClip[]> | undefined;
  /** By model. */
  readonly #known = new Map<string, Known>();

  /** @param most clips that are used; of more as many are drawn at random */
  constructor(folder: string, most: number) {
    this.#folder = folder;
    this.#most = most;
  }

  /** The file of a clip. @throws {RequestError} if there is none inside the folder */
  async file(n: number): Promise<string> {
    const clip = (await this.#list())[n];
    if (!clip) throw new RequestError(404, "there is no such clip");
    if (isInside(this.#folder, clip.path)) return clip.path;
    throw new RequestError(403, `${clip.name}: is outside the folder, or not there any more`);
  }

  /** The map that a model makes, or how far it is; asking begins it. */
  map(workbench: Workbench, library: Library, model: string): MapAnswer {
    const before = this.#known.get(model)?.map;
    if (before?.state !== "failed") return this.#of(workbench, library, model).map;
    // What failed is told once; who asks again has it tried again.
    this.#known.delete(model);
    return before;
  }

  /**
   * Clips near to an embedding by the cosine, the nearest first.
   *
   * @param key of the model that made the embedding, where it is known
   * @throws {RequestError} if that model is another by now
   */
  async nearest(
    workbench: Workbench,
    library: Library,
    model: string,
    values: Float32Array,
    key?: string,
  ): Promise<NearestAnswer> {
    const now = await workbench.use(library, model, (opened) => Promise.resolve(opened.key));
    if (key !== undefined && key !== now) {
      throw new RequestError(409, "the model has changed since; choose the sound again");
    }
    const before = this.#known.get(model);
    if (before?.key !== undefined && before.key !== now) this.#known.delete(model);
    const placed = await this.#of(workbench, library, model).placed;
    const size = placed[0].values.length;
    if (values.length !== size) {
      throw new RequestError(400, `the embedding has ${values.length} values, the clips' ${size}`);
    }
    const clips = placed.map(({ clip, n, values: other }) => ({
      ...clipOf(clip, n),
      similarity: cosine(values, other),
    })).sort((a, b) => b.similarity - a.similarity);
    return { clips: clips.slice(0, NEAREST) };
  }

  #list(): Promise<readonly FolderClip[]> {
    if (this.#clips) return this.#clips;
    const clips = clipsOf(this.#folder, () => {}).then((clips) =>
      sampled(clips.filter(({ path }) => isInside(this.#folder, path)), this.#most, SEED)
    );
    // What failed is tried again.
    clips.catch(() => this.#clips = undefined);
    return this.#clips = clips;
  }

  #of(workbench: Workbench, library: Library, model: string): Known {
    const before = this.#known.get(model);
    // What failed is tried again.
    if (before && before.map.state !== "failed") return before;
    const start = performance.now();
    const skipped: SkippedClip[] = [];
    const busy = (words: string, share: number): void => {
      known.map = { state: "busy", words, share };
    };
    const placed = workbench.use(library, model, async ({ encoder, title, key }, device) => {
      known.key = key;
      busy("looking through the folder", 0);
      const clips = await this.#list();
      const numbers = new Map(clips.map((it, n) => [it, n]));
      const rows = await featuresOf(clips, {
        ...{ encoder, pool: workbench.pool, quiet: true },
        onProgress: (done, total) => busy(`embedding: ${done} of ${total} clips`, done / total),
        onSkip: (row) => skipped.push(row),
      });
      const found = [...rows].map(([clip, values]) => ({ clip, n: numbers.get(clip)!, values }));
      void this.#layOut(known, found, {
        ...{ skipped, model: title, by: `this server (${device.info.description})`, start },
      });
      return found;
    });
    const known: Known = {
      placed,
      map: { state: "busy", words: "waiting for the model", share: 0 },
    };
    placed.catch((error: Error) => {
      known.map = { state: "failed", error: error.message };
    });
    this.#known.set(model, known);
    return known;
  }

  async #layOut(
    known: Known,
    placed: readonly Placed[],
    { start, ...about }: {
      readonly skipped: readonly SkippedClip[];
      readonly model: string;
      readonly by: string;
      readonly start: number;
    },
  ): Promise<void> {
    try {
      const rows = placed.map(({ values }) => values);
      known.map = { state: "busy", words: "principal components", share: 0 };
      await pause();
      const { points, shares } = principalComponents(rows, 2);
      let neighbours: readonly (readonly number[])[] | null = null;
      if (rows.length >= FEWEST_FOR_UMAP) {
        known.map = { state: "busy", words: "UMAP", share: 0 };
        await pause();
        const steps = umapSteps(rows, SEED);
        for (let it = steps.next();; it = steps.next()) {
          if (it.done) {
            neighbours = it.value;
            break;
          }
          const [done, total] = it.value;
          known.map = { state: "busy", words: `UMAP: ${done} of ${total}`, share: done / total };
          // So that others are answered in between.
          await pause();
        }
      }
      known.map = {
        ...about,
        state: "ready",
        clips: placed.map(({ clip, n }) => clipOf(clip, n)),
        components: points.map((it) => [it[0] ?? 0, it[1] ?? 0]),
        shares,
        neighbours,
        seconds: (performance.now() - start) / 1000,
      };
    } catch (error) {
      known.map = { state: "failed", error: (error as Error).message };
    }
  }
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

const clipOf = ({ name, labels }: FolderClip, n: number): CollectionClip => ({ n, name, labels });

/** The cosine of the angle between two lists of values; 0 where one has no length. */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [product, first, second] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    product += a[i] * b[i];
    first += a[i] ** 2;
    second += b[i] ** 2;
  }
  return first > 0 && second > 0 ? product / Math.sqrt(first * second) : 0;
}
