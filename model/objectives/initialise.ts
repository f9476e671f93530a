/**
 * Initial values of every tensor (model/README.md, Initialisation).
 *
 * @module
 */
import {
  constantValues,
  normalValues,
  type RandomSource,
  truncatedNormalValues,
  uniformValues,
  xavierUniform,
} from "../../engine/functions.ts";
import type { ParameterArena, ParameterSpec } from "../vit/parameter_arena.ts";
import type { MaskedModel } from "./masked_model.ts";
import { patchSides } from "../vit/geometry.ts";

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
    return normalValues(shape, random, 0.02);
  }
  if (name.endsWith("weight_g")) return constantValues(shape, 1);
  if (name === "patch_embed.proj.bias") {
    return uniformValues(shape, random, 1 / Math.sqrt(patchValues));
  }
  if (name.endsWith("weight_v")) {
    return uniformValues(shape, random, 1 / Math.sqrt(shape[1]));
  }
  if (/[._]bias$/.test(name)) return constantValues(shape, 0);
  if (shape.length === 1) return constantValues(shape, 1);
  return teacherHead ? truncatedNormalValues(shape, random, 0.02) : xavierUniform(shape, random);
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
