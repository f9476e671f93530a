/**
 * Features of all clips of a labelled folder, from whatever computes them.
 *
 * @module
 */
import { join } from "../../deps/path.ts";
import { cacheFolder } from "../../io/user_cache.ts";
import type { LabelledClip, LabelledFolder } from "../../data/labelled_folder.ts";
import type { WorkerPool } from "../../data/worker_pool.ts";
import { LiveLine, standardOutput } from "../../cli/live_line.ts";
import { RateLine } from "../../cli/rate_line.ts";
import { type ClipChoices, ClipEncoder } from "../clip_encoder.ts";
import { listSkipped } from "../../cli/listing.ts";
import { UsageError } from "../../errors.ts";
import { digestOf } from "../../io/digest.ts";
import { isInShard, type Shard } from "../../io/shards.ts";
import { fileDigest } from "./feature_cache.ts";
import {
  audioDigests,
  clipFeatures,
  type ClipFeaturesOptions,
  encoderSource,
  type FeatureSource,
} from "./features.ts";
import { usableClips } from "./report.ts";
import { trainingSeed, untrainedEncoder } from "./untrained_encoder.ts";

/** Features by SHA-256 of the file. */
export type FeatureTable = ReadonlyMap<string, Float32Array>;

/** What {@link FolderFeatures} works with. */
export interface FolderFeaturesOptions extends Pick<ClipFeaturesOptions, "signal" | "seconds"> {
  /** Clips. */
  readonly folder: LabelledFolder;
  /** Decodes. */
  readonly pool: WorkerPool;
  /** Where features are kept: a folder, `none`, or by default the user's. */
  readonly cache: string | undefined;
  /** Shows no progress. */
  readonly quiet: boolean;
  /** The part of the clips to compute; those of others are there where they are kept. */
  readonly shard?: Shard;
}

/** The clips of a folder, and those of them that cannot be used. */
export class FolderFeatures {
  /** Files that cannot be used, and why. */
  readonly skipped = new Map<string, string>();
  readonly #options: FolderFeaturesOptions;
  readonly #onSkip: ClipFeaturesOptions["onSkip"] = ({ path, reason }) =>
    this.skipped.set(path, reason);
  #digests: ReadonlyMap<string, string> | undefined;

  /** Reads nothing yet. */
  constructor(options: FolderFeaturesOptions) {
    this.#options = options;
  }

  get #paths(): string[] {
    return this.#options.folder.clips.map(({ path }) => path);
  }

  get #own(): string[] {
    return this.#paths.filter((_, i) => isInShard(i, this.#options.shard));
  }

  /**
   * Computes features, or finds them where they are kept.
   *
   * @param name for people
   * @throws {InterruptedError} when the signal aborted.
   */
  async of(name: string, source: FeatureSource): Promise<FeatureTable> {
    const { pool, cache, quiet, signal, seconds, shard } = this.#options;
    const kept = cache ?? cacheFolder();
    if (shard && (kept === undefined || cache === "none")) {
      throw new UsageError("--shard: needs --cache, a folder that all shards share");
    }
    this.#digests ??= await audioDigests(this.#own, this.#onSkip, { signal, quiet });
    using line = new RateLine({ quiet });
    const { features, computed, late } = await clipFeatures({
      source,
      shard,
      paths: this.#paths,
      digests: this.#digests,
      pool,
      onSkip: this.#onSkip,
      signal,
      seconds,
      ...(kept !== undefined && cache !== "none" &&
        { folder: cache === undefined ? join(kept, "probe") : kept }),
      onProgress: (done, total, audio) => line.update(done, total, audio),
    });
    line.finish();
    if (!quiet) console.log(`${name}: ${features.size} clips, ${computed} of them embedded now`);
    if (late.length > 0) {
      console.error(`${name}: shard ${late.join(", ")} had not come to its end; done here`);
    }
    return features;
  }

  /**
   * Computes what a probe sees, this shard's part.
   *
   * @param untrained whether it sees the untrained network, too
   * @param mel log-mel, unless the probe has no baselines
   */
  async share(
    encoder: ClipEncoder,
    path: string,
    choices: ClipChoices,
    { untrained, mel }: { readonly untrained: boolean; readonly mel: FeatureSource | undefined },
  ): Promise<void> {
    await this.of("encoder", encoderSource(encoder, await fileDigest(path), choices));
    if (untrained) await this.ofUntrained(encoder, path, choices);
    if (mel) await this.of("log-mel", mel);
    const skipped = [...this.skipped].map(([path, reason]) => ({ path, reason }));
    listSkipped(`${skipped.length} of ${this.#own.length} clips skipped:`, skipped);
  }

  /** Features of the network of an encoder's file as it was before training. */
  async ofUntrained(
    encoder: ClipEncoder,
    path: string,
    choices: ClipChoices,
  ): Promise<FeatureTable> {
    const seed = trainingSeed(path);
    const own = encoder.own("--untrained");
    using fresh = new ClipEncoder(await untrainedEncoder(own, seed));
    const weights = digestOf({ untrained: own.geometry, frontend: own.frontend, seed });
    return await this.of("untrained encoder", encoderSource(fresh, weights, choices));
  }

  /**
   * The clips that have features; names the others on standard error.
   *
   * @throws {NoDataError} if there are none.
   */
  usable(features: FeatureTable): LabelledClip[] {
    const { folder } = this.#options;
    return usableClips(
      folder,
      ({ path }) => features.has(this.#digests?.get(path) ?? ""),
      this.skipped,
    );
  }

  /** Features of usable clips, one after the other. */
  rows(clips: readonly LabelledClip[], features: FeatureTable): Float32Array {
    const rows = clips.map(({ path }) => features.get(this.#digests!.get(path)!)!);
    const all = new Float32Array(rows.length * rows[0].length);
    rows.forEach((row, i) => all.set(row, i * row.length));
    return all;
  }
}

/** Shows how far a probe is while `run` works. */
export async function withProgress<Result>(
  name: string,
  quiet: boolean,
  run: (onProgress: (share: number) => void) => Promise<Result>,
): Promise<Result> {
  const output = standardOutput();
  const line = quiet ? undefined : new LiveLine(output, output.now());
  const result = await run((share) =>
    line?.update(`probing ${name}: ${(100 * share).toFixed(0)} %`)
  );
  line?.finish();
  return result;
}
