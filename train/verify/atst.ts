/**
 * Holds ATST-Clip and ATST-Frame against the sets `atst_clip` and `atst_frame` of their official
 * programs, as pretrained.ts does the others: stages chunk by chunk, embeddings as those programs
 * join chunks.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import {
  type Device,
  keep,
  mul,
  permute,
  reshape,
  scope,
  slice,
  type Tensor,
} from "../../engine/mod.ts";
import { ATST_MEL, htkMelFilterbank } from "../../model/frontend/htk_mel.ts";
import { hannPeriodic } from "../../model/frontend/tables.ts";
import { Atst } from "../../model/pretrained/atst.ts";
import { loadPretrained } from "../../model/pretrained/load.ts";
import { UsageError } from "../errors.ts";
import { openCheckpointFile } from "../io/checkpoint_file.ts";
import { type GoldenSet, readGolden } from "./golden.ts";
import { GIVEN, granted, type Pass, WAVEFORM } from "./pretrained.ts";
import { type CheckRow, Report, TOLERANCES } from "./report.ts";

/** Decibels that the front end may be off by, over the 65.1662 that a unit of it has. */
const MEL = granted(1e-2 / 65.1662, "mel decibels: 1e-2 where bins are nearly empty");
const MEL_TABLE = granted(2e-5, "filters whose edges torchaudio rounds to float32");

/** Runs all checks of a set, of each of its files; `audio` is in the same folder. */
export async function verifyAtst(
  device: Device,
  golden: GoldenSet,
  folder: string,
): Promise<CheckRow[]> {
  const { json } = golden;
  const report = new Report(json.name);
  const audio = readGolden(folder, json.wave_file);
  if (!audio) throw new UsageError(`${folder}: ${json.name} needs the set ${json.wave_file}`);
  const tables: [string, () => Float32Array, typeof MEL_TABLE][] = [
    ["window", () => hannPeriodic(ATST_MEL.size), TOLERANCES.table],
    ["mel_fb", () => htkMelFilterbank(ATST_MEL), MEL_TABLE],
  ];
  for (const [name, made, tolerance] of tables) {
    const expected = golden.tensors.get(name);
    if (expected) report.compare(name, made(), expected.data, tolerance);
  }
  const waves = json.waves as string[];
  const files = [json.checkpoint, json.checkpoint_lightning].filter((it) => it !== undefined);
  for (const [i, file] of files.entries()) {
    using checkpoint = openCheckpointFile(join(folder, file));
    const heads: number = json.hyperparameters.num_heads;
    using encoder = await loadPretrained(device, checkpoint.file, { heads });
    if (!(encoder instanceof Atst)) throw new UsageError(`${file}: is no encoder of ATST`);
    for (const name of waves) {
      const wave = audio.get(name).data as Float32Array;
      const short = name.split(".")[0];
      // The second file holds the same encoder: its embeddings will do.
      if (i === 0) await clip(encoder, golden, report, short, wave);
      await embeddings(encoder, golden, report, short, wave, i === 0 ? "" : ` of ${file}`);
    }
    if (i > 0 || waves.length < 2) continue;
    const six = (audio.get(waves[1]).data as Float32Array).subarray(0, 6 * ATST_MEL.sampleRate);
    await embeddings(encoder, golden, report, "six", six, "");
    await batch(encoder, golden, report, waves.map((it) => audio.get(it).data as Float32Array));
  }
  return report.rows;
}

