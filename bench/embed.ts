/**
 * Embedding: the forward pass of an encoder over whole clips.
 *
 * @module
 */
import { encodeChunks, studentNetwork } from "../model/encoder/embed.ts";
import { initialise } from "../model/objectives/initialise.ts";
import { Matpac } from "../model/objectives/matpac.ts";
import { type PresetName, PRESETS } from "../model/objectives/presets.ts";
import { RECIPES } from "../model/objectives/recipe.ts";
import { type Geometry, patchGrid, patchSides } from "../model/vit/geometry.ts";
import { Prng } from "../engine/prng.ts";
import { prepared, random } from "./case.ts";
import type { Benchmark } from "./harness.ts";

/** Frames of a clip: the paper's crops. */
export const EMBED_FRAMES = 608;

/** Operations of so many blocks over a sequence. */
export function transformerFlops(width: number, depth: number, tokens: number): number {
  return 2 * depth * (12 * width * width * tokens + 2 * tokens * tokens * width);
}

/** Operations of one clip's embedding. */
export function embedFlops(geometry: Geometry): number {
  const { width, depth } = geometry;
  const [high, wide] = patchSides(geometry);
  const { patches } = patchGrid(geometry);
  return 2 * high * wide * width * patches + transformerFlops(width, depth, 1 + patches);
}

function benchmark(preset: PresetName, batch: number): Benchmark {
  const name = `embed/${preset}/${EMBED_FRAMES}x${batch}`;
  const geometry = { ...PRESETS[preset].geometry, cropFrames: EMBED_FRAMES };
  return {
    name,
    tier: "full",
    bound: "fma",
    flops: batch * embedFlops(geometry),
    count: 3,
    prepare(device) {
      const model = new Matpac(device, geometry, RECIPES.paper);
      initialise(model, new Prng(1));
      const network = studentNetwork(model);
      const input = random(device, [batch, geometry.melBands, geometry.cropFrames]);
      return Promise.resolve(prepared(name, {
        operands: [input],
        outputs: () =>
          encodeChunks(network, input, { pool: "none", bands: "concat", layers: false }),
        extra: (ms) => ({
          samples_per_s: batch * 1000 / ms,
          peak_bytes: device.memory.liveBytes,
        }),
        close: () => model[Symbol.dispose](),
      }));
    },
  };
}

/** Batches of eight, and a single clip: what somebody waits for. */
export const EMBED_BENCHMARKS: readonly Benchmark[] = (["tiny", "base"] as const).flatMap(
  (preset) => [8, 1].map((batch) => benchmark(preset, batch)),
);
