/**
 * MATPAC: masked latent prediction and unsupervised classification (SPEC sections 2.4 and 3).
 *
 * @module
 */
import {
  add,
  centredCrossEntropy,
  concat,
  contiguous,
  cosineLoss,
  type Device,
  emaStep,
  expand,
  gather,
  mean,
  mul,
  noGrad,
  scope,
  slice,
  type Tensor,
} from "../engine/mod.ts";
import { ParameterArena, type ParameterSpec } from "./arena.ts";
import { headLogits, headSpecs } from "./head.ts";
import { sinCosPositions } from "./positions.ts";
import type { Geometry } from "./presets.ts";
import type { Recipe } from "./recipe.ts";
import {
  blocks,
  blockSpecs,
  dense,
  linearSpecs,
  type Lookup,
  norm,
  normSpecs,
  patchEmbed,
  within,
} from "./vit.ts";

/** Temperature of the student's softmax; the released code passes no other. */
export const STUDENT_TEMPERATURE = 0.1;
/** Share of the old centre that an update keeps. */
export const CENTRE_MOMENTUM = 0.9;

/** Blocks and final norm of an encoder, named as in the teacher's state dict. */
function encoderSpecs(prefix: string, { width, depth }: Geometry): ParameterSpec[] {
  return [
    ...Array.from({ length: depth }, (_, i) => blockSpecs(`${prefix}blocks.${i}`, width)).flat(),
    ...normSpecs(`${prefix}norm`, width),
  ];
}

/** Patch grid of a geometry. */
export function patchGrid(geometry: Geometry): { rows: number; columns: number; patches: number } {
  const rows = geometry.melBands / geometry.patchSize;
  const columns = Math.floor(geometry.cropFrames / geometry.patchSize);
  return { rows, columns, patches: rows * columns };
}

/** Trainable parameters in the order of the official state dict (SPEC section 6.1). */
export function studentSpecs(geometry: Geometry, recipe: Recipe): ParameterSpec[] {
  const { width, predictorWidth, predictorDepth, patchSize } = geometry;
  const tokens = 1 + patchGrid(geometry).patches;
  const learned = recipe.positions === "learned";
  return [
    { name: "cls_token", shape: [1, 1, width] },
    ...(learned ? [{ name: "pos_embed", shape: [1, tokens, width] }] : []),
    { name: "patch_embed.proj.weight", shape: [width, 1, patchSize, patchSize] },
    { name: "patch_embed.proj.bias", shape: [width] },
    ...encoderSpecs("student_encoder.", geometry),
    { name: "decoder.mask_token", shape: [1, 1, predictorWidth] },
    ...(learned ? [{ name: "decoder.decoder_pos_embed", shape: [1, tokens, predictorWidth] }] : []),
    ...linearSpecs("decoder.decoder_embed", width, predictorWidth),
    ...Array.from(
      { length: predictorDepth },
      (_, i) => blockSpecs(`decoder.decoder_blocks.${i}`, predictorWidth),
    )
      .flat(),
    ...normSpecs("decoder.decoder_norm", predictorWidth),
    ...linearSpecs("decoder.decoder_pred", predictorWidth, width),
    ...headSpecs("cls_student_head.", geometry),
  ];
}

/** A mask on the GPU. */
export interface DeviceMask {
  /** u32 [batch, patches]; visible patches first. */
  readonly shuffle: Tensor;
  /** u32 [batch, patches]; inverse of each row of `shuffle`. */
  readonly restore: Tensor;
  /** Visible patches per clip. */
  readonly visible: number;
}

/** GPU values that change from step to step, so that a recorded step can be replayed. */
export interface StepInputs {
  /** [1] temperature of the teacher's softmax. */
  readonly teacherTemperature: Tensor;
  /** [2] from {@link Matpac.centreDecay}. */
  readonly centreDecay: Tensor;
}

/** Everything a forward pass computes; B clips, M masked of L patches, D width, K prototypes. */
export interface MatpacForward {
  /** [B, L, D] patch embeddings before positions. */
  readonly patchTokens: Tensor;
  /** [B, M, D] masked patches with positions: the teacher's input. */
  readonly maskedTokens: Tensor;
  /** [B, 1 + V, D] student's view, class token first. */
  readonly studentTokens: Tensor;
  /** [B, 1 + M, D] teacher's view of the masked patches, class token first. */
  readonly teacherTokens: Tensor;
  /** [B, M, D] teacher's latents without the class token: the targets. */
  readonly target: Tensor;
  /** [B, M, D] predicted latents. */
  readonly prediction: Tensor;
  /** [B, M, K]. */
  readonly studentLogits: Tensor;
  /** [B, M, K]. */
  readonly teacherLogits: Tensor;
  /** [B, M, K] centred, sharpened teacher probabilities. */
  readonly probabilities: Tensor;
  /** [B, M] prediction loss per token. */
  readonly predictionLoss: Tensor;
  /** [B, M] classification loss per token. */
  readonly classificationLoss: Tensor;
  /** [1] weighted mean over all masked tokens. */
  readonly loss: Tensor;
}

