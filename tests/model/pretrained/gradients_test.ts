/**
 * Gradients of the encoders of other systems, as fine-tuning needs them, against differences of
 * their outputs, at every parameter of small ones. Batches of clips give what single clips give.
 */
import { assert, assertEquals } from "@std/assert";
import { releasedFile } from "../../../bench/pretrained.ts";
import { backward, noGrad, openDevice, type Tensor } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import type { Setting } from "../../../model/formats/checkpoint_file.ts";
import { sourcesOf as atstSources } from "../../../model/pretrained/atst.ts";
import { sourcesOf as beatsSources } from "../../../model/pretrained/beats.ts";
import { sourcesOf as cedSources } from "../../../model/pretrained/ced.ts";
import { sourcesOf as htsatSources } from "../../../model/pretrained/htsat.ts";
import { loadPretrained } from "../../../model/pretrained/load.ts";
import { sourcesOf as maeAstSources } from "../../../model/pretrained/mae_ast.ts";
import { sourcesOf as passtSources } from "../../../model/pretrained/passt.ts";
import {
  AUDIOSET_STATISTICS,
  type VitSizes,
  vitSources,
} from "../../../model/pretrained/spectrogram_vit.ts";
import type { Source } from "../../../model/pretrained/state_dict.ts";
import { full, fullOnly } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const SMALL = { width: 16, depth: 2, heads: 2 } as const;

interface Case {
  readonly sources: readonly Source[];
  readonly settings?: Readonly<Record<string, Setting>>;
  readonly input: readonly [frames: number, bands: number];
}

/** Two stages of HTS-AT, windows shifted in both. */
const STAGES = [0, 1].map((s) => ({
  ...{ blocks: 2, heads: 1 + s, width: 4 * 2 ** s, hidden: 8 * 2 ** s, side: 64 / 2 ** s },
}));

/** Patches of 16 x 16 on a canvas of 48 frames. */
const VIT: VitSizes = {
  ...{ ...SMALL, patch: [16, 16], stride: [16, 16], grid: [8, 3], frames: 48, eps: 1e-6 },
  ...{ own: ["cls_token", "dist_token"], timeFirst: false, norm: "norm", ...AUDIOSET_STATISTICS },
};

/** EAT in fairseq's names; in the file the token in front has no position. */
function eatSources(): Source[] {
  const sizes = { ...VIT, own: ["extra_tokens"], timeFirst: true, norm: undefined, postNorm: true };
  const base = "modality_encoders.IMAGE.";
  const named = (name: string) => [
    name.startsWith("blocks.") ? name : base + name
      .replace("pos_embed", "fixed_positional_encoder.positions")
      .replace("patch_embed", "local_encoder")
      .replace("norm_pre", "context_encoder.norm"),
  ];
  return vitSources(sizes, named).map((it) =>
    it.name !== "pos_embed" ? it : { ...it, from: [{ ...it.from[0], shape: [1, 24, SMALL.width] }] }
  );
}

const CASES: Readonly<Record<string, Case>> = {
  beats: {
    sources: beatsSources({
      ...SMALL,
      ...{ embedding: 12, hidden: 24, patch: 16, patchBias: false, kernel: [4, 8] },
      ...{ buckets: { count: 16, maxDistance: 10 }, alpha: 4 ** 0.25, classes: 0 },
    }),
    settings: { deep_norm: true, max_distance: 10, encoder_embed_dim: 16 },
    input: [50, 128],
  },
  "atst-clip": {
    sources: atstSources({ ...SMALL, positions: 9, kind: "clip" }),
    input: [26, 64],
  },
  "atst-frame": {
    sources: atstSources({ ...SMALL, positions: 9, kind: "frame" }),
    input: [26, 64],
  },
  "mae-ast": {
    sources: maeAstSources({ ...SMALL, hidden: 24, positions: 40, patch: [16, 16] }),
    settings: { "model.ast_kernel_size_time": 16, "model.ast_kernel_size_chan": 16 },
    input: [50, 128],
  },
  passt: {
    sources: passtSources({ ...SMALL, rows: 8, columns: 4, stride: 16, classes: 3 }),
    input: [50, 128],
  },
  htsat: {
    sources: htsatSources({
      ...{ width: 8, depth: 4, heads: 2, size: 8, bands: 64, window: 8, stages: STAGES },
      classes: 3,
    }),
    input: [300, 64],
  },
  ast: {
    sources: vitSources(VIT, (name) => [`module.v.${name}`]),
    settings: { frequency_stride: 16, time_stride: 16, max_length: 48 },
    input: [40, 128],
  },
  audiomae: {
    sources: vitSources(
      { ...VIT, grid: [8, 64], own: ["cls_token"], timeFirst: true },
      (name) => [name],
    ),
    input: [50, 128],
  },
  eat: { sources: eatSources(), input: [40, 128] },
  ced: { sources: cedSources({ ...SMALL, patch: [16, 16], columns: 3 }), input: [50, 64] },
};

