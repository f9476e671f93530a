/** Pictures of what a masked autoencoder paints: the official model's predictions, pasted. */
import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import { recognise, toMatpacNames } from "../../../model/formats/checkpoint_names.ts";
import { storedTensor, valuesOf, wholeBytes } from "../../../model/formats/stored_tensor.ts";
import { bytesOf, readSafetensors } from "../../../engine/formats/safetensors.ts";
import { maskFromNoise, visibleCount } from "../../../model/objectives/masking.ts";
import { MsmMae } from "../../../model/objectives/msm_mae.ts";
import { recipeFor } from "../../../model/objectives/objectives.ts";
import { PRESETS } from "../../../model/objectives/presets.ts";
import { pasted, reconstruct } from "../../../model/objectives/reconstruct.ts";

const { tensors: GOLDEN } = readSafetensors(
  Deno.readFileSync(new URL("../../golden/msm_mae_step.safetensors", import.meta.url)),
);
const golden = (name: string) => GOLDEN.get(name)!.data as Float32Array;
const [BANDS, FRAMES, PATCHES] = [80, 96, 30];

Deno.test("reconstruction: official predictions where masked, the input elsewhere", async () => {
  using device = await openDevice();
  const geometry = {
    ...PRESETS.tiny.geometry,
    ...{ width: 24, depth: 2, heads: 2, cropFrames: FRAMES },
    ...{ predictorWidth: 18, predictorDepth: 1, predictorHeads: 3 },
    // Tables come from the file; a 2-D one would need another width.
    predictorPositions: "1d" as const,
  };
  using model = new MsmMae(device, geometry, {
    ...recipeFor("msm-mae", "released"),
    positions: "learned",
    targets: "raw",
  });
  const stored = new Map(
    [...GOLDEN].filter(([name]) => name.startsWith("init.")).map(([name, tensor]) => [
      name.slice("init.".length),
      storedTensor(tensor.dtype, tensor.shape, bytesOf(tensor.data)),
    ]),
  );
  const { tensors } = toMatpacNames(stored, recognise(stored)!);
  model.student.load([...tensors].map(([name, tensor]) => [
    name,
    Float32Array.from(valuesOf(wholeBytes(tensor), tensor.dtype)),
  ]));
  const visible = visibleCount(PATCHES, 0.75);
  const size = BANDS * FRAMES;
  for (let clip = 0; clip < 3; clip++) {
    const logmel = golden("in.x").slice(clip * size, (clip + 1) * size);
    const noise = golden("in.noise").slice(clip * PATCHES, (clip + 1) * PATCHES);
    const mask = maskFromNoise(noise, 1, PATCHES, visible);
    const expected = golden("out.pred").subarray(clip * size, (clip + 1) * size);
    const { reconstruction, ...rest } = await reconstruct(model, logmel, mask);
    const hidden = golden("out.mask").subarray(clip * PATCHES, (clip + 1) * PATCHES);
    assertEquals([...rest.mask], [...hidden]);
    assertEquals([rest.grid, rest.patch], [{ rows: 5, columns: 6 }, [16, 16]]);
    assertEquals(rest.input, logmel);
    for (let band = 0; band < BANDS; band++) {
      for (let t = 0; t < FRAMES; t++) {
        const token = Math.floor(band / 16) * 6 + Math.floor(t / 16);
        const value = reconstruction[band * FRAMES + t];
        // The official float32 run is 4.8e-7 off; other orders of sums come to more.
        if (hidden[token] === 0) assertEquals(value, logmel[band * FRAMES + t]);
        else assertAlmostEquals(value, expected[token * 256 + band % 16 * 16 + t % 16], 5e-6);
      }
    }
  }
  // Fewer frames: those that fill no patch are left out.
  const logmel = golden("in.x").slice(0, BANDS * 40);
  const mask = maskFromNoise(golden("in.noise"), 1, 10, 3);
  const before = device.memory.liveBytes;
  const short = await reconstruct(model, logmel, mask);
  assertEquals(device.memory.liveBytes, before);
  assertEquals([short.grid.columns, short.input.length], [2, BANDS * 32]);
  assertEquals([short.input[31], short.input[32]], [logmel[31], logmel[40]]);
  await assertRejects(
    () => reconstruct(model, golden("in.x").slice(0, size), mask),
    RangeError,
    "a mask of 10 patches does not fit 30",
  );
});

Deno.test("reconstruction: standardised patches get back mean and deviation", () => {
  const parts = {
    input: Float32Array.from([1, 2, 9, 9, 3, 6, 9, 9]),
    grid: { rows: 1, columns: 2 },
    patch: [2, 2] as const,
    mask: Uint8Array.of(1, 0),
    predictions: Float32Array.from([0, 1, -1, 0, 5, 5, 5, 5]),
  };
  assertEquals([...pasted(parts, false)], [0, 1, 9, 9, -1, 0, 9, 9]);
  // Mean 3, squares 4 + 1 + 0 + 9 over 3.
  const std = Math.sqrt(14 / 3);
  const expected = [3, 3 + std, 9, 9, 3 - std, 3, 9, 9];
  pasted(parts, true).forEach((x, i) => assertAlmostEquals(x, expected[i], 1e-5));
});
