/**
 * MATPAC++: MATPAC whose predictor has several last layers that compete (model/README.md,
 * MATPAC++). Each is trained on the tokens that it predicts best: softly at a temperature that
 * falls, then the best one alone. The winner's prediction is what is classified.
 *
 * @module
 */
import {
  add,
  argmin,
  batchedIndexSelect,
  concat,
  cosineLoss,
  type Device,
  expand,
  mul,
  noGrad,
  oneHot,
  reshape,
  scope,
  softmax,
  sum,
  type Tensor,
} from "../../engine/functions.ts";
import type { ParameterSpec } from "../vit/parameter_arena.ts";
import type { Prediction } from "./m2d.ts";
import { Matpac, studentSpecs } from "./matpac.ts";
import { type Precision, type StepInputs, widened } from "./masked_model.ts";
import type { Geometry } from "../vit/geometry.ts";
import type { Recipe } from "./recipe.ts";
import { dense } from "../vit/blocks.ts";
import { linearSpecs } from "../vit/parameter_specs.ts";

/** Heads of the released configuration. */
export const RELEASED_MCL_HEADS = 5;

function headName(i: number): string {
  return `mcl_heads.mcl_heads.${i}`;
}

/** A geometry that says how many heads compete. */
function competing(geometry: Geometry): Geometry & { readonly mclHeads: number } {
  return { ...geometry, mclHeads: geometry.mclHeads ?? RELEASED_MCL_HEADS };
}

function choiceSpecs(geometry: Geometry): ParameterSpec[] {
  const { predictorWidth, width, mclHeads } = competing(geometry);
  return Array.from(
    { length: mclHeads },
    (_, i) => linearSpecs(headName(i), predictorWidth, width),
  ).flat();
}

/**
 * Parameters of MATPAC++'s student. `decoder.decoder_pred` is among them, as in the official state
 * dict, but nothing reads it: it has no gradient, no update and no weight decay.
 */
export function matpacPlusSpecs(geometry: Geometry, recipe: Recipe): ParameterSpec[] {
  return [...studentSpecs(competing(geometry), recipe), ...choiceSpecs(geometry)];
}

/** Student, teachers, centre and competing heads of MATPAC++. */
export class MatpacPlus extends Matpac {
  /** Competing heads. */
  readonly mclHeads: number;

  /** Makes all parameters; values come from initialisation or a file. */
  constructor(device: Device, geometry: Geometry, recipe: Recipe, precision: Precision = "f32") {
    super(device, competing(geometry), recipe, precision, choiceSpecs(geometry));
    this.mclHeads = competing(geometry).mclHeads;
  }

  /**
   * What all heads predict, and how far off each is.
   *
   * @param hidden [B, M, predictor width]
   * @param target [B, M, D] targets as the loss takes them
   * @returns latents [B, M, H, D] and losses [B, M, H]
   */
  protected choose(hidden: Tensor, target: Tensor): { latents: Tensor; losses: Tensor } {
    const [batch, masked, width] = target.shape;
    const each = [batch, masked, 1, width];
    const latents = concat(
      Array.from(
        { length: this.mclHeads },
        (_, i) => reshape(dense(this.parameter, headName(i), hidden), each),
      ),
      2,
    );
    const all = [batch, masked, this.mclHeads, width];
    const losses = cosineLoss(
      widened(latents),
      noGrad(() => expand(reshape(target, each), all)),
    );
    return { latents, losses };
  }

  /** As in M2D, with the winner of each token in the place of the prediction. */
  protected override predict(hidden: Tensor, target: Tensor, values: StepInputs): Prediction {
    const { latents, losses } = this.choose(hidden, this.lossTarget(target));
    const [batch, masked, choices, width] = latents.shape;
    const { best, shares, winners } = noGrad(() =>
      scope(() => {
        const best = argmin(losses, { axis: -1 });
        const winners = oneHot(best, choices);
        return { best, winners, shares: sharesOf(losses, winners, values.assignment) };
      })
    );
    const winner = reshape(
      batchedIndexSelect(
        reshape(latents, [batch * masked, choices, width]),
        reshape(best, [batch * masked, 1]),
        { unique: true },
      ),
      [batch, masked, width],
    );
    return {
      latents: winner,
      prediction: widened(winner),
      predictionLoss: sum(mul(shares, losses), { axes: [2] }),
      winners,
    };
  }
}

/**
 * How much of each head's loss counts, [B, M, H]: softmax of minus the losses over T, or all on the
 * winner.
 */
function sharesOf(
  losses: Tensor,
  winners: Tensor,
  { temperature, soft, hard }: StepInputs["assignment"],
): Tensor {
  return add(mul(softmax(mul(losses, -1), { temperature }), soft), mul(winners, hard));
}
