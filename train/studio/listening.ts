/**
 * A sound that was dropped or recorded: what a model sees in it.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import type { Encoder } from "../../model/encoder/encoder.ts";
import { pooledSteps } from "../../model/encoder/pooling.ts";
import type { AttentionMaps, AttentionQuery } from "../../model/encoder/attention_maps.ts";
import { MsmMae } from "../../model/objectives/msm_mae.ts";
import { HOP_SAMPLES } from "../../model/frontend/tables.ts";
import { resample } from "../../model/frontend/resample.ts";
import { classTokens } from "../../model/vit/tokens.ts";
import { decodeAudio, SAMPLE_RATE, toMono } from "../audio/decode.ts";
import { fileDigest } from "../downstream/probe/feature_cache.ts";
import type { Probe } from "../downstream/probe/probe_file.ts";
import {
  chunkAttention,
  chunkReconstruction,
  chunkSpectrogram,
  type ClipInput,
  clipInput,
  statisticsOf,
  tokenOf,
  trajectoryOf,
} from "../visualize/clip.ts";
import { errorOf } from "../visualize/reconstruction.ts";
import { chunkSounds, type Sound } from "../visualize/sounds.ts";
import { decibels, FRAME_SECONDS, rangeOf } from "../visualize/spectrogram.ts";
import type { AttentionAnswer, PaintedAnswer, SoundAnswer } from "./api.ts";
import { RequestError } from "./guard.ts";
import { pictureOf, spectrogramPicture } from "./pictures.ts";
import type { Opened } from "./workbench.ts";

/** Seconds of a sound that are looked at. */
const MOST_SECONDS = 60;
/** Classes that are shown over time. */
const MOST_CLASSES = 8;
/** Seconds over which a probe's embedding is taken. */
const WINDOW = 1;
/** What MSM-MAE masks in training. */
const USUAL_RATIO = 0.75;

/** A sound that was looked at. */
export interface Heard {
  readonly id: string;
  /** By which its model was asked for. */
  readonly model: string;
  /** Of the model as it was then. */
  readonly key: string;
  readonly waveform: Float32Array;
  readonly input: ClipInput;
  /** Mean over time of the embeddings. */
  readonly embedding: Float32Array;
  attention?: AttentionMaps;
  sounds?: Sound[];
}

/** Bytes of a file as mono 16 kHz. @throws {RequestError} if it is no audio */
export async function decoded(bytes: Uint8Array): Promise<Float32Array> {
  try {
    const { channels, sampleRate } = await decodeAudio(bytes);
    const kept = channels.map((it) => it.subarray(0, MOST_SECONDS * sampleRate));
    return resample(toMono(kept), sampleRate, SAMPLE_RATE);
  } catch (error) {
    throw new RequestError(415, (error as Error).message);
  }
}

/** What a model sees in a sound. */
export async function listenTo(
  { encoder, model, path }: Opened,
  device: Device,
  waveform: Float32Array,
  probe: Probe | undefined,
  about: Pick<Heard, "id" | "model" | "key">,
): Promise<{ readonly heard: Heard; readonly answer: Omit<SoundAnswer, "model" | "seconds"> }> {
  if (waveform.length === 0) throw new RequestError(415, "the sound has no samples");
  const input = await clipInput(encoder, waveform, 0);
  const audio = { logMel: input.logmel, standardised: true } as const;
  // As the page does it, and the collection's clips have it.
  const { values: embedding } = await encoder.embed(audio, { pool: "mean" });
  const trajectory = await trajectoryOf(encoder, input);
  const { autoencoder } = model;
  const { grid, chunkStart, chunkFrames } = input;
  const lacking = autoencoder instanceof MsmMae ? [] : [`Reconstruction: ${autoencoder.missing}.`];
  const { depth, heads } = encoder.geometry;
  const isOurs = probe && probe.file.checkpoint === await fileDigest(path);
  if (probe && !isOurs) lacking.push("Labels: the probe was trained on another encoder.");
  const labels = probe && isOurs ? await labelsOf(encoder, audio, probe, lacking) : null;
  return {
    heard: { ...about, waveform, input, embedding },
    answer: {
      id: about.id,
      by: `this server (${device.info.description})`,
      length: waveform.length / SAMPLE_RATE,
      spectrogram: spectrogramPicture(input.spectrogram),
      chunk: {
        start: chunkStart * FRAME_SECONDS,
        length: chunkFrames * FRAME_SECONDS,
        ...grid,
        loudest: tokenOf({ kind: "loudest" }, encoder, input) as number,
        classToken: classTokens(encoder.geometry) === 1,
        layers: depth,
        heads,
      },
      path: trajectory
        ? {
          points: trajectory.points.map((it) => [...it]),
          shares: trajectory.shares,
          times: trajectory.times,
          step: trajectory.step,
        }
        : null,
      labels,
      lacking,
      paints: autoencoder instanceof MsmMae,
    },
  };
}

