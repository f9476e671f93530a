/**
 * Sizes of a model from the shapes of its tensors, under MATPAC's names, and what a checkpoint
 * lacks or has beyond them.
 *
 * @module
 */
import { headSpecs } from "../vit/projection_head.ts";
import {
  blocksSpecs,
  embeddingSpecs,
  encoderSpecs,
  linearSpecs,
  normSpecs,
  projectionSpecs,
} from "../vit/parameter_specs.ts";
import { CheckpointError, type StoredTensors, type SystemName } from "./checkpoint_names.ts";
import { countOf } from "./stored_tensor.ts";

/** Sizes of a model, as far as shapes tell them. */
export interface CheckpointGeometry {
  /** Encoder width. */
  readonly width: number;
  /** Encoder blocks. */
  readonly depth: number;
  /** Encoder attention heads; shapes do not tell: given, else a head for 64 values, else null. */
  readonly heads: number | null;
  /** Mel bands of the input: 80 in all systems. */
  readonly melBands: number;
  /** Bands and frames of a patch. */
  readonly patch: readonly [bands: number, frames: number];
  /** Patches along frequency and time. */
  readonly grid: readonly [rows: number, columns: number];
  /** Frames of a training crop. */
  readonly frames: number;
  /** Whether there is a class token. */
  readonly classToken: boolean;
  /** The predictor, where there is one. */
  readonly predictor: {
    /** Its width. */
    readonly width: number;
    /** Its blocks. */
    readonly depth: number;
    /** Its attention heads; as those of the encoder, with 32 values a head in MATPAC and M2D. */
    readonly heads: number | null;
    /** Values it gives for a patch. */
    readonly outputs: number;
  } | null;
  /** Heads of the predictor that compete (MATPAC++); 0 without. */
  readonly choices: number;
  /** The classification head of pre-training, where there is one. */
  readonly head: {
    /** Hidden width. */
    readonly hidden: number;
    /** Width before the prototypes. */
    readonly bottleneck: number;
    /** Prototypes. */
    readonly prototypes: number;
  } | null;
  /** Classes of a head that was trained afterwards; 0 without. */
  readonly classes: number;
}

/** Attention heads that are known from elsewhere. */
export interface KnownHeads {
  /** Of the encoder. */
  readonly encoder?: number;
  /** Of the predictor. */
  readonly predictor?: number;
}

const MEL_BANDS = 80;
/** Beyond every model there is; an index in a name must not make lists of any length. */
const MAX_BLOCKS = 1024;

/** Names of the state of training, which is no part of a model. */
export const TRAINING_STATE = /^(optimizer\.|cls_head_loss\.pending_center$)/;
/** Names of an encoder: what embeddings need. */
export const ENCODER_PARTS =
  /^(cls_token|pos_embed|norm_stats)$|^(patch_embed|student_encoder|head_norm|head)\./;

/** How many of `start0.`, `start1.`, … there are. */
function indices(tensors: StoredTensors, start: string): number {
  let count = 0;
  for (const name of tensors.keys()) {
    if (!name.startsWith(start)) continue;
    const index = /^(\d{1,9})\./.exec(name.slice(start.length))?.[1];
    if (index !== undefined) count = Math.max(count, Number(index) + 1);
  }
  if (count > MAX_BLOCKS) throw new CheckpointError(`${start}${count - 1} is one too many`);
  return count;
}

function sizesOf(tensors: StoredTensors, name: string, axes: number): readonly number[] {
  const tensor = tensors.get(name);
  if (!tensor) throw new CheckpointError(`there is no ${name}, which tells the model's size`);
  if (tensor.shape.length !== axes || tensor.shape.includes(0)) {
    throw new CheckpointError(`${name} has the shape [${tensor.shape}]; ${axes} axes are needed`);
  }
  return tensor.shape;
}

/**
 * Sizes of a model.
 *
 * @param tensors under MATPAC's names
 * @param heads attention heads, where they are known
 * @throws {CheckpointError} if a shape that tells them is missing or fits no grid of patches
 */
export function geometryOf(
  tensors: StoredTensors,
  system: SystemName,
  heads: KnownHeads = {},
): CheckpointGeometry {
  const [width, , bands, patchFrames] = sizesOf(tensors, "patch_embed.proj.weight", 4);
  const [, tokens] = sizesOf(tensors, "pos_embed", 3);
  const classToken = tensors.has("cls_token");
  const rows = MEL_BANDS / bands;
  // Without a class token its row of the table may still be there.
  const patches = [classToken ? tokens - 1 : tokens, tokens - 1].find((it) =>
    it > 0 && it % rows === 0
  );
  if (!Number.isInteger(rows) || patches === undefined) {
    throw new CheckpointError(
      `${tokens} positions and patches of ${bands} bands do not make a grid over ` +
        `${MEL_BANDS} bands`,
    );
  }
  const columns = patches / rows;
  const perHead = system === "msm-mae" ? 64 : 32;
  const headsOf = (known: number | undefined, size: number, each: number): number | null => {
    const count = known ?? size / each;
    if (known !== undefined && size % known !== 0) {
      throw new CheckpointError(`a width of ${size} cannot be shared by ${known} attention heads`);
    }
    return Number.isInteger(count) ? count : null;
  };
  const part = (name: string, axes: number) =>
    tensors.has(name) ? sizesOf(tensors, name, axes) : undefined;
  const predictor = part("decoder.decoder_embed.weight", 2);
  const hidden = part("cls_student_head.mlp.0.weight", 2);
  const prototypes = part("cls_student_head.last_layer.weight_v", 2);
  return {
    width,
    depth: indices(tensors, "student_encoder.blocks."),
    heads: headsOf(heads.encoder, width, 64),
    melBands: MEL_BANDS,
    patch: [bands, patchFrames],
    grid: [rows, columns],
    frames: columns * patchFrames,
    classToken,
    predictor: predictor
      ? {
        width: predictor[0],
        depth: indices(tensors, "decoder.decoder_blocks."),
        heads: headsOf(heads.predictor, predictor[0], perHead),
        outputs: part("decoder.decoder_pred.weight", 2)?.[0] ?? width,
      }
      : null,
    choices: indices(tensors, "mcl_heads.mcl_heads."),
    head: hidden && prototypes
      ? { hidden: hidden[0], bottleneck: prototypes[1], prototypes: prototypes[0] }
      : null,
    classes: part("head.weight", 2)?.[0] ?? 0,
  };
}

