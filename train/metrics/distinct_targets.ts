/**
 * Distinct targets of an update, computed on the device: the statistic that shows a collapse first
 * (model/README.md, Losses and statistics).
 *
 * @module
 */
import {
  argmax,
  noGrad,
  reshape,
  scatterAdd,
  scope,
  sign,
  sum,
  type Tensor,
} from "../../engine/mod.ts";

/**
 * Tokens by their most probable prototype, the lowest among equals. Counts of parts of a batch add
 * up to those of the whole; they are exact up to 2^24 tokens.
 *
 * @param probabilities [..., K] of the teacher
 * @returns [K]
 */
export function targetCounts(probabilities: Tensor): Tensor {
  const prototypes = probabilities.shape[probabilities.shape.length - 1];
  const tokens = probabilities.size / prototypes;
  return noGrad(() =>
    scope(() => {
      const winners = argmax(reshape(probabilities, [tokens, prototypes]), { axis: 1 });
      const ones = probabilities.device.full([tokens, 1], 1);
      return reshape(scatterAdd(ones, winners, prototypes), [prototypes]);
    })
  );
}

/**
 * How many prototypes are the target of at least one token; 1 when the targets have collapsed.
 *
 * @param counts [K] from {@link targetCounts}
 * @returns [1]
 */
export function distinctTargets(counts: Tensor): Tensor {
  return noGrad(() => scope(() => reshape(sum(sign(counts)), [1])));
}