async function labelsOf(
  encoder: Encoder,
  audio: { readonly logMel: Float32Array; readonly standardised: true },
  probe: Probe,
  lacking: string[],
): Promise<SoundAnswer["labels"]> {
  const { mode, pool, bands, blocks } = probe.file.features;
  const given = encoder.embeddingSize({ pool, bands, blocks });
  if (given !== probe.dim) {
    lacking.push(`Labels: the probe takes ${probe.dim} values, the encoder gives ${given}.`);
    return null;
  }
  const { values, steps, times } = await encoder.embed(audio, {
    ...{ mode, bands, blocks },
    pool: "none",
  });
  const part = { steps: { values, size: values.length / steps }, pool, blocks: blocks?.length };
  const half = Math.max(0, Math.round((WINDOW * 1000 / encoder.stepMs - 1) / 2));
  const windows = Array.from({ length: steps }, (_, step) => {
    const [first, end] = [Math.max(0, step - half), Math.min(steps, step + half + 1)];
    return pooledSteps(part, first, end);
  });
  const predictions = windows.map((it) =>
    new Map(probe.predict(it, Infinity).map(({ label, probability }) => [label, probability]))
  );
  const largest = (label: string) => Math.max(...predictions.map((it) => it.get(label) ?? 0));
  const classes = [...probe.file.classes].sort((a, b) => largest(b) - largest(a))
    .slice(0, MOST_CLASSES);
  return {
    classes,
    values: classes.map((label) => predictions.map((it) => it.get(label) ?? 0)),
    times: Array.from(times!, (ms) => ms / 1000),
    window: WINDOW,
  };
}

/** Whom a token attends to, in all layers and heads. */
export async function attentionOf(
  { encoder }: Opened,
  heard: Heard,
  token: AttentionQuery,
): Promise<AttentionAnswer> {
  const { rows, columns } = heard.input.grid;
  const own = classTokens(encoder.geometry);
  const patches = rows * columns;
  if (token === "class" ? own === 0 : !(Number.isInteger(token) && token >= 0 && token < patches)) {
    throw new RequestError(400, `patch: must be 0 to ${patches - 1}${own ? " or class" : ""}`);
  }
  const queries: AttentionQuery[] = [
    ...own ? ["class" as const] : [],
    ...Array.from({ length: patches }, (_, i) => i),
  ];
  const maps = heard.attention ??= await chunkAttention(encoder, heard.input, queries);
  const query = queries.indexOf(token);
  const tokens = own + patches;
  const weights = new Float32Array(maps.layers.length * maps.heads * tokens);
  maps.layers.forEach((layer, l) => {
    for (let head = 0; head < maps.heads; head++) {
      const first = (head * queries.length + query) * tokens;
      weights.set(layer.subarray(first, first + tokens), (l * maps.heads + head) * tokens);
    }
  });
  return {
    layers: maps.layers.length,
    heads: maps.heads,
    tokens,
    classTokens: own,
    weights: new Uint8Array(weights.buffer).toBase64(),
  };
}

/** Hides patches of a sound and paints them; keeps how that sounds. */
export async function paintedOf(
  { encoder, model }: Opened,
  heard: Heard,
  choice: { readonly ratio?: number; readonly seed: number },
): Promise<PaintedAnswer> {
  const { autoencoder, trained } = model;
  if (!(autoencoder instanceof MsmMae)) throw new RequestError(409, autoencoder.missing);
  const { seed, ratio = trained.ratio ?? USUAL_RATIO } = choice;
  const masking = trained.masking ?? { kind: "random" as const };
  const made = await chunkReconstruction(autoencoder, heard.input, { masking, ratio, seed })
    .catch((error: Error) => {
      throw error.name === "UsageError" ? new RequestError(400, error.message) : error;
    });
  const statistics = statisticsOf(encoder);
  const { input, chunkFrames } = {
    input: chunkSpectrogram(heard.input),
    chunkFrames: heard.input.chunkFrames,
  };
  const range = rangeOf(input);
  const { loss, guess, decibels: error, masked } = errorOf(made, statistics);
  heard.sounds = await chunkSounds(
    encoder,
    heard.waveform,
    heard.input,
    made.reconstruction,
    seed,
  );
  return {
    input: spectrogramPicture(input, range),
    painted: pictureOf(decibels(made.reconstruction, statistics), input.bands, chunkFrames, range),
    mask: [...made.mask],
    grid: made.grid,
    words: `${(100 * masked).toFixed(0)} % of the patches are hidden and painted: mean squared ` +
      `error ${loss.toFixed(3)} (${guess.toFixed(3)} for the mean of each band), ` +
      `${error.toFixed(1)} dB.`,
  };
}

/** The samples of the chunk and their place, in seconds. */
export function chunkSeconds({ input: { chunkStart } }: Heard): number {
  return chunkStart * HOP_SAMPLES / SAMPLE_RATE;
}
