/**
 * Holds encoders from PyTorch files and their embeddings against the set `checkpoint_pt`.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import type { Device } from "../../engine/mod.ts";
import { gridOf } from "../../model/encoder/embed.ts";
import { type Encoder, loadEncoder } from "../../model/encoder/encoder.ts";
import { valuesOf, wholeBytes } from "../../model/formats/stored_tensor.ts";
import { openCheckpointFile } from "../io/checkpoint_file.ts";
import { type CheckRow, Report, TOLERANCES } from "./report.ts";
import type { GoldenSet } from "./golden.ts";

/** Names of embeddings: of the last layer or all, of time steps or means over them. */
const EMBEDDING = /^(\w+)\.(precise|fast)\.(pooled|frames|tokens_not_concatenated)(\.layers)?$/;

/** Runs all checks of the set; its `.pt` files are in the same folder. */
export async function verifyCheckpoint(
  device: Device,
  golden: GoldenSet,
  folder: string,
): Promise<CheckRow[]> {
  const report = new Report("checkpoint_pt");
  tensors(golden, report, join(folder, "matpac_full.pt"));
  // The files of the encoder alone do not say how many heads it has.
  const heads: number = golden.json.hyperparameters.num_heads;
  for (
    const [file, prefix] of [
      ["matpac_full.pt", "emb."],
      ["matpac_enconly.pt", "emb."],
      ["matpac_enconly_fp16.pt", "emb_fp16file."],
    ]
  ) {
    using checkpoint = openCheckpointFile(join(folder, file));
    using encoder = await loadEncoder(device, checkpoint.file, { heads });
    for (const name of golden.below(prefix)) {
      const found = await embedding(encoder, golden, name);
      report.compare(
        `${file} ${prefix}${name}`,
        found,
        golden.get(prefix + name).data,
        TOLERANCES.embedding,
      );
    }
  }
  return report.rows;
}

/** Tensors of the training checkpoint, as they stand. */
function tensors(golden: GoldenSet, report: Report, path: string): void {
  using checkpoint = openCheckpointFile(path);
  for (const name of golden.below("model.")) {
    const tensor = checkpoint.file.tensors.get(name);
    report.compare(
      `matpac_full.pt ${name}`,
      tensor ? valuesOf(wholeBytes(tensor), tensor.dtype) : [],
      golden.get(`model.${name}`).data,
      TOLERANCES.exact,
    );
  }
}

async function embedding(encoder: Encoder, golden: GoldenSet, name: string): Promise<Float32Array> {
  const [, wave, mode, kind, all] = EMBEDDING.exec(name) ?? [];
  const found = await encoder.embed(golden.get(`wave.${wave}`).data as Float32Array, {
    mode: mode as "precise" | "fast",
    pool: kind === "pooled" ? "mean" : "none",
    layers: all !== undefined,
    compat: true,
  });
  const values = found.layers ?? found.values;
  return kind === "tokens_not_concatenated" ? asTokens(encoder, values, found.steps) : values;
}

/**
 * [depth, steps, rows * width] as the tokens of one chunk after the other, frequency-major in each.
 */
function asTokens(encoder: Encoder, values: Float32Array, steps: number): Float32Array {
  const { rows, columns } = gridOf(encoder.geometry);
  const { width, depth } = encoder.geometry;
  const tokens = new Float32Array(values.length);
  let at = 0;
  for (let layer = 0; layer < depth; layer++) {
    for (let first = 0; first < steps; first += columns) {
      for (let row = 0; row < rows; row++) {
        for (let step = first; step < Math.min(steps, first + columns); step++, at += width) {
          const from = ((layer * steps + step) * rows + row) * width;
          tokens.set(values.subarray(from, from + width), at);
        }
      }
    }
  }
  return tokens;
}
