/**
 * Encoders as they are before training.
 *
 * @module
 */
import { Encoder } from "../../../model/encoder/encoder.ts";
import { objectIn } from "../../../model/formats/checkpoint_file.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import { Matpac } from "../../../model/objectives/matpac.ts";
import { PRESETS } from "../../../model/objectives/presets.ts";
import { RECIPES } from "../../../model/objectives/recipe.ts";
import { openCheckpointFile } from "../../io/checkpoint_file.ts";
import { Prng } from "../../../engine/prng.ts";
import { STREAMS } from "../../run/loop.ts";
import { encoderTensors } from "../../run/state_dict.ts";

/** The seed that a checkpoint says it was trained with; 0 where it does not say. */
export function trainingSeed(path: string): number {
  using checkpoint = openCheckpointFile(path);
  const { seed } = objectIn(checkpoint.file.metadata, "config");
  return typeof seed === "number" && Number.isSafeInteger(seed) ? seed : 0;
}

/**
 * The same network as training begins with, before its first update.
 *
 * @param seed of the training
 */
export async function untrainedEncoder(
  { device, geometry, frontend }: Encoder,
  seed: number,
): Promise<Encoder> {
  const { patch: patchSize, ...sizes } = geometry;
  // The encoder's values are drawn before those of predictor and heads, so that their sizes do not
  // matter.
  using model = new Matpac(
    device,
    { ...PRESETS.tiny.geometry, ...sizes, patchSize },
    RECIPES.paper,
  );
  initialise(model, new Prng(seed, STREAMS.parameters));
  const tensors = new Map(await encoderTensors(model));
  return new Encoder(
    device,
    geometry,
    (name) => tensors.get(name)!.data as Float32Array,
    frontend,
  );
}
