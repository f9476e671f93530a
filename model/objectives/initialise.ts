/**
 * Initial values of every tensor (model/README.md, Initialisation).
 *
 * @module
 */
import type { ParameterArena, ParameterSpec } from "../vit/parameter_arena.ts";
import type { MaskedModel } from "./masked_model.ts";
import { patchSides } from "../vit/geometry.ts";

/** Random draws. */
export interface RandomSource {
  /** From [0, 1). */
  uniform(): number;
  /** Standard normal. */
  normal(): number;
}

const fill = ({ shape }: ParameterSpec, draw: () => number): Float32Array =>
  Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, draw);

/**
 * Xavier-uniform over the stored matrix: bound sqrt(6 / (in + out)); convolution kernels are
 * flattened.
 */
function xavier(spec: ParameterSpec, random: RandomSource): Float32Array {
  const [out, ...rest] = spec.shape;
  const bound = Math.sqrt(6 / (out + rest.reduce((a, b) => a * b, 1)));
  return fill(spec, () => bound * (2 * random.uniform() - 1));
}

/** Normal draws, redrawn outside +-2 (torch's `trunc_normal_` cuts at absolute values). */
function truncatedNormal(spec: ParameterSpec, std: number, random: RandomSource): Float32Array {
  return fill(spec, () => {
    for (;;) {
      const value = std * random.normal();
      if (Math.abs(value) <= 2) return value;
    }
  });
}

interface InitialContext {
  /** Whether it belongs to a teacher's head. */
  readonly teacherHead: boolean;
  /** Values of a patch. */
  readonly patchValues: number;
}

/** Initial values of one parameter; `undefined` leaves it as it is. */
function initial(
  spec: ParameterSpec,
  random: RandomSource,
  { teacherHead, patchValues }: InitialContext,
): Float32Array | undefined {
  const { name, shape } = spec;
  if (name.includes("pos_embed")) return undefined;
  if (name.endsWith("cls_token") || name.endsWith("mask_token")) {
    return fill(spec, () => 0.02 * random.normal());
  }
  if (name.endsWith("weight_g")) return fill(spec, () => 1);
  if (name === "patch_embed.proj.bias") {
    const bound = 1 / Math.sqrt(patchValues);
    return fill(spec, () => bound * (2 * random.uniform() - 1));
  }
  if (name.endsWith("weight_v")) {
    const bound = 1 / Math.sqrt(shape[1]);
    return fill(spec, () => bound * (2 * random.uniform() - 1));
  }
  if (/[._]bias$/.test(name)) return fill(spec, () => 0);
  if (shape.length === 1) return fill(spec, () => 1);
  return teacherHead ? truncatedNormal(spec, 0.02, random) : xavier(spec, random);
}

/**
 * Draws all parameters of a model. Under `teacherInit: "copy"` the teachers then equal the student;
 * under `independent` the teacher encoder has draws of its own, and the teacher head has
 * truncated-normal layers but shares the student's last layer.
 */
export function initialise(model: MaskedModel, random: RandomSource): void {
  const { device, student, teachers, recipe, geometry } = model;
  const [bands, frames] = patchSides(geometry);
  const draw = (arena: ParameterArena, teacherHead = false) => {
    for (const spec of arena.specs) {
      const values = initial(spec, random, { teacherHead, patchValues: bands * frames });
      if (values) arena.load([[spec.name, values]]);
    }
  };
  draw(student);
  if (recipe.teacherInit === "copy") {
    model.copyTeachersFromStudent();
    return;
  }
  for (const { name, arena, averages } of teachers) {
    draw(arena, name === "head");
    if (name !== "head") continue;
    for (const shared of ["last_layer.weight_g", "last_layer.weight_v"]) {
      device.copy(student.get(`${averages}${shared}`), arena.get(shared));
    }
  }
}
