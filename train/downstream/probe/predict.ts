/**
 * What saved probes say of audio files.
 *
 * @module
 */
import type { ClipEncoder } from "../clip_encoder.ts";
import { encoderPath } from "../encoder_file.ts";
import { UsageError } from "../../errors.ts";
import { fileDigest } from "./feature_cache.ts";
import { clipFeatures, type ClipFeaturesOptions, encoderSource } from "./features.ts";
import { loadProbe } from "./probe_file.ts";
import type { Prediction, Probe } from "./probe_layer.ts";

/** The likeliest classes of a file. */
export interface FilePrediction {
  /** The file. */
  readonly path: string;
  /** The likeliest first. */
  readonly predictions: readonly Prediction[];
}

/**
 * Reads a probe that belongs to an encoder.
 *
 * @param checkpoint the encoder, as the user names it
 * @throws {UsageError} if it was trained on another one
 * @throws as `loadProbe`.
 */
export async function probeFor(path: string, checkpoint: string): Promise<Probe> {
  const probe = loadProbe(path);
  if (probe.file.checkpoint !== await fileDigest(encoderPath(checkpoint))) {
    throw new UsageError(
      `--probe ${path}: was trained on another encoder than ${checkpoint}`,
      "give --checkpoint the same file as when the probe was saved",
    );
  }
  return probe;
}

/**
 * Names the classes of audio files; those that cannot be used are left out.
 *
 * @param top how many classes of each
 * @throws {UsageError} if the probe takes embeddings of another size than the encoder gives
 * @throws {InterruptedError} when the signal aborted.
 */
export async function predictFiles(
  encoder: ClipEncoder,
  probe: Probe,
  top: number,
  options: Pick<ClipFeaturesOptions, "paths" | "pool" | "onProgress" | "onSkip" | "signal">,
): Promise<FilePrediction[]> {
  const { checkpoint, features: { seconds, leastSeconds, ...how } } = probe.file;
  const { paths } = options;
  const source = encoderSource(encoder, checkpoint, how);
  if (source.size !== probe.dim) {
    throw new UsageError(
      `--probe takes ${probe.dim} values of a clip, but the encoder gives ${source.size}`,
    );
  }
  const { features } = await clipFeatures({
    ...options,
    source,
    // Nothing is kept, so that names are keys enough.
    digests: new Map(paths.map((path) => [path, path])),
    seconds,
    leastSeconds,
  });
  return paths.flatMap((path) => {
    const embedding = features.get(path);
    return embedding ? [{ path, predictions: probe.predict(embedding, top) }] : [];
  });
}
