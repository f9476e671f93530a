/**
 * A run's state as named tensors: what checkpoints hold (model/README.md, Checkpoints).
 *
 * @module
 */
import type { DType, HostArray, Shape, Tensor } from "../../engine/mod.ts";
import type { ParameterArena, ParameterSpec } from "../../model/vit/parameter_arena.ts";
import { type MaskedModel, TEACHER_PREFIX } from "../../model/objectives/masked_model.ts";
import { classTokens } from "../../model/vit/tokens.ts";
import { patchGrid } from "../../model/vit/geometry.ts";
import type { SafetensorsTensor } from "../../engine/formats/safetensors.ts";
import { yieldToEventLoop } from "../io/event_loop.ts";
import type { CheckpointTensor } from "./checkpoint.ts";
import type { Trainer } from "./update.ts";

const CENTRE = "cls_head_loss.center";
const PENDING_CENTRE = "cls_head_loss.pending_center";
const LOSS_SCALE = "optimizer.loss_scale";
const MOMENTS = { m: "optimizer.m.", v: "optimizer.v." } as const;

/** Parts of the student that make the encoder people use: no predictor, no head. */
const ENCODER_PARTS = /^(cls_token|pos_embed|patch_embed\.|student_encoder\.)/;

/** Tensors of a file by name. */
export type Tensors = ReadonlyMap<string, SafetensorsTensor>;

/** Named tensors on their way to the host. */
export interface PendingTensors {
  /** Waits for them. */
  fetch(): Promise<[string, CheckpointTensor][]>;
}

/**
 * Part of a run's state that is a tensor of its own; one more line here saves and restores another.
 */
function singles({ model, trainer: { lossScale } }: RunState): [string, Tensor, Shape][] {
  const { centre, pendingCentre } = model;
  const prototypes = (it: Tensor): Shape => [1, 1, it.size];
  return [
    ...centre ? [[CENTRE, centre, prototypes(centre)] as [string, Tensor, Shape]] : [],
    ...pendingCentre
      ? [[PENDING_CENTRE, pendingCentre, prototypes(pendingCentre)] as [string, Tensor, Shape]]
      : [],
    ...lossScale
      ? [[LOSS_SCALE, lossScale.state, lossScale.state.shape] as [string, Tensor, Shape]]
      : [],
  ];
}

/**
 * Flat tensors that hold a value for each parameter of an arena, with the prefix of their names.
 */
function flats({ model, trainer }: RunState): [string, ParameterArena, Tensor][] {
  const { student, teachers } = model;
  return [
    ["", student, student.values],
    ...teachers.map(({ name, arena }): [string, ParameterArena, Tensor] => [
      TEACHER_PREFIX[name],
      arena,
      arena.values,
    ]),
    [MOMENTS.m, student, trainer.m],
    [MOMENTS.v, student, trainer.v],
  ];
}

/** What {@link snapshotState} copies. */
export interface RunState {
  /** Student, teachers and centre. */
  readonly model: MaskedModel;
  /** The optimizer's state. */
  readonly trainer: Trainer;
}

/**
 * Copies all tensors of a run on the device, in order with its work; they are fetched later, in a
 * fixed order, while updates that follow go on.
 */
export function snapshotState(state: RunState): PendingTensors {
  const parts: (() => Promise<[string, CheckpointTensor][]>)[] = [
    ...flats(state).map(([prefix, arena, flat]) => {
      const copied = copyOf(flat);
      return async () =>
        [...arena.byParameter(await copied() as Float32Array)].map((
          [name, tensor],
        ): [string, CheckpointTensor] => [prefix + name, tensor]);
    }),
    ...[...singles(state), ...fixedPositions(state.model)].map(([name, tensor, shape]) => {
      const copied = copyOf(tensor);
      return async (): Promise<[string, CheckpointTensor][]> => [
        [name, { shape, data: await copied() }],
      ];
    }),
  ];
  return {
    fetch: async () => {
      const all: [string, CheckpointTensor][] = [];
      for (const part of parts) all.push(...await part());
      return all;
    },
  };
}

/**
 * Elements that are copied into one buffer of the host: buffers are rounded up to powers of two.
 */
const PIECE = 2 ** 24;

/** Copies a dense tensor on the device now; its values are fetched when they are asked for. */
function copyOf(tensor: Tensor): () => Promise<HostArray> {
  const { device, size, offset } = tensor;
  const pieces = Array.from({ length: Math.ceil(size / PIECE) }, (_, i) => {
    const view = tensor.view([Math.min(PIECE, size - i * PIECE)], undefined, offset + i * PIECE);
    const read = device.readLater([view]);
    view.dispose();
    return read;
  });
  return async () => {
    let whole: HostArray | undefined;
    for (const [i, piece] of pieces.entries()) {
      // Each takes some 0.1 s in which no signal would be heard.
      if (i > 0) await yieldToEventLoop();
      const [values] = await piece.values();
      if (pieces.length === 1) return values;
      whole ??= new (values.constructor as new (length: number) => HostArray)(size);
      whole.set(values, i * PIECE);
    }
    return whole!;
  };
}

/**
 * Position tables that are no parameters, under their official names; none when they are learned.
 */
function fixedPositions(model: MaskedModel): [string, Tensor, Shape][] {
  return Object.entries(model.fixedPositions).map(([name, it]) => [name, it, it.shape]);
}

/** Of tensors those of the student's encoder. */
export function encoderPart(tensors: Tensors): Tensors {
  return new Map([...tensors].filter(([name]) => ENCODER_PARTS.test(name)));
}

