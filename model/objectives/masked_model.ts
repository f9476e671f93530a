/**
 * What MSM-MAE, M2D, MATPAC and MATPAC++ share: patches and positions, an encoder that sees the
 * visible patches, a predictor that fills in the others, and averaged copies of parts
 * (model/README.md, Encoder, Predictor and Teachers). What each adds is in msm_mae.ts, m2d.ts,
 * matpac.ts and matpac_plus.ts, in this order: each of the last three builds on the one before.
 *
 * @module
 */
import {
  add,
  batchedIndexSelect,
  cast,
  concat,
  type Device,
  expand,
  noGrad,
  slice,
  type Tensor,
  within,
} from "../../engine/functions.ts";
import { ParameterArena, type ParameterSpec } from "../vit/parameter_arena.ts";
import { cropPositions, sinCosPositions, sinCosPositions1d } from "../vit/positions.ts";
import { type Geometry, patchGrid, patchSides } from "../vit/geometry.ts";
import { contrastLoss, projection } from "./contrast.ts";
import type { Recipe } from "./recipe.ts";
import { behindClass, classTokens, type TokenView, tokenView } from "../vit/tokens.ts";
import { blocks, dense, type Lookup, norm } from "../vit/blocks.ts";
import {
  blocksSpecs,
  embeddingSpecs,
  encoderSpecs,
  linearSpecs,
  normSpecs,
  projectionSpecs,
} from "../vit/parameter_specs.ts";

