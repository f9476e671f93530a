/**
 * A run's state as named tensors: what checkpoints hold (names of SPEC section 6.1).
 *
 * @module
 */
import type { HostArray } from "../engine/mod.ts";
import type { ParameterArena } from "../model/arena.ts";
import type { Matpac } from "../model/matpac.ts";
import type { SafetensorsTensor } from "../model/formats/safetensors.ts";
import type { CheckpointTensor } from "./checkpoint.ts";
import type { Trainer } from "./step.ts";

/** Prefixes of the teachers in the official state dict. */
export const TEACHER_PREFIX = { encoder: "_ema.", head: "_cls_head_ema." } as const;

const CENTRE = "cls_head_loss.center";
const PENDING_CENTRE = "cls_head_loss.pending_center";
const MOMENTS = { m: "optimizer.m.", v: "optimizer.v." } as const;

/** Parts of the student that make the encoder people use: no predictor, no head. */
const ENCODER_PARTS = /^(cls_token|pos_embed|patch_embed\.|student_encoder\.)/;

/** Tensors of a file by name. */
export type Tensors = ReadonlyMap<string, SafetensorsTensor>;

/** All tensors of a run, in a fixed order. */
export async function stateTensors(
  model: Matpac,
  trainer: Trainer,
): Promise<[string, CheckpointTensor][]> {
  const named = async (prefix: string, arena: ParameterArena, flat = arena.values) =>
    [...await arena.read(flat)].map((
      [name, tensor],
    ): [string, CheckpointTensor] => [prefix + name, tensor]);
  const [centre, pending] = await model.device.read([model.centre, model.pendingCentre]);
  const prototypes = model.centre.size;
  return [
    ...await named("", model.student),
    ...await fixedPositions(model),
    ...await named(TEACHER_PREFIX.encoder, model.teacherEncoder),
    ...await named(TEACHER_PREFIX.head, model.teacherHead),
    [CENTRE, { shape: [1, 1, prototypes], data: centre }],
    [PENDING_CENTRE, { shape: [1, 1, prototypes], data: pending }],
    ...await named(MOMENTS.m, model.student, trainer.m),
    ...await named(MOMENTS.v, model.student, trainer.v),
  ];
}

/** Position tables that are no parameters, under their official names; none when they are learned. */
async function fixedPositions(model: Matpac): Promise<[string, CheckpointTensor][]> {
  const tables = Object.entries(model.fixedPositions);
  const values = await model.device.read(tables.map(([, tensor]) => tensor));
  return tables.map(([name, { shape }], i) => [name, { shape, data: values[i] }]);
}

/** The student's encoder alone: what embedding, probing and exporting need. */
export async function encoderTensors(model: Matpac): Promise<[string, CheckpointTensor][]> {
  const all: [string, CheckpointTensor][] = [
    ...await model.student.read(),
    ...await fixedPositions(model),
  ];
  return all.filter(([name]) => ENCODER_PARTS.test(name));
}

function pick(tensors: Tensors, prefix: string, arena: ParameterArena): [string, HostArray][] {
  return arena.specs.flatMap(({ name }): [string, HostArray][] => {
    const tensor = tensors.get(prefix + name);
    return tensor ? [[name, asFloat(prefix + name, tensor)]] : [];
  });
}

function asFloat(name: string, { dtype, data }: SafetensorsTensor): Float32Array {
  if (dtype !== "F32") throw new Error(`tensor ${name} is ${dtype}; F32 is needed`);
  return data as Float32Array;
}

/** Names that a model needs and a file lacks. */
function missing(tensors: Tensors, model: Matpac): string[] {
  const wanted = [
    ...model.student.specs.map(({ name }) => name),
    ...model.teacherEncoder.specs.map(({ name }) => TEACHER_PREFIX.encoder + name),
    ...model.teacherHead.specs.map(({ name }) => TEACHER_PREFIX.head + name),
    CENTRE,
  ];
  return wanted.filter((name) => !tensors.has(name));
}

/**
 * Restores model and optimizer from a checkpoint.
 *
 * @param pendingCentre whether the saved batch mean waits to be folded into the centre
 * @throws {Error} naming the first missing tensor or the first of another size.
 */
export async function restoreState(
  model: Matpac,
  trainer: Trainer,
  tensors: Tensors,
  pendingCentre: boolean,
): Promise<void> {
  const [absent] = missing(tensors, model);
  if (absent !== undefined) throw new Error(`the checkpoint has no tensor ${absent}`);
  loadWeights(model, tensors);
  for (const key of ["m", "v"] as const) {
    const values = new Map(
      pick(tensors, MOMENTS[key], model.student).map(([name, data]) => [name, { data }]),
    );
    await model.student.write(trainer[key], values);
  }
  const pending = tensors.get(PENDING_CENTRE);
  if (pending) model.device.write(model.pendingCentre, asFloat(PENDING_CENTRE, pending));
  model.hasPendingCentre = pendingCentre && pending !== undefined;
}

/**
 * Overwrites what the file has of student, teachers and centre (`--init`: weights only).
 *
 * @returns how many tensors were used
 * @throws {Error} if a tensor has another size than the model's.
 */
export function loadWeights(model: Matpac, tensors: Tensors): number {
  const parts: [ParameterArena, string][] = [
    [model.student, ""],
    [model.teacherEncoder, TEACHER_PREFIX.encoder],
    [model.teacherHead, TEACHER_PREFIX.head],
  ];
  let used = 0;
  for (const [arena, prefix] of parts) {
    const entries = pick(tensors, prefix, arena);
    arena.load(entries);
    used += entries.length;
  }
  const centre = tensors.get(CENTRE);
  if (centre) model.device.write(model.centre, asFloat(CENTRE, centre));
  return used;
}
