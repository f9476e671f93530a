/**
 * A sound that was dropped or recorded: what a model sees in it. The server computes so, and the
 * page itself where it has WebGPU.
 *
 * @module
 */
import { bytesOf } from "../../engine/formats/safetensors.ts";
import { joined } from "../../model/encoder/chunks.ts";
import { Encoder } from "../../model/encoder/encoder.ts";
import type { AttentionMaps, AttentionQuery } from "../../model/encoder/attention_maps.ts";
import type { PretrainedEncoder } from "../../model/pretrained/encoder.ts";
import { MEL_80 } from "../../model/frontend/tables.ts";
import { MsmMae } from "../../model/objectives/msm_mae.ts";
import { classTokens } from "../../model/vit/tokens.ts";
import type { ClipEncoder } from "../downstream/clip_encoder.ts";
import type { Probe } from "../downstream/probe/probe_layer.ts";
import { UsageError } from "../errors.ts";
import type { OpenModel } from "../visualize/autoencoder.ts";
import {
  chunkAttention,
  chunkReconstruction,
  chunkSpectrogram,
  type ClipInput,
  clipInput,
  logMelOf,
  statisticsOf,
  tokenOf,
  trajectoryOf,
} from "../visualize/clip.ts";
import { attendedPart, frontendOutput, MARKED_HZ } from "../visualize/other_encoder.ts";
import { errorOf } from "../visualize/reconstruction.ts";
import { chunkSounds, type Sound } from "../visualize/sounds.ts";
import { decibels, FRAME_SECONDS, quantileRange, rangeOf } from "../visualize/spectrogram.ts";
import { bandShare } from "../visualize/svg.ts";
import type { AttentionAnswer, Computed, PaintedAnswer, SoundAnswer } from "./api.ts";
import { RequestError } from "./guard.ts";
import { base64Of, pictureOf, spectrogramPicture } from "./pictures.ts";

/** Seconds of a sound that are looked at. */
export const MOST_SECONDS = 60;
/** Classes that are shown over time. */
const MOST_CLASSES = 8;
/** Windows for which a probe is asked, at most, and seconds from one to the next, at least. */
const [MOST_WINDOWS, LEAST_HOP] = [32, 0.5];
/** What MSM-MAE masks in training. */
const USUAL_RATIO = 0.75;

/** A model that sounds are looked at with. */
export interface SoundModel {
  readonly encoder: ClipEncoder;
  readonly model: OpenModel;
}

/** A sound that was looked at. */
export interface Seen {
  /** At the encoder's rate. */
  readonly waveform: Float32Array;
  /** Of this project's encoders. */
  readonly input?: ClipInput;
  /** Of other systems' encoders: the samples whose attention is shown. */
  readonly part?: Float32Array;
  /** As those of a collection's clips. */
  readonly embedding: Float32Array;
  /** Once it was asked for. */
  attention?: AttentionMaps;
}

/** What is found in a sound, but for who computed it. */
export type Sight = Omit<SoundAnswer, "id" | keyof Computed>;

/**
 * What a model sees in a sound.
 *
 * @param waveform at the encoder's rate
 * @param probe names it; else why there is none, without a full stop, where one was given
 * @throws {RequestError} if there is no sound
 * @throws {ShapeError} if it is longer than the encoder takes
 */
export async function listenTo(
  { encoder: any, model }: SoundModel,
  waveform: Float32Array,
  probe: Probe | { readonly lacking: string } | undefined,
): Promise<{ readonly seen: Seen; readonly sight: Sight }> {
  if (waveform.length === 0) throw new RequestError(415, "the sound has no samples");
  const { encoder } = any;
  const input = encoder instanceof Encoder ? await clipInput(encoder, waveform, 0) : undefined;
  const { values: embedding } = await any.embed(waveform, {});
  const path = await trajectoryOf(any, input ? logMelOf(input) : waveform);
  const { autoencoder } = model;
  const paints = autoencoder instanceof MsmMae;
  const lacking = paints ? [] : [`Reconstruction: ${autoencoder.missing}.`];
  const labels = await labelsOf(any, waveform, probe).catch((error: Error) => {
    if (error.name !== "UsageError") throw error;
    lacking.push(`Labels: ${error.message}.`);
    return null;
  });
  const other = encoder instanceof Encoder ? undefined : await otherPicture(encoder, waveform);
  if (other && !other.part) lacking.push(`Attention: none is shown of ${any.title}.`);
  return {
    seen: { waveform, embedding, ...input && { input }, ...other?.part && { part: other.part } },
    sight: {
      length: waveform.length / any.sampleRate,
      ...other?.picture ?? ownPicture(encoder as Encoder, input!),
      path: path
        ? {
          points: path.points.map((it) => [...it]),
          ...{ shares: path.shares, times: path.times, step: path.step },
        }
        : null,
      ...{ labels, lacking, paints },
    },
  };
}

