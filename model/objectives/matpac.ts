/**
 * MATPAC: M2D's latent prediction and an unsupervised classification beside it (model/README.md,
 * MATPAC). Student and teacher latents go through a projection head each; the student's prototype
 * probabilities are to be the teacher's, centred and sharpened.
 *
 * @module
 */
import {
  add,
  addScaled,
  centredCrossEntropy,
  type Device,
  emaStep,
  mean,
  mul,
  noGrad,
  scope,
  type Tensor,
  within,
} from "../../engine/functions.ts";
import type { ParameterArena, ParameterSpec } from "../vit/parameter_arena.ts";
import { headLogits, headSpecs } from "../vit/projection_head.ts";
import { type LatentForward, M2d } from "./m2d.ts";
import {
  type DeviceMask,
  type LossWeights,
  type Precision,
  sharedSpecs,
  type StepInputs,
  widened,
} from "./masked_model.ts";
import type { Geometry } from "../vit/geometry.ts";
import type { Recipe } from "./recipe.ts";

/** Temperature of the student's softmax; the released code passes no other. */
export const STUDENT_TEMPERATURE = 0.1;
/** Share of the old centre that an update keeps. */
export const CENTRE_MOMENTUM = 0.9;

const STUDENT_HEAD = "cls_student_head.";

function studentHeadSpecs(geometry: Geometry, recipe: Recipe, prefix: string): ParameterSpec[] {
  return headSpecs(prefix, geometry, recipe.headGains === "fixed");
}

/** Trainable parameters in the order of the official state dict (model/README.md, Checkpoints). */
export function studentSpecs(geometry: Geometry, recipe: Recipe): ParameterSpec[] {
  return [
    ...sharedSpecs(geometry, recipe, geometry.width),
    ...studentHeadSpecs(geometry, recipe, STUDENT_HEAD),
  ];
}

/** What MATPAC's forward pass computes; K prototypes, other letters as in {@link LatentForward}. */
export interface MatpacForward extends LatentForward {
  /** [B, M, K]. */
  readonly studentLogits: Tensor;
  /** [B, M, K]. */
  readonly teacherLogits: Tensor;
  /** [B, M, K] centred, sharpened teacher probabilities. */
  readonly probabilities: Tensor;
  /** [B, M] classification loss per token. */
  readonly classificationLoss: Tensor;
  /** [K] centre that the probabilities were made with. */
  readonly centreUsed: Tensor;
}

/** Student, teachers and centre of MATPAC. */
export class Matpac extends M2d {
  /** Inside the released forward pass: with the old student, head first. */
  override readonly averaging = "before";
  /** [K] centre of the teacher's logits. */
  override readonly centre: Tensor;
  /** [K] batch mean that the next forward pass folds into {@link centre}. */
  override readonly pendingCentre: Tensor;

  /** Makes all parameters; values come from initialisation or a file. */
  constructor(
    device: Device,
    geometry: Geometry,
    recipe: Recipe,
    precision: Precision = "f32",
    more: readonly ParameterSpec[] = [],
  ) {
    super(device, geometry, recipe, precision, {
      student: [...studentHeadSpecs(geometry, recipe, STUDENT_HEAD), ...more],
      teachers: [{
        name: "head",
        averages: STUDENT_HEAD,
        specs: studentHeadSpecs(geometry, recipe, ""),
      }],
    });
    this.centre = device.zeros([geometry.prototypes]);
    this.pendingCentre = device.zeros([geometry.prototypes]);
  }

  /** Teacher head. */
  get teacherHead(): ParameterArena {
    return this.teachers[1].arena;
  }

  /**
   * As {@link MaskedModel.forward}. Applies the pending centre first and leaves this batch's
   * pending (model/README.md, Losses and statistics), unless the caller keeps the centre.
   */
  override forward(
    input: Tensor,
    mask: DeviceMask,
    values: StepInputs,
    weights: LossWeights,
  ): MatpacForward {
    const { ofMasked, ...pass } = this.latentPass(input, mask, values);
    const studentLogits = widened(headLogits(within(this.parameter, STUDENT_HEAD), pass.latents));
    const teacherLogits = scope(() =>
      noGrad(() => widened(ofMasked(headLogits(this.teacherParameter("head"), pass.targetLatents))))
    );
    const classified = this.#classify(studentLogits, teacherLogits, values);
    const loss = add(
      mul(mean(pass.predictionLoss), weights.pred),
      mul(mean(classified.classificationLoss), weights.cls),
    );
    return { ...pass, studentLogits, teacherLogits, ...classified, loss };
  }

  #classify(
    studentLogits: Tensor,
    teacherLogits: Tensor,
    { teacherTemperature, centre }: StepInputs,
  ): Pick<MatpacForward, "classificationLoss" | "probabilities" | "centreUsed"> {
    const shared = "used" in centre ? centre : undefined;
    const centreUsed = shared?.used ?? this.centre;
    if (!("used" in centre)) emaStep(this.centre, this.pendingCentre, centre);
    const { loss: classificationLoss, probabilities } = centredCrossEntropy(
      studentLogits,
      teacherLogits,
      centreUsed,
      { studentTemperature: STUDENT_TEMPERATURE, teacherTemperature },
    );
    noGrad(() => {
      const source = this.recipe.centerOn === "logits" ? teacherLogits : probabilities;
      using batchMean = mean(source, { axes: [0, 1] });
      if (shared) addScaled(shared.batchMean, batchMean, shared.share);
      else {
        this.device.copy(batchMean, this.pendingCentre);
        this.hasPendingCentre = true;
      }
    });
    return { classificationLoss, probabilities, centreUsed };
  }

  /** As {@link MaskedModel.centreDecay}. */
  override centreDecay(pending: boolean = this.hasPendingCentre): readonly [number, number] {
    return pending ? [CENTRE_MOMENTUM, 1 - CENTRE_MOMENTUM] : [1, 0];
  }

  /** The centre as the next forward pass will use it, [K]. */
  nextCentre(): Tensor {
    const [keep, take] = this.centreDecay();
    return noGrad(() => scope(() => add(mul(this.centre, keep), mul(this.pendingCentre, take))));
  }
}
