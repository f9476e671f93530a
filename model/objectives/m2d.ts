/**
 * M2D: the student predicts what a slowly following copy of its encoder makes of the masked patches
 * (model/README.md, M2D). Beside what all objectives share it has that teacher and the loss between
 * two latents.
 *
 * @module
 */
import {
  add,
  contiguous,
  cosineLoss,
  type Device,
  mean,
  mul,
  noGrad,
  scope,
  slice,
  sub,
  type Tensor,
} from "../../engine/functions.ts";
import type { ParameterArena } from "../vit/parameter_arena.ts";
import {
  type DeviceMask,
  type Forward,
  type LossWeights,
  MaskedModel,
  type ObjectiveParts,
  type Precision,
  sharedSpecs,
  type StepInputs,
  widened,
} from "./masked_model.ts";
import type { Geometry } from "../vit/geometry.ts";
import type { Recipe } from "./recipe.ts";
import { type MaskedRows, rowsOfMasks, selectEach } from "./several_masks.ts";
import { classTokens, type TokenView } from "../vit/tokens.ts";
import { dense, standardised } from "../vit/blocks.ts";
import { encoderSpecs } from "../vit/parameter_specs.ts";

/** What the forward pass of an objective with a teacher computes; letters as in {@link Forward}. */
export interface LatentForward extends Forward {
  /** [B, M, D] masked patches with positions: the teacher's input, unless it sees whole clips. */
  readonly maskedTokens: Tensor;
  /** [B, 1 + M, D] teacher's view of the masked patches (or of all), class token first. */
  readonly teacherTokens: Tensor;
}

/** A prediction of latents and how far off it is. */
export interface Prediction {
  /** [B, M, D] as it was computed. */
  readonly latents: Tensor;
  /** [B, M, D] the same in f32. */
  readonly prediction: Tensor;
  /** [B, M]. */
  readonly predictionLoss: Tensor;
  /** As in {@link Forward}. */
  readonly winners?: Tensor;
}

/** The latent pass, before losses are weighed. */
export type LatentPass = Omit<LatentForward, "loss"> & {
  /**
   * [B, M, D] the teacher's latents as they were computed; [clips, L, D] if it saw whole clips.
   */
  readonly targetLatents: Tensor;
  /** Picks what is computed of each of {@link targetLatents} for the masked tokens. */
  readonly ofMasked: (x: Tensor) => Tensor;
  /** [B, M, D] the predicted latents as they were computed. */
  readonly latents: Tensor;
};

/** Student, teacher encoder and predictor of M2D. */
export class M2d extends MaskedModel {
  /** Makes all parameters; values come from initialisation or a file. */
  constructor(
    device: Device,
    geometry: Geometry,
    recipe: Recipe,
    precision: Precision = "f32",
    more: ObjectiveParts = { student: [] },
  ) {
    super(device, geometry, recipe, precision, {
      student: [...sharedSpecs(geometry, recipe, geometry.width), ...more.student],
      teachers: [
        { name: "encoder", averages: "student_encoder.", specs: encoderSpecs("", geometry) },
        ...(more.teachers ?? []),
      ],
    });
  }

  /** Teacher blocks and norm. */
  get teacherEncoder(): ParameterArena {
    return this.teachers[0].arena;
  }

  /**
   * The teacher's view of the masked patches, or of whole clips, once for all their masks. It has
   * no patch embedding and no class token of its own: both are the student's as they are.
   *
   * @param view of the clips
   * @param rows the same for each mask
   */
  #teacherPass(
    view: TokenView,
    rows: MaskedRows,
  ): Pick<LatentPass, "maskedTokens" | "teacherTokens" | "target" | "targetLatents" | "ofMasked"> {
    const { mask } = rows;
    const masked = mask.shuffle.shape[1] - mask.visible;
    const { targetLayers, clipCentredTargets, teacherView = "masked" } = this.recipe;
    const whole = teacherView === "clip";
    const asIs = (x: Tensor) => x;
    const chosen = (x: Tensor) => selectEach(x, slice(mask.shuffle, 1, mask.visible, masked));
    // A mean over a mask's tokens is not a whole clip's.
    const ofMasked = whole && !clipCentredTargets ? chosen : asIs;
    const found = scope(() =>
      noGrad(() => {
        const maskedTokens = chosen(view.tokens);
        let layers: Tensor | undefined;
        const teacherTokens = this.encode(
          this.teacherParameter("encoder"),
          whole ? view : rows.view,
          whole ? view.tokens : maskedTokens,
          (block, y) => {
            if (!targetLayers?.includes(block)) return;
            const share = mul(standardised(y), 1 / targetLayers.length);
            layers = layers ? add(layers, share) : share;
          },
        );
        const prefix = classTokens(this.geometry);
        const outputs = layers ?? teacherTokens;
        // Losses read it row by row, so it is made dense once.
        const tokens = outputs.shape[1] - prefix;
        let targetLatents = prefix ? contiguous(slice(outputs, 1, 1, tokens)) : outputs;
        if (clipCentredTargets) {
          if (whole) targetLatents = chosen(targetLatents);
          targetLatents = standardised(
            sub(targetLatents, mean(targetLatents, { axes: [1], keepDims: true })),
          );
        }
        const target = widened(ofMasked(targetLatents));
        return { maskedTokens, teacherTokens, targetLatents, target };
      })
    );
    return { ...found, ofMasked };
  }

  /**
   * Student, predictor and teacher, and the prediction loss of each token.
   *
   * @param mask of several masks for each clip, the indices of one behind those of the other,
   * [B, masks · L]: what student and predictor give has a row for each mask then, those of a clip
   * next to each other
   */
  protected latentPass(input: Tensor, mask: DeviceMask, values: StepInputs): LatentPass {
    const view = this.view(input);
    const rows = rowsOfMasks(view, mask);
    const studentTokens = this.encodeVisible(rows.view, rows.mask);
    const hidden = this.decode(studentTokens, rows.mask);
    const teacher = this.#teacherPass(view, rows);
    const { patchTokens } = view;
    return {
      patchTokens,
      studentTokens,
      ...teacher,
      ...this.predict(hidden, teacher.target, values),
    };
  }

  /**
   * The predictor's last layer.
   *
   * @param hidden [B, M, predictor width]
   * @param target [B, M, D]
   */
  protected predict(hidden: Tensor, target: Tensor, _values: StepInputs): Prediction {
    const latents = dense(this.parameter, "decoder.decoder_pred", hidden);
    const prediction = widened(latents);
    return { latents, prediction, predictionLoss: cosineLoss(prediction, this.lossTarget(target)) };
  }

  /**
   * Targets as the loss takes them: standardised over their dimensions, or as they are
   * (model/README.md, Where paper and released code differ, row 5).
   */
  protected lossTarget(target: Tensor): Tensor {
    // Standardising is centring here: the cosine does not see a token's scale.
    return this.recipe.targets === "raw"
      ? target
      : noGrad(() => sub(target, mean(target, { axes: [2], keepDims: true })));
  }

  /** As {@link MaskedModel.forward}. */
  override forward(
    input: Tensor,
    mask: DeviceMask,
    values: StepInputs,
    weights: LossWeights,
  ): LatentForward {
    const { ofMasked: _, ...pass } = this.latentPass(input, mask, values);
    return { ...pass, loss: mul(mean(pass.predictionLoss), weights.pred) };
  }
}