type Picture = Pick<Sight, "spectrogram" | "frontend" | "hertz" | "chunk">;

function ownPicture(encoder: Encoder, input: ClipInput): Picture {
  const { grid, chunkStart, chunkFrames, spectrogram } = input;
  const { geometry } = encoder;
  return {
    spectrogram: spectrogramPicture(spectrogram),
    frontend: `log-mel in dB, ${geometry.melBands} bands from ${MEL_80.fmin} to ${MEL_80.fmax} ` +
      "Hz, 25 ms every 10 ms",
    hertz: MARKED_HZ.filter((hz) => hz < MEL_80.fmax).map((hz) => [hz, bandShare(hz)] as const),
    chunk: {
      start: chunkStart * FRAME_SECONDS,
      length: chunkFrames * FRAME_SECONDS,
      ...grid,
      loudest: tokenOf({ kind: "loudest" }, encoder, input) as number,
      classToken: classTokens(geometry) === 1,
      ...{ layers: geometry.depth, heads: geometry.heads },
    },
  };
}

async function otherPicture(
  encoder: PretrainedEncoder,
  waveform: Float32Array,
): Promise<{ readonly picture: Picture; readonly part?: Float32Array }> {
  const { frontend, attention, sampleRate, depth, heads } = encoder.info;
  const output = await frontendOutput(encoder, waveform);
  const { values, bands, frames, hertz } = output;
  const picture = {
    spectrogram: pictureOf(values, bands, frames, quantileRange(values)),
    ...{ frontend, hertz, chunk: null },
  };
  const attended = attendedPart(encoder, waveform, output);
  if (!attention || !attended) return { picture };
  const { wave, first, grid, loudest } = attended;
  const length = grid.columns * attention.columnSamples / sampleRate;
  const chunk = {
    ...{ start: first / sampleRate, length, ...grid, loudest },
    ...{ classToken: attention.own > 0, layers: depth, heads },
  };
  return { picture: { ...picture, chunk }, part: wave };
}

/**
 * What a probe says of windows of a sound.
 *
 * @throws {UsageError} if it does not belong to the encoder
 */
async function labelsOf(
  encoder: ClipEncoder,
  waveform: Float32Array,
  probe: Probe | { readonly lacking: string } | undefined,
): Promise<SoundAnswer["labels"]> {
  if (!probe) return null;
  if ("lacking" in probe) throw new UsageError(probe.lacking);
  const { seconds: _whole, leastSeconds: _least, ...choices } = probe.file.features;
  encoder.needChoices(choices);
  const given = encoder.embeddingSize(choices);
  if (given !== probe.dim) {
    throw new UsageError(`the probe takes ${probe.dim} values, the encoder gives ${given}`);
  }
  const { sampleRate } = encoder;
  const length = waveform.length / sampleRate;
  const hop = Math.max(LEAST_HOP, length / MOST_WINDOWS);
  const window = Math.min(2 * hop, length);
  const count = Math.floor((length - window) / hop + 1e-9) + 1;
  const starts = Array.from({ length: count }, (_, i) => Math.round(i * hop * sampleRate));
  const clips = starts.map((first, key) => ({
    key,
    audio: waveform.subarray(first, first + Math.round(window * sampleRate)),
  }));
  const said: ReadonlyMap<string, number>[] = [];
  for await (const [key, { values }] of encoder.embedEach(clips, choices)) {
    const all = probe.predict(values, Infinity);
    said[key] = new Map(all.map(({ label, probability }) => [label, probability]));
  }
  const of = (label: string) => said.map((it) => it.get(label) ?? 0);
  const largest = new Map(probe.file.classes.map((it) => [it, Math.max(...of(it))]));
  const classes = [...probe.file.classes].sort((a, b) => largest.get(b)! - largest.get(a)!)
    .slice(0, MOST_CLASSES);
  return {
    ...{ classes, values: classes.map(of), window },
    times: starts.map((first) => first / sampleRate + window / 2),
  };
}