/** A mask on the GPU. */
export interface DeviceMask {
  /**
   * u32 [batch, patches]; visible patches first. Where clips have several masks (M2D and those that
   * build on it), [batch, masks · patches], one mask behind the other.
   */
  readonly shuffle: Tensor;
  /** u32, the same shape; inverse of each mask's part of `shuffle`. */
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

/**
 * GPU values that change from step to step, so that a recorded step can be replayed. Objectives
 * read what they need.
 */
export interface StepInputs {
  /** [1] temperature of the teacher's softmax. */
  readonly teacherTemperature: Tensor;
  /**
   * [2] from {@link MaskedModel.centreDecay}, or the centre of passes that do not keep it
   * themselves.
   */
  readonly centre: Tensor | SharedCentre;
  /** How the losses of competing predictor heads count; each [1]. */
  readonly assignment: {
    /** Temperature of the softmax over heads. */
    readonly temperature: Tensor;
    /** 1 while that softmax says how, else 0. */
    readonly soft: Tensor;
    /** 1 when all is the best head's, else 0. */
    readonly hard: Tensor;
  };
}

/** Weights of the losses. */
export interface LossWeights {
  /** Of prediction. */
  readonly pred: number;
  /** Of classification. */
  readonly cls: number;
  /** Of the contrast of clips; default 0, without. */
  readonly contrast?: number;
}

/** Number format of forward and backward passes: f32, or f16 with f32 masters and losses. */
export type Precision = "f32" | "mixed";

/**
 * What every objective's forward pass computes; B clips, L patches, M of them masked, V visible, D
 * width, X values that are predicted for a patch. Under mixed precision tokens are f16; targets,
 * predictions and what follows from them are f32.
 */
export interface Forward {
  /** [B, L, D] patch embeddings before positions. */
  readonly patchTokens: Tensor;
  /** [B, 1 + V, D] student's view, class token first, if there is one. */
  readonly studentTokens: Tensor;
  /** [B, M, X] what is to be predicted. */
  readonly target: Tensor;
  /** [B, M, X] what is predicted. */
  readonly prediction: Tensor;
  /** [B, M] prediction loss per token. */
  readonly predictionLoss: Tensor;
  /** [B, M] classification loss per token, in objectives that classify. */
  readonly classificationLoss?: Tensor;
  /** [B, M, K] classification targets. */
  readonly probabilities?: Tensor;
  /** [1] loss of {@link MaskedModel.contrast}, where it has a weight. */
  readonly contrastLoss?: Tensor;
  /** f32 [B, M, H], 1 at the predictor head that came closest, in objectives with several. */
  readonly winners?: Tensor;
  /** [1] weighted mean over all masked tokens, with what contrast adds. */
  readonly loss: Tensor;
}

/** A part of the student (`own`) and the part of a teacher (`other`) that averages it. */
export interface TeacherRun {
  /** Student's values, flat. */
  readonly own: Tensor;
  /** Teacher's values, flat. */
  readonly other: Tensor;
}

/** What is averaged. */
export type TeacherName = "encoder" | "head";

/** Prefixes of the teachers in the official state dict. */
export const TEACHER_PREFIX: Readonly<Record<TeacherName, string>> = {
  encoder: "_ema.",
  head: "_cls_head_ema.",
};

/** An average of a part of the student. */
export interface Teacher {
  /** Which part. */
  readonly name: TeacherName;
  /** Its parameters, named as in the official state dict without {@link TEACHER_PREFIX}. */
  readonly arena: ParameterArena;
  /** Prefix of the parameters of the student that it averages. */
  readonly averages: string;
  /** Contiguous parts of student and teacher that averaging pairs up. */
  readonly runs: readonly TeacherRun[];
}

/** Parts of a model that depend on the objective. */
export interface ObjectiveParts {
  /** Parameters of the student. */
  readonly student: readonly ParameterSpec[];
  /** What is averaged. */
  readonly teachers?: readonly (Pick<Teacher, "name" | "averages"> & {
    readonly specs: readonly ParameterSpec[];
  })[];
}

/** What forward passes compute with: parameters and tables themselves, or f16 copies. */
interface Working {
  readonly student: ParameterArena;
  readonly teachers: Readonly<Partial<Record<TeacherName, ParameterArena>>>;
  readonly positions: Tensor;
  readonly predictorPositions: Tensor;
}

/** Losses and statistics are computed in f32. */
export function widened(x: Tensor): Tensor {
  return x.dtype === "f16" ? cast(x, "f32") : x;
}

/**
 * Trained parameters that all objectives have, in the order of the official state dict
 * (model/README.md, Checkpoints).
 *
 * @param outputs values that the predictor gives for a patch
 */
export function sharedSpecs(
  geometry: Geometry,
  recipe: Pick<Recipe, "positions">,
  outputs: number,
): ParameterSpec[] {
  const { width, classToken, predictorWidth, predictorDepth, keyBias, mclHeads = 0, projection } =
    geometry;
  // Competing heads take the place of the last layer, which stays in the state dict as it is.
  const frozen = mclHeads > 0;
  const positions = recipe.positions === "learned"
    ? classTokens(geometry) + patchGrid(geometry).patches
    : undefined;
  return [
    ...embeddingSpecs({ width, classToken, patch: patchSides(geometry), positions }),
    ...encoderSpecs("student_encoder.", geometry),
    { name: "decoder.mask_token", shape: [1, 1, predictorWidth] },
    ...(positions
      ? [{ name: "decoder.decoder_pos_embed", shape: [1, positions, predictorWidth] }]
      : []),
    ...linearSpecs("decoder.decoder_embed", width, predictorWidth),
    ...blocksSpecs("decoder.decoder_blocks.", predictorWidth, predictorDepth, keyBias),
    ...normSpecs("decoder.decoder_norm", predictorWidth),
    ...linearSpecs("decoder.decoder_pred", predictorWidth, outputs)
      .map((spec) => frozen ? { ...spec, frozen } : spec),
    ...projection ? projectionSpecs(width) : [],
  ];
}

/** Student, teachers and tables of an objective. */
export abstract class MaskedModel implements Disposable {
  /** Trained parameters. */
  readonly student: ParameterArena;
  /** Averaged copies of parts of the student; none in MSM-MAE. */
  readonly teachers: readonly Teacher[];
  /**
   * When an update averages: before its gradient step, from the second update on (MATPAC), or after
   * it (M2D); see model/README.md, Teachers.
   */
  readonly averaging: "before" | "after" = "after";
  /** [K] centre of the teacher's logits, in objectives that classify. */
  readonly centre: Tensor | undefined = undefined;
  /** [K] batch mean that the next forward pass folds into {@link centre}. */
  readonly pendingCentre: Tensor | undefined = undefined;
  /** Whether {@link pendingCentre} waits to be applied. */
  hasPendingCentre = false;
  /**
   * Whether the backward pass computes transformer blocks again, to save the memory of their
   * activations.
   */
  recompute = false;
  readonly #positions: Tensor;
  readonly #predictorPositions: Tensor;
  #working: Working;

