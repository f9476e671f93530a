/**
 * MATPAC: masked latent prediction and unsupervised classification (SPEC sections 2.4 and 3).
 *
 * @module
 */
import {
  add,
  addScaled,
  cast,
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
  sub,
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
export function encoderSpecs(
  prefix: string,
  { width, depth }: Pick<Geometry, "width" | "depth">,
): ParameterSpec[] {
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
    ...headSpecs("cls_student_head.", geometry, recipe.headGains === "fixed"),
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

/** The centre in one of several forward passes that share an update. */
export interface SharedCentre {
  /** [K] centre that all passes use, the pending batch mean already folded in. */
  readonly used: Tensor;
  /** [K] to which each pass adds its part of the mean over the whole batch. */
  readonly batchMean: Tensor;
  /** A pass's part of the batch. */
  readonly share: number;
}

/** GPU values that change from step to step, so that a recorded step can be replayed. */
export interface StepInputs {
  /** [1] temperature of the teacher's softmax. */
  readonly teacherTemperature: Tensor;
  /** [2] from {@link Matpac.centreDecay}, or the centre of passes that do not keep it themselves. */
  readonly centre: Tensor | SharedCentre;
}

/** Number format of forward and backward passes: f32, or f16 with f32 masters and losses. */
export type Precision = "f32" | "mixed";

/**
 * Everything a forward pass computes; B clips, M masked of L patches, D width, K prototypes. Under mixed precision
 * tokens are f16; target, prediction, logits and what follows from them are f32.
 */
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

/** What forward passes compute with: parameters and tables themselves, or f16 copies. */
interface Working {
  readonly student: ParameterArena;
  readonly teacherEncoder: ParameterArena;
  readonly teacherHead: ParameterArena;
  readonly positions: Tensor;
  readonly predictorPositions: Tensor;
}

/** Losses and statistics are computed in f32. */
function widened(x: Tensor): Tensor {
  return x.dtype === "f16" ? cast(x, "f32") : x;
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
  #working: Working;
  readonly #teacherRuns: {
    readonly encoder: readonly TeacherRun[];
    readonly head: readonly TeacherRun[];
  };

  /** Makes all parameters; values come from initialisation or a file. */
  constructor(
    readonly device: Device,
    readonly geometry: Geometry,
    readonly recipe: Recipe,
    readonly precision: Precision = "f32",
  ) {
    const narrowest = precision === "mixed" ? "f16" : "f32";
    const arena = (specs: ParameterSpec[], trainable: boolean) =>
      new ParameterArena(device, specs, { trainable, narrowest });
    this.student = arena(studentSpecs(geometry, recipe), true);
    this.teacherEncoder = arena(encoderSpecs("", geometry), false);
    this.teacherHead = arena(headSpecs("", geometry, recipe.headGains === "fixed"), false);
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
    this.#working = precision === "mixed" ? this.#halved() : {
      student: this.student,
      teacherEncoder: this.teacherEncoder,
      teacherHead: this.teacherHead,
      positions: this.#positions,
      predictorPositions: this.#predictorPositions,
    };
    this.#teacherRuns = {
      encoder: this.student.runsOf(this.teacherEncoder, (name) => `student_encoder.${name}`),
      head: this.student.runsOf(this.teacherHead, (name) => `cls_student_head.${name}`),
    };
  }

  #halved(): Working {
    const student = this.student.halved();
    const { pos_embed: own, "decoder.decoder_pos_embed": predictor } = this.fixedPositions;
    const table = (name: string, fixed?: Tensor) =>
      fixed ? noGrad(() => cast(fixed, "f16")) : student.get(name);
    return {
      student,
      teacherEncoder: this.teacherEncoder.halved(),
      teacherHead: this.teacherHead.halved(),
      positions: table("pos_embed", own),
      predictorPositions: table("decoder.decoder_pos_embed", predictor),
    };
  }

  /**
   * Gives backward passes gradients of their own, to be added to the student's: adding up in the student's would take a
   * dispatch for each parameter. Under mixed precision they have them anyway.
   */
  separateGradients(): void {
    if (this.trained !== this.student) return;
    const student = this.student.withOwnGrads();
    const table = (name: string, fixed: Tensor) => student.has(name) ? student.get(name) : fixed;
    this.#working = {
      ...this.#working,
      student,
      positions: table("pos_embed", this.#positions),
      predictorPositions: table("decoder.decoder_pos_embed", this.#predictorPositions),
    };
  }

  /** What backward passes fill: {@link student}, its f16 copy, or the same with other gradients. */
  get trained(): ParameterArena {
    return this.#working.student;
  }

  /** Rounds the f16 copies anew from parameters and teachers; nothing to do in f32. Due before each update. */
  refreshCopies(): void {
    if (this.precision === "f32") return;
    for (const part of ["student", "teacherEncoder", "teacherHead"] as const) {
      this.#working[part].copyFrom(this[part]);
    }
  }

  /** Bytes of parameters, gradients and teachers, f16 copies included. */
  get bytes(): {
    readonly parameters: number;
    readonly gradients: number;
    readonly teachers: number;
  } {
    const { student, teacherEncoder, teacherHead } = this.#working;
    const bytes = (...tensors: readonly (Tensor | undefined)[]) =>
      [...new Set(tensors)].reduce((sum, it) => sum + (it ? it.size * it.itemSize : 0), 0);
    return {
      parameters: bytes(this.student.values, student.values),
      gradients: bytes(this.student.grads, student.grads),
      teachers: bytes(
        ...[this.teacherEncoder, this.teacherHead, teacherEncoder, teacherHead].map((it) =>
          it.values
        ),
      ),
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
    const p = within((name) => this.#working.student.get(name), "decoder.");
    const [batch, patches] = mask.shuffle.shape;
    const masked = patches - mask.visible;
    const embedded = dense(p, "decoder_embed", studentTokens);
    const shuffled = concat([
      slice(embedded, 1, 1, mask.visible),
      expand(p("mask_token"), [batch, masked, width]),
    ], 1);
    const grid = gather(shuffled, mask.restore, { unique: true });
    const sequence = add(
      concat([slice(embedded, 1, 0, 1), grid], 1),
      this.#working.predictorPositions,
    );
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
   * batch's pending (SPEC section 3), unless the caller keeps the centre.
   *
   * @param input [B, bands, frames] standardised log-mel
   * @param values what changes from step to step
   * @param weights of the two losses
   */
  forward(
    input: Tensor,
    mask: DeviceMask,
    { teacherTemperature, centre }: StepInputs,
    weights: { readonly pred: number; readonly cls: number },
  ): MatpacForward {
    const { geometry, recipe } = this;
    const working = this.#working;
    const p: Lookup = (name) => working.student.get(name);
    const image = this.precision === "mixed" ? cast(input, "f16") : input;
    const patchTokens = patchEmbed(within(p, "patch_embed."), image, geometry.patchSize);
    const [batch, patches] = patchTokens.shape;
    const masked = patches - mask.visible;
    const tokens = add(patchTokens, slice(working.positions, 1, 1, patches));
    const cls = expand(add(p("cls_token"), slice(working.positions, 1, 0, 1)), [
      batch,
      1,
      geometry.width,
    ]);

    const visible = gather(tokens, slice(mask.shuffle, 1, 0, mask.visible), { unique: true });
    const studentTokens = this.#encode(within(p, "student_encoder."), concat([cls, visible], 1));
    const predicted = this.#predict(studentTokens, mask);
    const studentLogits = widened(headLogits(within(p, "cls_student_head."), predicted));
    const prediction = widened(predicted);

    const { maskedTokens, teacherTokens, target, teacherLogits } = scope(() =>
      noGrad(() => {
        const maskedTokens = gather(tokens, slice(mask.shuffle, 1, mask.visible, masked), {
          unique: true,
        });
        const teacherTokens = this.#encode(
          (name) => working.teacherEncoder.get(name),
          concat([cls, maskedTokens], 1),
        );
        // Both losses read it row by row, so it is made dense once.
        const latents = contiguous(slice(teacherTokens, 1, 1, masked));
        return {
          maskedTokens,
          teacherTokens,
          target: widened(latents),
          teacherLogits: widened(headLogits((name) => working.teacherHead.get(name), latents)),
        };
      })
    );

    const shared = "used" in centre ? centre : undefined;
    if (!("used" in centre)) emaStep(this.centre, this.pendingCentre, centre);
    const { loss: classificationLoss, probabilities } = centredCrossEntropy(
      studentLogits,
      teacherLogits,
      shared?.used ?? this.centre,
      { studentTemperature: STUDENT_TEMPERATURE, teacherTemperature },
    );
    noGrad(() => {
      const source = recipe.centerOn === "logits" ? teacherLogits : probabilities;
      using batchMean = mean(source, { axes: [0, 1] });
      if (shared) addScaled(shared.batchMean, batchMean, shared.share);
      else {
        this.device.copy(batchMean, this.pendingCentre);
        this.hasPendingCentre = true;
      }
    });

    // Standardising is centring here: the cosine does not see a token's scale.
    const wanted = recipe.targets === "raw"
      ? target
      : noGrad(() => sub(target, mean(target, { axes: [2], keepDims: true })));
    const predictionLoss = cosineLoss(prediction, wanted);
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
  centreDecay(pending: boolean = this.hasPendingCentre): readonly [number, number] {
    return pending ? [CENTRE_MOMENTUM, 1 - CENTRE_MOMENTUM] : [1, 0];
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
    const { positions, predictorPositions, ...copies } = this.#working;
    const tables = [this.#positions, this.#predictorPositions, positions, predictorPositions];
    for (const tensor of [this.centre, this.pendingCentre, ...tables]) tensor.dispose();
    const arenas = [this.student, this.teacherEncoder, this.teacherHead];
    for (const arena of [...arenas, ...Object.values(copies)]) arena[Symbol.dispose]();
  }
}
