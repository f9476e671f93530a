/** A network of two blocks as training begins, for tests of commands. */
import { openDevice } from "../../engine/mod.ts";
import { initialise } from "../../model/objectives/initialise.ts";
import { Matpac } from "../../model/objectives/matpac.ts";
import { PRESETS } from "../../model/objectives/presets.ts";
import { RECIPES } from "../../model/objectives/recipe.ts";
import { writeTensors } from "../../train/run/checkpoint.ts";
import { Prng } from "../../engine/prng.ts";
import { STREAMS } from "../../train/run/loop.ts";
import { encoderTensors } from "../../train/run/state_dict.ts";

/** Writes it as a run with this seed leaves it. */
export async function writeEncoder(
  path: string,
  seed: number,
  more: Readonly<Record<string, string>> = {},
): Promise<void> {
  using device = await openDevice();
  const geometry = { ...PRESETS.tiny.geometry, width: 64, depth: 2, heads: 1 };
  using model = new Matpac(device, geometry, RECIPES.paper);
  initialise(model, new Prng(seed, STREAMS.parameters));
  await writeTensors(path, await encoderTensors(model), {
    config: JSON.stringify({ seed }),
    heads: "1",
    ...more,
  });
}