/** A part of the student (`own`) and the part of a teacher (`other`) that averages it. */
export interface TeacherRun {
  /** Student's values, flat. */
  readonly own: Tensor;
  /** Teacher's values, flat. */
  readonly other: Tensor;
}

/** Student, teachers and centre of MATPAC. */
export class Matpac implements Disposable {
  /** Trained parameters. */
  readonly student: ParameterArena;
  /** Teacher blocks and norm. */
  readonly teacherEncoder: ParameterArena;
  /** Teacher head. */
  readonly teacherHead: ParameterArena;
  /** [K] centre of the teacher's logits. */
  readonly centre: Tensor;
  /** [K] batch mean that the next forward pass folds into {@link centre}. */
  readonly pendingCentre: Tensor;
  /** Whether the backward pass computes transformer blocks again, to save the memory of their activations. */
  recompute = false;
  /** Whether {@link pendingCentre} waits to be applied. */
  hasPendingCentre = false;
  readonly #positions: Tensor;
  readonly #predictorPositions: Tensor;
  readonly #teacherRuns: {
    readonly encoder: readonly TeacherRun[];
    readonly head: readonly TeacherRun[];
  };

  /** Makes all parameters; values come from initialisation or a file. */
  constructor(readonly device: Device, readonly geometry: Geometry, readonly recipe: Recipe) {
    this.student = new ParameterArena(device, studentSpecs(geometry, recipe), true);
    this.teacherEncoder = new ParameterArena(device, encoderSpecs("", geometry), false);
    this.teacherHead = new ParameterArena(device, headSpecs("", geometry), false);
    this.centre = device.zeros([geometry.prototypes]);
    this.pendingCentre = device.zeros([geometry.prototypes]);
    const table = (name: string, width: number): Tensor => {
      const { rows, columns, patches } = patchGrid(geometry);
      const values = sinCosPositions(width, rows, columns);
      if (recipe.positions === "fixed") return device.tensor(values, [1, 1 + patches, width]);
      this.student.load([[name, values]]);
      return this.student.get(name);
    };
    this.#positions = table("pos_embed", geometry.width);
    this.#predictorPositions = table("decoder.decoder_pos_embed", geometry.predictorWidth);
    this.#teacherRuns = {
      encoder: this.student.runsOf(this.teacherEncoder, (name) => `student_encoder.${name}`),
      head: this.student.runsOf(this.teacherHead, (name) => `cls_student_head.${name}`),
    };
  }

  /** Contiguous parts of the student and of the teachers that averaging pairs up. */
  get teacherRuns(): {
    readonly encoder: readonly TeacherRun[];
    readonly head: readonly TeacherRun[];
  } {
    return this.#teacherRuns;
  }

  /** Position tables that are not trained, by official name; empty when they are learned. */
  get fixedPositions(): Readonly<Record<string, Tensor>> {
    if (this.recipe.positions === "learned") return {};
    return { pos_embed: this.#positions, "decoder.decoder_pos_embed": this.#predictorPositions };
  }

  #encode(p: Lookup, x: Tensor): Tensor {
    const { depth, heads } = this.geometry;
    return norm(p, "norm", blocks(p, "blocks.", x, depth, heads, this.recompute));
  }

  #predict(studentTokens: Tensor, mask: DeviceMask): Tensor {
    const { predictorWidth: width, predictorDepth, predictorHeads } = this.geometry;
    const p = within((name) => this.student.get(name), "decoder.");
    const [batch, patches] = mask.shuffle.shape;
    const masked = patches - mask.visible;
    const embedded = dense(p, "decoder_embed", studentTokens);
    const shuffled = concat([
      slice(embedded, 1, 1, mask.visible),
      expand(p("mask_token"), [batch, masked, width]),
    ], 1);
    const grid = gather(shuffled, mask.restore, { unique: true });
    const sequence = add(concat([slice(embedded, 1, 0, 1), grid], 1), this.#predictorPositions);
    const hidden = norm(
      p,
      "decoder_norm",
      blocks(p, "decoder_blocks.", sequence, predictorDepth, predictorHeads, this.recompute),
    );
    const wanted = gather(
      slice(hidden, 1, 1, patches),
      slice(mask.shuffle, 1, mask.visible, masked),
      { unique: true },
    );
    return dense(p, "decoder_pred", wanted);
  }

  /**
   * Losses of one batch, and everything on the way to them. Applies the pending centre first and leaves this
   * batch's pending (SPEC section 3).
   *
   * @param input [B, bands, frames] standardised log-mel
   * @param values what changes from step to step
   * @param weights of the two losses
   */
  forward(
    input: Tensor,
    mask: DeviceMask,
    { teacherTemperature, centreDecay }: StepInputs,
    weights: { readonly pred: number; readonly cls: number },
  ): MatpacForward {
    const { geometry, recipe } = this;
    const p: Lookup = (name) => this.student.get(name);
    const patchTokens = patchEmbed(within(p, "patch_embed."), input, geometry.patchSize);
    const [batch, patches] = patchTokens.shape;
    const masked = patches - mask.visible;
    const tokens = add(patchTokens, slice(this.#positions, 1, 1, patches));
    const cls = expand(add(p("cls_token"), slice(this.#positions, 1, 0, 1)), [
      batch,
      1,
      geometry.width,
    ]);

    const visible = gather(tokens, slice(mask.shuffle, 1, 0, mask.visible), { unique: true });
    const studentTokens = this.#encode(within(p, "student_encoder."), concat([cls, visible], 1));
    const prediction = this.#predict(studentTokens, mask);
    const studentLogits = headLogits(within(p, "cls_student_head."), prediction);

    const { maskedTokens, teacherTokens, target, teacherLogits } = scope(() =>
      noGrad(() => {
        const maskedTokens = gather(tokens, slice(mask.shuffle, 1, mask.visible, masked), {
          unique: true,
        });
        const teacherTokens = this.#encode(
          (name) => this.teacherEncoder.get(name),
          concat([cls, maskedTokens], 1),
        );
        // Both losses read it row by row, so it is made dense once.
        const target = contiguous(slice(teacherTokens, 1, 1, masked));
        return {
          maskedTokens,
          teacherTokens,
          target,
          teacherLogits: headLogits((name) => this.teacherHead.get(name), target),
        };
      })
    );

    emaStep(this.centre, this.pendingCentre, centreDecay);
    const { loss: classificationLoss, probabilities } = centredCrossEntropy(
      studentLogits,
      teacherLogits,
      this.centre,
      { studentTemperature: STUDENT_TEMPERATURE, teacherTemperature },
    );
    noGrad(() => {
      const source = recipe.centerOn === "logits" ? teacherLogits : probabilities;
      using batchMean = mean(source, { axes: [0, 1] });
      this.device.copy(batchMean, this.pendingCentre);
      this.hasPendingCentre = true;
    });

    const predictionLoss = cosineLoss(prediction, target);
    const loss = add(
      mul(mean(predictionLoss), weights.pred),
      mul(mean(classificationLoss), weights.cls),
    );
    return {
      patchTokens,
      maskedTokens,
      studentTokens,
      teacherTokens,
      target,
      prediction,
      studentLogits,
      teacherLogits,
      probabilities,
      predictionLoss,
      classificationLoss,
      loss,
    };
  }

  /** Decay of the centre and its complement in the next forward pass: [1, 0] as long as no batch is pending. */
  centreDecay(): readonly [number, number] {
    return this.hasPendingCentre ? [CENTRE_MOMENTUM, 1 - CENTRE_MOMENTUM] : [1, 0];
  }

  /** The centre as the next forward pass will use it, [K]. */
  nextCentre(): Tensor {
    const [keep, take] = this.centreDecay();
    return noGrad(() => scope(() => add(mul(this.centre, keep), mul(this.pendingCentre, take))));
  }

  /** Overwrites both teachers with the student (recipe `paper`). */
  copyTeachersFromStudent(): void {
    for (const { own, other } of [...this.#teacherRuns.encoder, ...this.#teacherRuns.head]) {
      this.device.copy(own, other);
    }
  }

  /** Frees everything. */
  [Symbol.dispose](): void {
    for (const { own, other } of [...this.#teacherRuns.encoder, ...this.#teacherRuns.head]) {
      own.dispose();
      other.dispose();
    }
    for (
      const tensor of [this.centre, this.pendingCentre, this.#positions, this.#predictorPositions]
    ) tensor.dispose();
    for (const arena of [this.student, this.teacherEncoder, this.teacherHead]) {
      arena[Symbol.dispose]();
    }
  }
}
