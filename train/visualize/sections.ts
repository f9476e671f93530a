/**
 * The parts of the page that `deno task visualize` writes: drawings with what is seen in them, in
 * plain words.
 *
 * Read on in this order: clip.ts computes what is drawn of a clip, autoencoder.ts loads a model
 * with its decoder, folder.ts lays a folder's embeddings out; spectrogram.ts, reconstruction.ts,
 * attention.ts, trajectory.ts and embedding_map.ts draw, with svg.ts, markup.ts, png.ts and
 * colours.ts; page.ts puts the sections together.
 *
 * @module
 */
import type { AttentionQuery } from "../../model/encoder/attention_maps.ts";
import type { Encoder } from "../../model/encoder/encoder.ts";
import { classTokens } from "../../model/vit/tokens.ts";
import type { MsmMae } from "../../model/objectives/msm_mae.ts";
import type { Reconstruction } from "../../model/objectives/reconstruct.ts";
import { type AttentionChoice, attentionPictures } from "./attention.ts";
import type { OpenModel } from "./autoencoder.ts";
import { chunkAttention, chunkSpectrogram, type ClipInput, statisticsOf, tokenOf } from "./clip.ts";
import { drawMap, type EmbeddingMap } from "./embedding_map.ts";
import type { Section } from "./page.ts";
import { dataUri } from "./png.ts";
import { drawReconstruction, errorOf } from "./reconstruction.ts";
import type { Sound } from "./sounds.ts";
import { drawInput, FRAME_SECONDS } from "./spectrogram.ts";
import { drawTrajectory, type Trajectory } from "./trajectory.ts";

/** What stands under the heading. */
export interface Facts {
  /** The encoder. */
  readonly encoder: Encoder;
  /** What the checkpoint is. */
  readonly model: OpenModel;
  /** The clip. */
  readonly input: ClipInput;
  /** Its file. */
  readonly path: string;
  /** The folder of the map, if there is one. */
  readonly folder: string | undefined;
  /** As it was given. */
  readonly checkpoint: string;
}

/** Names and values of {@link Facts}. */
export function factsOf(facts: Facts): (readonly [name: string, value: string])[] {
  const { encoder, model: { title, autoencoder }, input, path, folder, checkpoint } = facts;
  const { width, depth, heads, patch, cropFrames } = encoder.geometry;
  const { start } = input.spectrogram;
  const end = start + input.frames * FRAME_SECONDS;
  return [
    ["sound", `${path}, ${start.toFixed(2)} to ${end.toFixed(2)} s`],
    ...(folder === undefined ? [] : [["folder", folder] as const]),
    ["checkpoint", checkpoint],
    [
      "model",
      `${title}: width ${width}, ${depth} layers, ${heads} heads, patches of ${
        patch.join(" x ")
      } (bands x frames), chunks of ${(cropFrames * FRAME_SECONDS).toFixed(2)} s`,
    ],
    ...("missing" in autoencoder
      ? [["reconstruction", `none: ${autoencoder.missing}`] as const]
      : []),
  ];
}

/** The clip. */
export function inputSection(input: ClipInput): Section {
  const { spectrogram, frames, chunkFrames } = input;
  const part = chunkFrames < frames ? " Pictures of single patches are of the outlined chunk." : "";
  return {
    title: "Input",
    words: [`The log-mel spectrogram that the model gets.${part}`],
    drawings: [drawInput(spectrogram, input)],
  };
}

/** What an autoencoder made of the chunk. */
export function reconstructionSection(
  encoder: Encoder,
  { recipe }: MsmMae,
  made: Reconstruction,
  start: number,
): Section {
  const statistics = statisticsOf(encoder);
  const { loss, guess, decibels, masked } = errorOf(made, statistics);
  const words = [
    `${
      (100 * masked).toFixed(0)
    } % of the patches are hidden from the encoder; the decoder predicts them. ` +
    `Over hidden patches the mean squared error of standardised values is ${loss.toFixed(3)} ` +
    `(${guess.toFixed(3)} for the mean of what is visible of each band), ` +
    `the mean absolute error ${decibels.toFixed(1)} dB.`,
  ];
  if (recipe.targets === "standardised") {
    words.push(
      "The model learned patches standardised by themselves: mean and deviation of each hidden " +
        "patch are those of the " +
        "input, and only the pattern inside it is predicted.",
    );
  }
  return {
    title: "Reconstruction",
    words,
    drawings: [drawReconstruction(made, statistics, start)],
  };
}

/**
 * Attention of the chunk's tokens.
 *
 * @throws {UsageError} if there is no such layer, head or patch
 */
export async function attentionSection(
  encoder: Encoder,
  input: ClipInput,
  choice: AttentionChoice,
): Promise<Section> {
  const { geometry } = encoder;
  const { patch } = choice;
  const token = tokenOf(patch ?? { kind: "loudest" }, encoder, input);
  const both = patch === undefined && classTokens(geometry) === 1;
  const queries: AttentionQuery[] = both ? [token, "class"] : [token];
  const maps = await chunkAttention(encoder, input, queries);
  return attentionPictures(maps, chunkSpectrogram(input), choice);
}

/** The clip's embeddings over time. */
export function trajectorySection(
  encoder: Encoder,
  { spectrogram, frames }: ClipInput,
  trajectory: Trajectory | undefined,
): Section {
  const title = "Embedding over time";
  if (!trajectory) {
    return {
      title,
      words: ["The clip has fewer than three time steps; there is no path to draw."],
    };
  }
  const { points, chunk, step } = trajectory;
  const apart = points.length * step > chunk + step
    ? " Dashed lines are borders of chunks, which are encoded apart."
    : "";
  const beyond = frames % encoder.geometry.patch[1] === 0
    ? ""
    : " The last step reaches past the end of the sound, where the model gets the mean of all " +
      "data; it may stand apart.";
  return {
    title,
    words: [
      `${points.length} time steps of ${
        Number(step.toFixed(3))
      } s (${encoder.timestampEmbeddingSize} values, frequency bands side by side), ` +
      `along the principal components of this clip.${apart}${beyond}`,
    ],
    drawings: [drawTrajectory(trajectory, spectrogram)],
  };
}

/**
 * The map of a folder.
 *
 * @param all clips in the folder
 * @param tried clips that were drawn from it
 */
export function mapSection(
  encoder: Pick<Encoder, "timestampEmbeddingSize">,
  name: string,
  map: EmbeddingMap,
  all: number,
  tried: number,
): Section {
  const part = all > tried ? `, drawn at random from ${all}` : "";
  const skipped = tried > map.clips.length ? ` (${tried - map.clips.length} cannot be used)` : "";
  return {
    title: `Embeddings of ${name}`,
    words: [
      `${map.clips.length} clips${part}${skipped}: mean over time of the last layer, ` +
      `${encoder.timestampEmbeddingSize} values ` +
      "each. Principal components keep distances as far as two dimensions can. UMAP keeps who " +
      "is near to whom; distances " +
      "between groups and their sizes say little in it. Point at a clip for its name.",
    ],
    drawings: [drawMap(map)],
  };
}

/** Players. */
export function soundSection(sounds: readonly Sound[]): Section {
  return {
    title: "Sound",
    words: [
      "Phases of sounds from log-mel values are guessed (Griffin-Lim), so a reconstruction is " +
      "to be compared with what the " +
      "log-mel spectrogram keeps, not with the recording.",
    ],
    sounds: sounds.map(({ title, wav }) => ({ title, source: dataUri("audio/wav", wav) })),
  };
}