/**
 * Whom a token attends to, in all layers and heads.
 *
 * @throws {RequestError} if no attention is shown of the model, or there is no such token
 */
export async function attentionOf(
  { encoder: { encoder } }: SoundModel,
  seen: Seen,
  token: AttentionQuery,
): Promise<AttentionAnswer> {
  if (!(encoder instanceof Encoder)) return await otherAttention(encoder, seen, token);
  const { rows, columns } = seen.input!.grid;
  const own = classTokens(encoder.geometry);
  const patches = rows * columns;
  needToken(token, own, patches);
  const queries: AttentionQuery[] = [
    ...own ? ["class" as const] : [],
    ...Array.from({ length: patches }, (_, i) => i),
  ];
  const maps = seen.attention ??= await chunkAttention(encoder, seen.input!, queries);
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
    weights: base64Of(bytesOf(weights)),
  };
}

function needToken(token: AttentionQuery, own: number, patches: number): void {
  const isThere = token === "class"
    ? own > 0
    : Number.isInteger(token) && token >= 0 && token < patches;
  if (isThere) return;
  throw new RequestError(400, `patch: must be 0 to ${patches - 1}${own ? " or class" : ""}`);
}

async function otherAttention(
  encoder: PretrainedEncoder,
  { part }: Seen,
  token: AttentionQuery,
): Promise<AttentionAnswer> {
  const { attention, title, rows, heads } = encoder.info;
  if (!attention || !part) throw new RequestError(409, `no attention is shown of ${title}`);
  const { own } = attention;
  const columns = Math.min(attention.columns, encoder.columnsOf(part.length));
  needToken(token, own, rows * columns);
  const { blocks } = await encoder.attention(
    part,
    // Of two tokens before the patches, the second is that of distillation.
    token === "class" ? 0 : { row: Math.floor(token / columns), column: token % columns },
  );
  return {
    ...{ layers: blocks.length, heads, tokens: own + rows * columns, classTokens: own },
    weights: base64Of(bytesOf(joined(blocks))),
  };
}

/**
 * Hides patches of a sound and paints them.
 *
 * @returns the answer without addresses of its sounds, and these
 * @throws {RequestError} if the model does not paint, or nothing or all would be hidden
 */
export async function paintedOf(
  { encoder: { encoder }, model }: SoundModel,
  { input: whole, waveform }: Seen,
  choice: { readonly ratio?: number; readonly seed: number },
): Promise<{
  readonly answer: Omit<PaintedAnswer, "sounds">;
  readonly sounds: readonly Sound[];
}> {
  const { autoencoder, trained } = model;
  if (!(autoencoder instanceof MsmMae)) throw new RequestError(409, autoencoder.missing);
  if (!(encoder instanceof Encoder) || !whole) throw new RequestError(409, "there is no decoder");
  const { seed, ratio = trained.ratio ?? USUAL_RATIO } = choice;
  const masking = trained.masking ?? { kind: "random" as const };
  const made = await chunkReconstruction(autoencoder, whole, { masking, ratio, seed })
    .catch((error: Error) => {
      throw error.name === "UsageError" ? new RequestError(400, error.message) : error;
    });
  const statistics = statisticsOf(encoder);
  const input = chunkSpectrogram(whole);
  const range = rangeOf(input);
  const { loss, guess, decibels: error, masked } = errorOf(made, statistics);
  const painted = decibels(made.reconstruction, statistics);
  return {
    sounds: await chunkSounds(encoder, waveform, whole, made.reconstruction, seed),
    answer: {
      input: spectrogramPicture(input, range),
      painted: pictureOf(painted, input.bands, whole.chunkFrames, range),
      mask: [...made.mask],
      grid: made.grid,
      words: `${(100 * masked).toFixed(0)} % of the patches are hidden and painted: mean squared ` +
        `error ${loss.toFixed(3)} (${guess.toFixed(3)} for the mean of each band), ` +
        `${error.toFixed(1)} dB.`,
    },
  };
}
