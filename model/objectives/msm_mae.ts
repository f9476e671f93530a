/**
 * MSM-MAE: masked spectrogram modelling with a masked autoencoder (model/README.md, MSM-MAE). There
 * is no teacher: the predictor paints the masked patches of the standardised log-mel spectrogram.
 *
 * @module
 */
import {
  add,
  batchedIndexSelect,
  type Device,
  div,
  mean,
  mul,
  noGrad,
  scope,
  slice,
  sqrt,
  square,
  sub,
  type Tensor,
  variance,
} from "../../engine/functions.ts";
import type { ParameterSpec } from "../vit/parameter_arena.ts";
import {
  type DeviceMask,
  type Forward,
  type LossWeights,
  MaskedModel,
  type Precision,
  sharedSpecs,
  type StepInputs,
  widened,
} from "./masked_model.ts";
import { type Geometry, patchSides } from "../vit/geometry.ts";
import type { Recipe } from "./recipe.ts";
import { dense } from "../vit/blocks.ts";
import { patchify } from "../vit/tokens.ts";

/** Added to the variance of a patch that is standardised. */
const EPS = 1e-6;

/** Trainable parameters of MSM-MAE. */
export function msmMaeSpecs(geometry: Geometry, recipe: Recipe): ParameterSpec[] {
  const [bands, frames] = patchSides(geometry);
  return sharedSpecs(geometry, recipe, bands * frames);
}

/** Encoder and light decoder of MSM-MAE. */
export class MsmMae extends MaskedModel {
  /** Makes all parameters; values come from initialisation or a file. */
  constructor(device: Device, geometry: Geometry, recipe: Recipe, precision: Precision = "f32") {
    super(device, geometry, recipe, precision, { student: msmMaeSpecs(geometry, recipe) });
  }

  /**
   * Patches as they are to be painted: the log-mel values, or under standardised targets each patch
   * by its own mean and unbiased variance (`norm_pix_loss`).
   *
   * @param input [B, bands, frames]
   * @returns [B, L, X], inside a patch frequency rows first
   */
  target(input: Tensor): Tensor {
    return noGrad(() =>
      scope(() => {
        const patches = patchify(input, this.geometry.patchSize);
        if (this.recipe.targets === "raw") return patches;
        const over = { axes: [2], keepDims: true };
        const deviation = sqrt(add(variance(patches, over), EPS));
        return div(sub(patches, mean(patches, over)), deviation);
      })
    );
  }

  /**
   * All patches as the decoder paints them, visible ones too.
   *
   * @param input [B, bands, frames] standardised log-mel
   * @returns [B, L, X] as {@link target}
   */
  paint(input: Tensor, mask: DeviceMask): Tensor {
    return noGrad(() =>
      scope(() => {
        const hidden = this.decode(this.encodeVisible(this.view(input), mask), mask, "all");
        return widened(dense(this.parameter, "decoder.decoder_pred", hidden));
      })
    );
  }

  /** As {@link MaskedModel.forward}. */
  override forward(
    input: Tensor,
    mask: DeviceMask,
    _values: StepInputs,
    weights: LossWeights,
  ): Forward {
    const view = this.view(input);
    const studentTokens = this.encodeVisible(view, mask);
    const hidden = this.decode(studentTokens, mask);
    const prediction = widened(dense(this.parameter, "decoder.decoder_pred", hidden));
    const masked = mask.shuffle.shape[1] - mask.visible;
    const target = noGrad(() =>
      scope(() =>
        batchedIndexSelect(this.target(input), slice(mask.shuffle, 1, mask.visible, masked), {
          unique: true,
        })
      )
    );
    const predictionLoss = mean(square(sub(prediction, target)), { axes: [2] });
    return {
      patchTokens: view.patchTokens,
      studentTokens,
      target,
      prediction,
      predictionLoss,
      loss: mul(mean(predictionLoss), weights.pred),
    };
  }
}