async function clip(
  encoder: Atst,
  golden: GoldenSet,
  report: Report,
  name: string,
  wave: Float32Array,
): Promise<void> {
  const { device } = encoder;
  using own = scope(() => encoder.features(device.tensor(wave, [1, wave.length])));
  const frontend = golden.tensors.get(`frontend.${name}`);
  if (frontend) {
    // Sets have bands first.
    const [bands, frames] = frontend.shape;
    using turned = scope(() => mul(permute(own, [0, 2, 1]), 1));
    report.compare(`frontend.${name}`, await turned.data(), frontend.data, MEL);
    using given = scope(() =>
      mul(permute(device.tensor(frontend.data, [1, bands, frames]), [0, 2, 1]), 1)
    );
    await stages(encoder, golden, report, name, given, GIVEN);
  }
  await stages(encoder, golden, report, name, own, WAVEFORM);
  const { scalars } = golden.json;
  report.compare(
    `frames and patches of ${name}`,
    [own.shape[1], ...encoder.chunks(own.shape[1]).map(({ patches }) => patches)],
    [scalars[`frames_${name}`] ?? own.shape[1], ...scalars[`patches_${name}`]],
    TOLERANCES.exact,
  );
}

/** All stages that the set has. */
async function stages(
  encoder: Atst,
  golden: GoldenSet,
  report: Report,
  name: string,
  features: Tensor,
  { from, stage }: Pass,
): Promise<void> {
  for (const [i, { first, patches }] of encoder.chunks(features.shape[1]).entries()) {
    const seen = new Map<string, Tensor>();
    scope(() =>
      encoder.encodeBlocks(slice(features, 1, first, 4 * patches), encoder.info.depth, {
        trace: (what, x) => {
          const key = `${what}.${name}.chunk${i}`;
          // A copy: stages are freed when the next one has been computed.
          if (golden.tensors.has(key)) seen.set(key, keep(mul(x, 1)));
        },
      })
    );
    for (const [key, x] of seen) {
      report.compare(`${key}${from}`, await x.data(), golden.get(key).data, stage);
      x.dispose();
    }
  }
  const key = `forward_cls_first_1001_frames.${name}`;
  if (!golden.tensors.has(key)) return;
  using cls = scope(() => {
    const frames = Math.min(1001, features.shape[1]);
    const [last] = encoder.encodeBlocks(slice(features, 1, 0, frames), 1);
    return reshape(slice(last, 1, 0, 1), [-1]);
  });
  report.compare(`${key}${from}`, await cls.data(), golden.get(key).data, stage);
}

async function embeddings(
  encoder: Atst,
  golden: GoldenSet,
  report: Report,
  name: string,
  wave: Float32Array,
  of: string,
): Promise<void> {
  const { depth } = encoder.info;
  for (
    const [result, options] of [
      ["emb", { official: true }],
      ["emb_all_blocks", { official: true, blocks: every(depth) }],
      ["emb_downstream", { official: "downstream" }],
      ["frames", { pool: "none" }],
    ] as const
  ) {
    const expected = golden.tensors.get(`${result}.${name}`);
    if (!expected) continue;
    const found = await encoder.embed(wave, options);
    report.compare(
      `${result}.${name}${of}`,
      found.values,
      expected.data,
      result === "frames" ? WAVEFORM.stage : WAVEFORM.embedding,
    );
    const times = golden.tensors.get(`timestamps_ms.${name}`);
    if (found.times && times) {
      report.compare(`timestamps_ms.${name}${of}`, found.times, times.data, TOLERANCES.table);
    }
  }
}

/** Two clips in one padded batch of the official program: here, each alone. */
async function batch(
  encoder: Atst,
  golden: GoldenSet,
  report: Report,
  [first, second]: readonly Float32Array[],
): Promise<void> {
  const expected = golden.tensors.get("batch.emb_all_blocks");
  if (!expected) return;
  const start = first.subarray(0, golden.json.scalars.batch_second_length);
  const values: number[] = [];
  for (const wave of [second, start]) {
    const options = { official: true, blocks: every(encoder.info.depth) } as const;
    values.push(...(await encoder.embed(wave, options)).values);
  }
  report.compare("batch.emb_all_blocks", values, expected.data, WAVEFORM.embedding);
}

/** All blocks, counted from 1. */
const every = (depth: number): number[] => Array.from({ length: depth }, (_, i) => i + 1);