/** A part of a model: what it is called, and the shapes of its tensors. */
export interface CheckpointPart {
  /** For people. */
  readonly name: string;
  /** Shapes by name. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
}

type Spec = { readonly name: string; readonly shape: readonly number[] };

/**
 * The parts that a checkpoint has anything of, with all that belongs to them. The encoder is always
 * one.
 */
export function expectedParts(
  tensors: StoredTensors,
  geometry: CheckpointGeometry,
): CheckpointPart[] {
  const { width, depth, patch, predictor, head, choices, classes, classToken } = geometry;
  // As long as the table that is there: its own size was judged before.
  const positions = tensors.get("pos_embed")?.shape[1] ?? 0;
  const encoder = (start: string): Spec[] => encoderSpecs(start, { width, depth });
  const sizes = { width, headHidden: head?.hidden ?? 0, bottleneck: head?.bottleneck ?? 0 };
  const heads = (start: string) =>
    headSpecs(start, { ...sizes, prototypes: head?.prototypes ?? 0 });
  const classifier = tensors.get("head.weight")?.shape[1] ?? 0;
  const all: [name: string, there: boolean, specs: () => Spec[]][] = [
    ["encoder", true, () => [
      ...embeddingSpecs({ width, classToken, patch, positions }),
      ...encoder("student_encoder."),
    ]],
    ["predictor", predictor !== null, () => [
      { name: "decoder.mask_token", shape: [1, 1, predictor!.width] },
      { name: "decoder.decoder_pos_embed", shape: [1, positions, predictor!.width] },
      ...linearSpecs("decoder.decoder_embed", width, predictor!.width),
      ...blocksSpecs("decoder.decoder_blocks.", predictor!.width, predictor!.depth),
      ...normSpecs("decoder.decoder_norm", predictor!.width),
      ...linearSpecs("decoder.decoder_pred", predictor!.width, predictor!.outputs),
    ]],
    [
      "competing predictor heads",
      choices > 0,
      () =>
        Array.from(
          { length: choices },
          (_, i) => linearSpecs(`mcl_heads.mcl_heads.${i}`, predictor?.width ?? 0, width),
        ).flat(),
    ],
    ["teacher encoder", has(tensors, "_ema."), () => encoder("_ema.")],
    ["classification head", head !== null, () => [
      ...heads("cls_student_head."),
      { name: "cls_head_loss.center", shape: [1, 1, head!.prototypes] },
    ]],
    [
      "teacher head",
      head !== null && has(tensors, "_cls_head_ema."),
      () => heads("_cls_head_ema."),
    ],
    ["classifier", classes > 0, () => [
      { name: "head_norm.running_mean", shape: [classifier] },
      { name: "head_norm.running_var", shape: [classifier] },
      ...linearSpecs("head", classifier, classes),
    ]],
    ["projection of clips", has(tensors, "projection."), () => projectionSpecs(width)],
    ["statistics", tensors.has("norm_stats"), () => [{ name: "norm_stats", shape: [2] }]],
  ];
  return all.filter(([, there]) => there).map(([name, , specs]) => ({
    name,
    shapes: new Map(specs().map((it) => [it.name, it.shape])),
  }));
}

function has(tensors: StoredTensors, start: string): boolean {
  return [...tensors.keys()].some((it) => it.startsWith(start));
}

/** How a checkpoint differs from what its parts are made of. */
export interface CheckpointDifferences {
  /** Tensors that are not there. */
  readonly missing: readonly string[];
  /** Tensors of another shape, with both. */
  readonly misshaped: readonly {
    /** Name. */
    readonly name: string;
    /** What it has. */
    readonly shape: readonly number[];
    /** What it should have. */
    readonly expected: readonly number[];
  }[];
  /** Tensors that belong to no part; those of training's state are none. */
  readonly surplus: readonly string[];
  /** Values in all parts. */
  readonly parameters: number;
}

/** Compares tensors with the parts they are taken for. */
export function differences(
  tensors: StoredTensors,
  parts: readonly CheckpointPart[],
): CheckpointDifferences {
  const expected = new Map(parts.flatMap(({ shapes }) => [...shapes]));
  const there = [...expected].flatMap(([name, shape]) => {
    const tensor = tensors.get(name);
    return tensor ? [{ name, shape: tensor.shape, expected: shape }] : [];
  });
  return {
    missing: [...expected.keys()].filter((it) => !tensors.has(it)),
    misshaped: there.filter((it) => String(it.shape) !== String(it.expected)),
    surplus: [...tensors.keys()].filter((it) => !expected.has(it) && !TRAINING_STATE.test(it)),
    parameters: there.reduce((sum, it) => sum + countOf(it.shape), 0),
  };
}
