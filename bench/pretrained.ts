/**
 * Encoders of other systems at their released sizes, with random weights.
 *
 * @module
 */
import { type Device, noGrad } from "../engine/mod.ts";
import { Prng } from "../engine/prng.ts";
import type { CheckpointFile, Setting } from "../model/formats/checkpoint_file.ts";
import { countOf, type StoredTensor } from "../model/formats/stored_tensor.ts";
import { sourcesOf as atstSources } from "../model/pretrained/atst.ts";
import { sourcesOf as beatsSources } from "../model/pretrained/beats.ts";
import type { PretrainedEncoder } from "../model/pretrained/encoder.ts";
import { sourcesOf as htsatSources } from "../model/pretrained/htsat.ts";
import { loadPretrained } from "../model/pretrained/load.ts";
import { sourcesOf as maeAstSources } from "../model/pretrained/mae_ast.ts";
import { sourcesOf as passtSources } from "../model/pretrained/passt.ts";
import type { Source } from "../model/pretrained/state_dict.ts";
import { prepared, random } from "./case.ts";
import { transformerFlops } from "./embed.ts";
import type { Benchmark } from "./harness.ts";

/** An encoder as released. */
interface Released {
  readonly sources: readonly Source[];
  /** What its file says beside. */
  readonly settings: Readonly<Record<string, Setting>>;
  /** Frames and bands of what it takes at once: 10 s, 6 s of ATST-Clip. */
  readonly input: readonly [frames: number, bands: number];
  /** Operations of that. */
  readonly flops: number;
}

const BASE = { width: 768, depth: 12, heads: 12 } as const;
const HIDDEN = 3072;

/** Multiplications and additions of a product. */
const product = (rows: number, inner: number, columns: number) => 2 * rows * inner * columns;

/** A block of each stage of HTS-AT attends within 64 tokens. */
const SWIN = [2, 2, 6, 2].map((blocks, s) => ({
  blocks,
  heads: 4 * 2 ** s,
  width: 96 * 2 ** s,
  hidden: 384 * 2 ** s,
  side: 64 / 2 ** s,
}));

const swinFlops = SWIN.reduce((all, { blocks, width, side }, s) => {
  const tokens = side * side;
  const merging = s < 3 ? product(tokens / 4, 4 * width, 2 * width) : 0;
  return all + (tokens / 64) * transformerFlops(width, blocks, 64) + merging;
}, product(4096, 16, 96));

/** Published sizes (model/README.md, Encoders of others). */
export const RELEASED: Readonly<Record<string, Released>> = {
  "atst-clip": {
    sources: atstSources({ ...BASE, positions: 251, kind: "clip" }),
    settings: {},
    input: [601, 64],
    flops: product(150, 256, 768) + transformerFlops(768, 12, 151),
  },
  "atst-frame": {
    sources: atstSources({ ...BASE, positions: 251, kind: "frame" }),
    settings: {},
    input: [1001, 64],
    flops: product(250, 256, 768) + transformerFlops(768, 12, 250),
  },
  beats: {
    sources: beatsSources({
      ...BASE,
      ...{ embedding: 512, hidden: HIDDEN, patch: 16, patchBias: false, kernel: [48, 128] },
      ...{ buckets: { count: 320, maxDistance: 800 }, alpha: 24 ** 0.25, classes: 0 },
    }),
    settings: { deep_norm: true, max_distance: 800, encoder_embed_dim: 768 },
    input: [998, 128],
    flops: product(496, 256, 512) + product(496, 512, 768) + product(496, 48 * 128, 768) +
      transformerFlops(768, 12, 496),
  },
  "mae-ast": {
    sources: maeAstSources({ ...BASE, hidden: HIDDEN, positions: 48_000, patch: [16, 16] }),
    settings: { "model.ast_kernel_size_time": 16, "model.ast_kernel_size_chan": 16 },
    input: [998, 128],
    flops: product(496, 256, 768) + transformerFlops(768, 12, 496),
  },
  passt: {
    sources: passtSources({ ...BASE, rows: 12, columns: 99, stride: 10, classes: 527 }),
    settings: {},
    input: [998, 128],
    flops: product(1188, 256, 768) + transformerFlops(768, 12, 1190),
  },
  htsat: {
    sources: htsatSources({
      ...{ width: 768, depth: 12, heads: 32, size: 1024, bands: 64, window: 8, stages: SWIN },
      classes: 527,
    }),
    settings: {},
    input: [1001, 64],
    flops: swinFlops,
  },
};

/** Elements that random tensors repeat. */
const PIECE = 1 << 18;

/** A file of these tensors: norms and variances are 1, all else is uniform within 0.05. */
export function releasedFile(
  { sources, settings }: Pick<Released, "sources" | "settings">,
): CheckpointFile {
  const prng = new Prng(1);
  const uniform = Float32Array.from({ length: PIECE }, () => 0.1 * prng.uniform() - 0.05);
  const ones = new Float32Array(PIECE).fill(1);
  const tensors = new Map<string, StoredTensor>();
  for (const { name, shape } of sources.flatMap(({ from }) => from)) {
    const first = typeof name === "string" ? name : name[0];
    const values = /norm\d?\.weight$|running_var$/.test(first) ? ones : uniform;
    tensors.set(first, {
      dtype: "F32",
      shape,
      *chunks() {
        for (let rest = countOf(shape); rest > 0; rest -= PIECE) {
          yield new Uint8Array(values.buffer, 0, 4 * Math.min(rest, PIECE));
        }
      },
    });
  }
  return {
    ...{ format: "torch", tensors, container: "", beside: new Map(), metadata: {}, heads: {} },
    setting: (...keys) => settings[keys.join(".")],
  };
}

/** An encoder of released sizes. */
export function releasedEncoder(device: Device, of: Released): Promise<PretrainedEncoder> {
  return loadPretrained(device, releasedFile(of), { heads: BASE.heads });
}

function benchmark(system: string, of: Released, batch: number): Benchmark {
  const [frames, bands] = of.input;
  const name = `embed/${system}/${frames}x${batch}`;
  return {
    name,
    tier: "full",
    bound: "fma",
    flops: batch * of.flops,
    count: 3,
    async prepare(device) {
      const encoder = await releasedEncoder(device, of);
      const input = random(device, [batch, frames, bands]);
      return prepared(name, {
        operands: [input],
        outputs: () => [noGrad(() => encoder.encode(input))],
        extra: (ms) => ({
          samples_per_s: batch * 1000 / ms,
          peak_bytes: device.memory.liveBytes,
        }),
        close: () => encoder[Symbol.dispose](),
      });
    },
  };
}

/** Two clips, and a single one. */
export const PRETRAINED_BENCHMARKS: readonly Benchmark[] = Object.entries(RELEASED)
  .flatMap(([system, of]) => [2, 1].map((batch) => benchmark(system, of, batch)));