/** The student's encoder alone: what embedding, probing and exporting need. */
export async function encoderTensors(model: MaskedModel): Promise<[string, CheckpointTensor][]> {
  const tables = fixedPositions(model);
  const values = await model.device.read(tables.map(([, tensor]) => tensor));
  const all: [string, CheckpointTensor][] = [
    ...await model.student.read(),
    ...tables.map(([name, , shape], i): [string, CheckpointTensor] => [
      name,
      { shape, data: values[i] },
    ]),
  ];
  return all.filter(([name]) => ENCODER_PARTS.test(name));
}

function pick(tensors: Tensors, prefix: string, arena: ParameterArena): [string, HostArray][] {
  return arena.specs.flatMap((spec): [string, HostArray][] => {
    const values = valuesOf(tensors, prefix + spec.name, spec);
    return values ? [[spec.name, values]] : [];
  });
}

/** What a file holds of a parameter, in the form that the model has it. */
function valuesOf(tensors: Tensors, name: string, spec: ParameterSpec): HostArray | undefined {
  const tensor = tensors.get(name);
  if (tensor) return asType(name, tensor, "f32");
  // MSM-MAE's blocks have biases of queries and values; the others', and imported files, one that
  // keys share.
  const [, block, bias] = /^(.*\.attn\.)(q_bias|v_bias|qkv\.bias)$/.exec(name) ?? [];
  if (block === undefined) return undefined;
  const part = (which: string) => {
    const found = tensors.get(block + which);
    return found && asType(block + which, found, "f32") as Float32Array;
  };
  if (bias !== "qkv.bias") {
    const [width] = spec.shape;
    const first = bias === "q_bias" ? 0 : 2 * width;
    return part("qkv.bias")?.subarray(first, first + width);
  }
  const [q, v] = [part("q_bias"), part("v_bias")];
  return q && v && Float32Array.of(...q, ...new Float32Array(q.length), ...v);
}

/** A tensor's values, if they are of the type that is needed. */
function asType(name: string, { dtype, data }: SafetensorsTensor, expected: DType): HostArray {
  if (dtype !== expected.toUpperCase()) {
    throw new Error(`tensor ${name} is ${dtype}; ${expected.toUpperCase()} is needed`);
  }
  return dtype === "F16"
    ? new Float16Array(data.buffer, data.byteOffset, data.length)
    : data as HostArray;
}

/**
 * Restores model and optimizer from a checkpoint.
 *
 * @throws {Error} naming the first missing tensor or the first of another size or type.
 */
export async function restoreState(state: RunState, tensors: Tensors): Promise<void> {
  const { model, trainer } = state;
  const expected = [
    ...flats(state).flatMap(([prefix, arena]) => arena.specs.map(({ name }) => prefix + name)),
    // A run may go on in mixed precision that was not before.
    ...singles(state).map(([name]) => name).filter((name) => name !== LOSS_SCALE),
  ];
  const absent = expected.find((name) => !tensors.has(name));
  if (absent !== undefined) throw new Error(`the checkpoint has no tensor ${absent}`);
  loadWeights(model, tensors);
  for (const key of ["m", "v"] as const) {
    const values = new Map(
      pick(tensors, MOMENTS[key], model.student).map(([name, data]) => [name, { data }]),
    );
    await model.student.write(trainer[key], values);
  }
  for (const [name, tensor] of singles(state)) {
    const saved = tensors.get(name);
    if (!saved) continue;
    const values = asType(name, saved, tensor.dtype);
    if (name === LOSS_SCALE) trainer.lossScale!.restore(values as Float32Array);
    else model.device.write(tensor, values);
  }
}

const POSITIONS = /pos_embed$/;

/**
 * A learned position table for the model's crop; as it is where it is not one for a longer crop.
 */
function croppedTable(
  { geometry }: MaskedModel,
  [name, values]: readonly [string, HostArray],
  tensors: Tensors,
): HostArray {
  const classes = classTokens(geometry);
  const { rows, columns } = patchGrid(geometry);
  const [, tokens, width] = tensors.get(name)!.shape;
  const there = (tokens - classes) / rows;
  if (!Number.isInteger(there) || there <= columns) return values;
  const cropped = new Float32Array((classes + rows * columns) * width);
  cropped.set(values.subarray(0, classes * width));
  for (let row = 0; row < rows; row++) {
    const from = (classes + row * there) * width;
    const to = (classes + row * columns) * width;
    cropped.set(values.subarray(from, from + columns * width), to);
  }
  return cropped;
}

/**
 * Overwrites what the file has of student, teachers and centre (`--init`: weights only). A teacher
 * that the file does not have starts from what the student got, so that an encoder alone, such as
 * MSM-MAE's, is its own first teacher. Position tables that were learned for longer crops give the
 * positions of their first columns (model/README.md, Patches and positions).
 *
 * @returns how many tensors were used
 * @throws {Error} if a tensor has another size than the model's.
 */
export function loadWeights(model: MaskedModel, tensors: Tensors): number {
  const load = (arena: ParameterArena, prefix: string): number => {
    const entries = pick(tensors, prefix, arena);
    for (const entry of entries) {
      if (POSITIONS.test(entry[0])) entry[1] = croppedTable(model, entry, tensors);
    }
    arena.load(entries);
    return entries.length;
  };
  let used = load(model.student, "");
  for (const { name, arena, averages } of model.teachers) {
    const own = load(arena, TEACHER_PREFIX[name]);
    if (own === 0) load(arena, averages);
    used += own;
  }
  const centre = tensors.get(CENTRE);
  if (centre && model.centre) model.device.write(model.centre, asType(CENTRE, centre, "f32"));
  return used;
}