/** What no output of `encode` depends on. */
const UNUSED = /^(tscam_conv|head)\b/;

function draw(size: number, seed: number): Float32Array {
  const random = new Prng(seed);
  return Float32Array.from({ length: size }, () => 2 * random.uniform() - 1);
}

for (const [system, { sources, settings = {}, input }] of Object.entries(CASES)) {
  fullOnly(
    `${system}: gradients are differences`,
    async () => {
      const file = releasedFile({ sources, settings });
      const options = { heads: system === "htsat" ? undefined : SMALL.heads, trainable: true };
      using encoder = await loadPretrained(device, file, options);
      const { arena } = encoder;
      // Uniform within 0.05 as they are, parameters would hardly tell.
      const values = new Map<string, Float32Array>();
      for (const [i, { name }] of arena.specs.entries()) {
        const before = await arena.get(name).data();
        values.set(
          name,
          /norm|bn0|input/.test(name) ? before : draw(before.length, i).map((it) => it / 2),
        );
      }
      arena.load(values);
      const clips = 2;
      using features = device.tensor(draw(clips * input[0] * input[1], 1), [clips, ...input]);
      const y = encoder.encode(features);
      const weights = draw(y.size, 2).map((it) => it / Math.sqrt(y.size));
      using dy = device.tensor(weights, y.shape);
      backward(y, dy);
      y.dispose();
      const loss = async () => {
        using tokens: Tensor = noGrad(() => encoder.encode(features));
        return (await tokens.data()).reduce((sum, it, i) => sum + it * weights[i], 0);
      };
      for (const [i, spec] of arena.specs.entries()) {
        const { name, frozen } = spec;
        if (frozen || UNUSED.test(name)) continue;
        const { grad } = arena.get(name);
        assert(grad, `${name} has no gradient`);
        const gradient = await grad!.data();
        const norm = (x: Float32Array) => Math.sqrt(x.reduce((sum, it) => sum + it * it, 0));
        const [own, other] = [norm(gradient), draw(gradient.length, 100 + i)];
        assert(own > 0, `${name}: the gradient is zero`);
        // Half along the gradient, whose size it tells, half anywhere.
        const direction = gradient.map((it, j) => it / own + other[j] / norm(other));
        const at = values.get(name)!;
        // Not too far for a kernel of many values: what a norm follows bends early.
        const step = Math.min(0.01 * norm(at), 0.05) / norm(direction);
        const losses: number[] = [];
        for (const steps of [-2, -1, 1, 2]) {
          arena.load([[name, at.map((it, j) => it + steps * step * direction[j])]]);
          losses.push(await loss());
        }
        arena.load([[name, at]]);
        const found = (losses[0] - 8 * losses[1] + 8 * losses[2] - losses[3]) / (12 * step);
        const expected = gradient.reduce((sum, it, j) => sum + it * direction[j], 0);
        // Differences of float32 sums, which are off by some 1e-6, over small steps.
        assert(
          Math.abs(found - expected) <= 5e-3 * own + 2e-6 / step,
          `${name}: ${expected} along a direction, differences give ${found}`,
        );
      }
    },
  );
}

Deno.test("batches of clips give what single ones give", async () => {
  for (const [system, { sources, settings = {}, input }] of Object.entries(CASES)) {
    if (!full && system !== "htsat") continue;
    const options = { heads: system === "htsat" ? undefined : SMALL.heads };
    using encoder = await loadPretrained(device, releasedFile({ sources, settings }), options);
    const [size, clips] = [input[0] * input[1], 3];
    const values = draw(clips * size, 3);
    const encoded = async (part: Float32Array, count: number) => {
      using features = device.tensor(part, [count, ...input]);
      using tokens = noGrad(() => encoder.encode(features));
      assertEquals(tokens.shape[0], count);
      return await tokens.data();
    };
    const together = await encoded(values, clips);
    for (let i = 0; i < clips; i++) {
      const single = await encoded(values.slice(i * size, (i + 1) * size), 1);
      const part = together.subarray(i * single.length, (i + 1) * single.length);
      const largest = single.reduce((most, it) => Math.max(most, Math.abs(it)), 0);
      const error = single.reduce((most, it, j) => Math.max(most, Math.abs(it - part[j])), 0);
      // Products of other sizes sum in the same order, other kernels may not.
      assert(error <= 1e-5 * largest, `${system}: clip ${i} is off by ${error / largest}`);
    }
  }
});
