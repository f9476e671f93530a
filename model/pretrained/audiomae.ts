/**
 * AudioMAE (Huang et al., arXiv:2207.06405): a masked auto-encoder of spectrograms, of which the
 * encoder is read, from the authors' files or timm's (model/README.md, Encoders of others).
 *
 * @module
 */
import type { CheckpointFile } from "../formats/checkpoint_file.ts";
import type { StoredTensors } from "../formats/checkpoint_names.ts";
import { KALDI_128 } from "../frontend/kaldi_fbank.ts";
import { headsOf, type PretrainedOptions } from "./options.ts";
import {
  AUDIOSET_STATISTICS,
  CANVAS,
  vitAbout,
  type VitSizes,
  vitSources,
} from "./spectrogram_vit.ts";
import { countBlocks, type Plan, shapeOf } from "./state_dict.ts";

const TITLE = "AudioMAE";
const EPS = 1e-6;
/** Bands, and frames, of a patch. */
const PATCH = 16;
/** Patches of the canvas along frequency and time. */
const GRID = [KALDI_128.bands / PATCH, CANVAS / PATCH] as const;
/** The decoder, and classes. */
const BESIDE = /^(decoder_|mask_token$|head\.)/;

/**
 * Whether tensors are those of AudioMAE: timm's names as those of M2D and MSM-MAE, with the
 * positions of 8 x 64 patches, which no spectrogram of 80 bands has.
 */
export function isAudioMae(tensors: StoredTensors): boolean {
  const shape = (name: string) => tensors.get(name)?.shape ?? [];
  const [, channels, ...patch] = shape("patch_embed.proj.weight");
  return tensors.has("blocks.0.norm1.weight") && shape("pos_embed")[1] === 1 + GRID[0] * GRID[1] &&
    channels === 1 && String(patch) === String([PATCH, PATCH]);
}

/**
 * What an encoder takes from a file.
 *
 * @throws {EncoderError} if sizes cannot be told.
 */
export function audioMaePlan(file: CheckpointFile, options: PretrainedOptions): Plan<VitSizes> {
  const { tensors } = file;
  const [, , width] = shapeOf(TITLE, tensors, "pos_embed", 3);
  const sizes: VitSizes = {
    ...{ width, patch: [PATCH, PATCH], stride: [PATCH, PATCH], grid: GRID, frames: CANVAS },
    depth: countBlocks(TITLE, tensors, undefined, "blocks."),
    heads: headsOf(width, file.heads.encoder, options),
    ...{ own: ["cls_token"], eps: EPS, timeFirst: true, ...AUDIOSET_STATISTICS },
    norm: tensors.has("fc_norm.weight") ? "fc_norm" : "norm",
  };
  // Positions are sines and cosines, which the program never trains.
  const sources = vitSources(sizes, (name) => [name])
    .map((it) => it.name === "pos_embed" ? { ...it, frozen: true } : it);
  const about = vitAbout(sizes, {
    system: "audiomae",
    title: TITLE,
    source: "https://github.com/facebookresearch/AudioMAE, arXiv:2207.06405",
    licence: "CC BY 4.0",
    vectors: ["patches", "tokens"],
  });
  return { about, sizes, tensors, sources, beside: BESIDE };
}
