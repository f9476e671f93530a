/**
 * Features of the student's encoder without masking (SPEC section 5.1).
 *
 * @module
 */
import {
  add,
  concat,
  expand,
  noGrad,
  reshape,
  scope,
  slice,
  sum,
  type Tensor,
} from "../engine/mod.ts";
import { type Matpac, patchGrid } from "./matpac.ts";
import { block, type Lookup, norm, patchEmbed, within } from "./vit.ts";

/**
 * The last layer, after the final norm, of one chunk: its frequency bands side by side, the low one first, summed over
 * time. Sums of a clip's chunks over its time steps make its embedding.
 *
 * @param logmel [clips, bands, frames], standardised; at least a patch of frames, at most as many as the model was made
 * for; frames that fill no patch are dropped
 * @returns [clips, rows * width]
 */
export function embedChunk(model: Matpac, logmel: Tensor): Tensor {
  const { geometry: { patchSize, depth, heads, width } } = model;
  const { rows, columns } = patchGrid(model.geometry);
  const [clips, , frames] = logmel.shape;
  const steps = Math.floor(frames / patchSize);
  const p: Lookup = (name) => model.student.get(name);
  return noGrad(() =>
    scope(() => {
      const tokens = patchEmbed(within(p, "patch_embed."), logmel, patchSize);
      const table = model.fixedPositions.pos_embed ?? p("pos_embed");
      const grid = reshape(slice(table, 1, 1, rows * columns), [1, rows, columns, width]);
      const cut = reshape(slice(grid, 2, 0, steps), [1, rows * steps, width]);
      const cls = expand(add(p("cls_token"), slice(table, 1, 0, 1)), [clips, 1, width]);
      const encoder = within(p, "student_encoder.");
      let hidden = concat([cls, add(tokens, cut)], 1);
      for (let i = 0; i < depth; i++) {
        // One block's intermediate results at a time: training has sized the memory.
        using input = hidden;
        hidden = scope(() => block(within(encoder, `blocks.${i}.`), input, heads));
      }
      const encoded = norm(encoder, "norm", hidden);
      const patches = slice(encoded, 1, 1, rows * steps);
      return reshape(
        sum(reshape(patches, [clips, rows, steps, width]), { axes: [2] }),
        [clips, rows * width],
      );
    })
  );
}
