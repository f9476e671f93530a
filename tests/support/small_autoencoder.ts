/** A small MSM-MAE with its decoder, of random weights. */
import { openDevice } from "../../engine/mod.ts";
import { writeSafetensors } from "../../engine/formats/safetensors.ts";
import { Prng } from "../../engine/prng.ts";
import { initialise } from "../../model/objectives/initialise.ts";
import { MsmMae } from "../../model/objectives/msm_mae.ts";
import { recipeFor } from "../../model/objectives/objectives.ts";
import { SMALL } from "./small_geometry.ts";

/** A checkpoint of training in safetensors: chunks of 64 frames, patches standardised. */
export async function autoencoderFile(): Promise<Uint8Array> {
  using device = await openDevice();
  const geometry = { ...SMALL, predictorPositions: "1d", keyBias: false } as const;
  using model = new MsmMae(device, geometry, recipeFor("msm-mae", "paper"));
  initialise(model, new Prng(4));
  const tensors = await model.student.read();
  for (const [name, table] of Object.entries(model.fixedPositions)) {
    tensors.set(name, { shape: table.shape, data: await table.data() as Float32Array });
  }
  const { heads, predictorHeads } = geometry;
  return writeSafetensors(
    [...tensors].map(([name, it]) => [name, { dtype: "F32", ...it }] as const),
    {
      system: "msm-mae",
      framing: "centred",
      standardisation: '{"mean":-7,"std":4}',
      geometry: JSON.stringify({ heads, predictor: { heads: predictorHeads } }),
      config: JSON.stringify({ "mask-ratio": 0.6, "norm-pix": true }),
    },
  );
}