  /** Makes all parameters; values come from initialisation or a file. */
  constructor(
    readonly device: Device,
    readonly geometry: Geometry,
    readonly recipe: Recipe,
    readonly precision: Precision,
    parts: ObjectiveParts,
  ) {
    const narrowest = precision === "mixed" ? "f16" : "f32";
    const arena = (specs: readonly ParameterSpec[], trainable: boolean) =>
      new ParameterArena(device, specs, { trainable, narrowest });
    this.student = arena(parts.student, true);
    this.teachers = (parts.teachers ?? []).map(({ name, averages, specs }) => {
      const copy = arena(specs, false);
      const runs = this.student.runsOf(copy, (it) => `${averages}${it}`);
      return { name, averages, arena: copy, runs };
    });
    const { rows, columns, patches } = patchGrid(geometry);
    const prefix = classTokens(geometry);
    const table = (name: string, width: number, layout: "1d" | "2d" = "2d"): Tensor => {
      const all = layout === "1d"
        ? sinCosPositions1d(width, patches)
        : sinCosPositions(width, rows, columns);
      // The table's first row is the class token's.
      const values = prefix ? all : all.subarray(width);
      if (recipe.positions === "fixed") return device.tensor(values, [1, prefix + patches, width]);
      this.student.load([[name, values]]);
      return this.student.get(name);
    };
    this.#positions = table("pos_embed", geometry.width);
    this.#predictorPositions = table(
      "decoder.decoder_pos_embed",
      geometry.predictorWidth,
      geometry.predictorPositions,
    );
    this.#working = precision === "mixed" ? this.#halved() : {
      student: this.student,
      teachers: Object.fromEntries(this.teachers.map(({ name, arena }) => [name, arena])),
      positions: this.#positions,
      predictorPositions: this.#predictorPositions,
    };
  }

  /**
   * Losses of one batch, and everything on the way to them.
   *
   * @param input [B, bands, frames] standardised log-mel; fewer frames than the geometry's take the
   * positions of its first columns
   * @param values what changes from step to step
   */
  abstract forward(
    input: Tensor,
    mask: DeviceMask,
    values: StepInputs,
    weights: LossWeights,
  ): Forward;

  #halved(): Working {
    const student = this.student.halved();
    const { pos_embed: own, "decoder.decoder_pos_embed": predictor } = this.fixedPositions;
    const table = (name: string, fixed?: Tensor) =>
      fixed ? noGrad(() => cast(fixed, "f16")) : student.get(name);
    return {
      student,
      teachers: Object.fromEntries(this.teachers.map(({ name, arena }) => [name, arena.halved()])),
      positions: table("pos_embed", own),
      predictorPositions: table("decoder.decoder_pos_embed", predictor),
    };
  }

  /**
   * Gives backward passes gradients of their own, to be added to the student's: adding up in the
   * student's would take a dispatch for each parameter. Under mixed precision they have them
   * anyway.
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

  /**
   * Rounds the f16 copies anew from parameters and teachers; nothing to do in f32. Due before each
   * update.
   */
  refreshCopies(): void {
    if (this.precision === "f32") return;
    this.#working.student.copyFrom(this.student);
    for (const { name, arena } of this.teachers) this.#working.teachers[name]!.copyFrom(arena);
  }

  /** Bytes of parameters, gradients and teachers, f16 copies included. */
  get bytes(): {
    readonly parameters: number;
    readonly gradients: number;
    readonly teachers: number;
  } {
    const { student, teachers } = this.#working;
    const bytes = (...tensors: readonly (Tensor | undefined)[]) =>
      [...new Set(tensors)].reduce((sum, it) => sum + (it ? it.size * it.itemSize : 0), 0);
    const arenas = [...this.teachers.map(({ arena }) => arena), ...Object.values(teachers)];
    return {
      parameters: bytes(this.student.values, student.values),
      gradients: bytes(this.student.grads, student.grads),
      teachers: bytes(...arenas.map((it) => it.values)),
    };
  }

  /** Position tables that are not trained, by official name; empty when they are learned. */
  get fixedPositions(): Readonly<Record<string, Tensor>> {
    if (this.recipe.positions === "learned") return {};
    return { pos_embed: this.#positions, "decoder.decoder_pos_embed": this.#predictorPositions };
  }

  /** Parameters that forward passes read, by official name. */
  protected readonly parameter: Lookup = (name) => this.#working.student.get(name);

  /** Parameters of a teacher that forward passes read. */
  protected teacherParameter(teacher: TeacherName): Lookup {
    return (name) => this.#working.teachers[teacher]!.get(name);
  }

  /**
   * Contrast of clips, of which the batch has two crops each, one after the other.
   *
   * @param studentTokens as in {@link Forward}
   * @returns [1]
   * @throws {RangeError} if the number of crops is odd
   */
  contrast(studentTokens: Tensor): Tensor {
    const [batch, tokens] = studentTokens.shape;
    if (batch % 2 !== 0) throw new RangeError(`clips have two crops each, not ${batch} in all`);
    const prefix = classTokens(this.geometry);
    const patches = prefix ? slice(studentTokens, 1, prefix, tokens - prefix) : studentTokens;
    return contrastLoss(widened(projection(this.parameter, patches)));
  }

  /** Patches of a batch as tokens, with positions. */
  protected view(input: Tensor): TokenView {
    const { geometry } = this;
    const image = this.precision === "mixed" ? cast(input, "f16") : input;
    const sizes = { ...geometry, patch: geometry.patchSize, grid: patchGrid(geometry) };
    return tokenView(this.parameter, image, sizes, this.#working.positions);
  }

  /**
   * An encoder's view of some tokens.
   *
   * @param p parameters below its prefix
   * @param tokens [B, n, D]
   * @param each as in {@link blocks}
   * @returns [B, 1 + n, D] after the final norm; n tokens without a class token
   */
  protected encode(
    p: Lookup,
    view: TokenView,
    tokens: Tensor,
    each?: (block: number, y: Tensor) => void,
  ): Tensor {
    const { geometry, recompute } = this;
    const sequence = behindClass(view, tokens);
    return norm(p, "norm", blocks(p, "blocks.", sequence, { ...geometry, recompute, each }));
  }

  /** The student's view of the visible patches. */
  protected encodeVisible(view: TokenView, mask: DeviceMask): Tensor {
    const visible = batchedIndexSelect(view.tokens, slice(mask.shuffle, 1, 0, mask.visible), {
      unique: true,
    });
    return this.encode(within(this.parameter, "student_encoder."), view, visible);
  }

  /**
   * The predictor: mask tokens are put where patches were left out, and all attend to all.
   *
   * @param studentTokens from {@link encodeVisible}
   * @param output masked patches in the mask's order, or all patches of the grid
   * @returns [B, M or L, predictor width] after the predictor's norm, without the class token
   */
  protected decode(
    studentTokens: Tensor,
    mask: DeviceMask,
    output: "masked" | "all" = "masked",
  ): Tensor {
    const { geometry } = this;
    const { predictorWidth: width, predictorDepth, predictorHeads, keyBias } = geometry;
    const prefix = classTokens(geometry);
    const p = within(this.parameter, "decoder.");
    const [batch, patches] = mask.shuffle.shape;
    const masked = patches - mask.visible;
    const embedded = dense(p, "decoder_embed", studentTokens);
    const shuffled = concat([
      prefix ? slice(embedded, 1, 1, mask.visible) : embedded,
      expand(p("mask_token"), [batch, masked, width]),
    ], 1);
    const grid = batchedIndexSelect(shuffled, mask.restore, { unique: true });
    const cls = prefix ? slice(embedded, 1, 0, 1) : undefined;
    const whole = patchGrid(geometry);
    const table = this.#working.predictorPositions;
    const positions = cropPositions(table, whole, patches / whole.rows);
    const sequence = add(behindClass({ cls }, grid), positions);
    const hidden = blocks(p, "decoder_blocks.", sequence, {
      depth: predictorDepth,
      heads: predictorHeads,
      keyBias,
      recompute: this.recompute,
    });
    const normed = norm(p, "decoder_norm", hidden);
    const all = prefix ? slice(normed, 1, 1, patches) : normed;
    if (output === "all") return all;
    return batchedIndexSelect(all, slice(mask.shuffle, 1, mask.visible, masked), { unique: true });
  }

  /**
   * Decay of the centre and its complement in the next forward pass: [1, 0] as long as no batch is
   * pending.
   */
  centreDecay(_pending: boolean = this.hasPendingCentre): readonly [number, number] {
    return [1, 0];
  }

  /** Overwrites all teachers with the student (recipe `paper`). */
  copyTeachersFromStudent(): void {
    for (const { runs } of this.teachers) {
      for (const { own, other } of runs) this.device.copy(own, other);
    }
  }

  /** Frees everything. */
  [Symbol.dispose](): void {
    for (const { own, other } of this.teachers.flatMap(({ runs }) => runs)) {
      own.dispose();
      other.dispose();
    }
    const { student, teachers, positions, predictorPositions } = this.#working;
    const tables = [this.#positions, this.#predictorPositions, positions, predictorPositions];
    for (const tensor of [this.centre, this.pendingCentre, ...tables]) tensor?.dispose();
    const arenas = [this.student, student, ...this.teachers.map(({ arena }) => arena)];
    for (const arena of [...arenas, ...Object.values(teachers)]) arena[Symbol.dispose]();
  }
}
