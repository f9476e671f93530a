/**
 * Contrast of clips: of two crops of a clip each is to be found by the other among the crops of all
 * clips of a pass. It is InfoNCE (van den Oord et al., 2018) over cosines, both ways as in CLIP
 * (Radford et al., 2021), between segments of one recording as in COLA (Saeed et al., 2021), of
 * what the student makes of the visible patches (model/README.md, Contrast of clips).
 *
 * @module
 */
import {
  add,
  l2Normalize,
  logsumexp,
  matmul,
  mean,
  mul,
  relu,
  reshape,
  slice,
  sub,
  sum,
  type Tensor,
  transpose,
} from "../../engine/functions.ts";
import { dense, type Lookup } from "../vit/blocks.ts";

/** Cosines are divided by it. */
const TEMPERATURE = 0.1;

/**
 * The projection of crops: of their patches' mean, two layers.
 *
 * @param p the student's parameters
 * @param tokens [B, n, D]
 * @returns [B, 128]
 */
export function projection(p: Lookup, tokens: Tensor): Tensor {
  const pooled = mean(tokens, { axes: [1] });
  return dense(p, "projection.out", relu(dense(p, "projection.hidden", pooled)));
}

/**
 * Mean over crops of what it costs to find the other crop of the clip.
 *
 * @param z f32 [B, X] projections, the two crops of a clip one after the other; B is even
 * @returns [1]
 */
export function contrastLoss(z: Tensor): Tensor {
  const [rows, width] = z.shape;
  const pairs = reshape(l2Normalize(z), [rows / 2, 2, width]);
  const [one, other] = [0, 1].map((i) => reshape(slice(pairs, 1, i, 1), [rows / 2, width]));
  const cosines = mul(matmul(one, transpose(other)), 1 / TEMPERATURE);
  const same = mul(sum(mul(one, other), { axes: [1] }), 1 / TEMPERATURE);
  const among = add(logsumexp(cosines, { axes: [0] }), logsumexp(cosines, { axes: [1] }));
  return reshape(mean(sub(mul(among, 0.5), same)), [1]);
}
