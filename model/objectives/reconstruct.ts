/**
 * What a masked autoencoder makes of the patches it does not see, as pictures (model/README.md,
 * Embeddings).
 *
 * @module
 */
import { binaryMask, type Mask } from "./masking.ts";
import type { MsmMae } from "./msm_mae.ts";
import { type PatchGrid, patchSides } from "../vit/geometry.ts";

/**
 * A chunk with what was hidden of it and what was made of that. Pictures are [bands, frames], low
 * bands first.
 */
export interface Reconstruction {
  /** Patches. */
  readonly grid: PatchGrid;
  /** Bands and frames of a patch. */
  readonly patch: readonly [bands: number, frames: number];
  /** [patches]: 0 visible, 1 masked; row by row, low frequencies first. */
  readonly mask: Uint8Array;
  /** What went in, without frames that fill no patch. */
  readonly input: Float32Array;
  /** The prediction for masked patches, the input in the others. */
  readonly reconstruction: Float32Array;
}

/**
 * Reconstructs the masked patches of one chunk.
 *
 * @param logmel [bands, frames], standardised; fewer frames than a chunk's take the positions of
 * its first columns
 * @param mask of one clip, for as many patches as the frames fill
 * @throws {RangeError} if the mask is for another number of patches.
 */
export async function reconstruct(
  model: MsmMae,
  logmel: Float32Array,
  mask: Mask,
): Promise<Reconstruction> {
  const { device, geometry, recipe } = model;
  const { melBands } = geometry;
  const patch = patchSides(geometry);
  const frames = logmel.length / melBands;
  const grid = { rows: melBands / patch[0], columns: Math.floor(frames / patch[1]) };
  const patches = grid.rows * grid.columns;
  if (mask.shuffle.length !== patches) {
    throw new RangeError(`a mask of ${mask.shuffle.length} patches does not fit ${patches}`);
  }
  const kept = grid.columns * patch[1];
  const input = new Float32Array(melBands * kept);
  for (let band = 0; band < melBands; band++) {
    input.set(logmel.subarray(band * frames, band * frames + kept), band * kept);
  }
  using chunk = device.tensor(input, [1, melBands, kept]);
  using shuffle = device.tensor(mask.shuffle, [1, patches]);
  using restore = device.tensor(mask.restore, [1, patches]);
  using painted = model.paint(chunk, { shuffle, restore, visible: mask.visible });
  const predictions = await painted.data() as Float32Array;
  const seen = { grid, patch, mask: binaryMask(mask), input };
  return {
    ...seen,
    reconstruction: pasted({ ...seen, predictions }, recipe.targets === "standardised"),
  };
}

/** What {@link pasted} puts together. */
interface Parts extends Omit<Reconstruction, "reconstruction"> {
  /** [patches, values of a patch], frequency rows first inside a patch. */
  readonly predictions: Float32Array;
}

/**
 * The input with predictions in its masked patches.
 *
 * @param standardised predictions are of patches standardised by themselves: they get back mean and
 * deviation of the input's patch, which the model never saw, so that the picture shows more than it
 * predicted
 * @returns [bands, frames]
 */
export function pasted(parts: Parts, standardised: boolean): Float32Array {
  const { input, grid: { rows, columns }, patch: [high, wide], mask, predictions } = parts;
  const frames = columns * wide;
  const picture = input.slice();
  const size = high * wide;
  for (let token = 0; token < rows * columns; token++) {
    if (mask[token] === 0) continue;
    const first = Math.floor(token / columns) * high * frames + token % columns * wide;
    const places = Array.from(
      { length: size },
      (_, i) => first + Math.floor(i / wide) * frames + i % wide,
    );
    let [mean, std] = [0, 1];
    if (standardised) {
      mean = places.reduce((sum, at) => sum + input[at], 0) / size;
      const squares = places.reduce((sum, at) => sum + (input[at] - mean) ** 2, 0);
      // As the loss has it (model/README.md, MSM-MAE).
      std = Math.sqrt(squares / (size - 1) + 1e-6);
    }
    places.forEach((at, i) => picture[at] = predictions[token * size + i] * std + mean);
  }
  return picture;
}
