/**
 * Holds HTS-AT against the set `htsat` of its official program, as pretrained.ts does the others:
 * with the front end of the file, and with the official one at 32 kHz in its place.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import {
  type Device,
  keep,
  mean,
  mul,
  noGrad,
  permute,
  scope,
  sigmoid,
  type Tensor,
} from "../../engine/mod.ts";
import type { CheckpointFile } from "../../model/formats/checkpoint_file.ts";
import { storedTensor } from "../../model/formats/stored_tensor.ts";
import { hannPeriodic, slaneyMelFilterbank } from "../../model/frontend/tables.ts";
import { Htsat, isHtsat } from "../../model/pretrained/htsat.ts";
import { loadPretrained } from "../../model/pretrained/load.ts";
import { windowIndex } from "../../model/pretrained/windows.ts";
import { UsageError } from "../errors.ts";
import { openCheckpointFile } from "../io/checkpoint_file.ts";
import { type GoldenSet, readGolden } from "./golden.ts";
import { GIVEN, granted, type Pass, WAVEFORM } from "./pretrained.ts";
import { type CheckRow, Report, TOLERANCES } from "./report.ts";

const FIRST_STAGE = granted(5e-4, "the first stage from the waveform: noise in nearly empty bins");
const SLANEY = granted(2e-7, "filters are float64 results rounded to float32");

/** Runs all checks of the set, of each of its files; `audio` is in the same folder. */
export async function verifyHtsat(
  device: Device,
  golden: GoldenSet,
  folder: string,
): Promise<CheckRow[]> {
  const { json } = golden;
  const report = new Report(json.name);
  const audio = readGolden(folder, json.wave_file);
  if (!audio) throw new UsageError(`${folder}: ${json.name} needs the set ${json.wave_file}`);
  const index = golden.tensors.get("relative_position_index");
  const {
    htsat_window_size: window,
    full_frontend: full,
    frontend_in_checkpoint: given,
  } = json.hyperparameters;
  if (index) {
    report.compare("relative_position_index", windowIndex(window), index.data, TOLERANCES.exact);
  }
  const filters = golden.tensors.get("full_frontend.mel_fb");
  if (filters && full) report.compare("full_frontend.mel_fb", turned(full), filters.data, SLANEY);
  const files = [json.checkpoint, json.checkpoint_lightning].filter((it) => it !== undefined);
  for (const [i, file] of files.entries()) {
    using checkpoint = openCheckpointFile(join(folder, file));
    for (const prefix of i === 0 && full ? ["", "full_frontend."] : [""]) {
      const sampleRate: number = prefix === "" ? json.sample_rate : full.sample_rate;
      const source = prefix === "" && (isHtsat(checkpoint.file.tensors) || !given)
        ? checkpoint.file
        : withFrontend(checkpoint.file, prefix === "" ? given : full);
      using encoder = await loadPretrained(device, source, { sampleRate });
      if (!(encoder instanceof Htsat)) throw new UsageError(`${file}: is not HTS-AT`);
      for (const name of ["w1", "w2"]) {
        const wave = audio.tensors.get(`${name}.${sampleRate}`)?.data as Float32Array | undefined;
        if (!wave) continue;
        // The second file holds the same encoder: its embeddings will do.
        if (i === 0) await clip(encoder, golden, report, prefix, name, wave);
        await embedding(encoder, golden, report, `${prefix}emb.${name}`, wave, i === 0 ? "" : file);
        if (name !== "w2" || i > 0) continue;
        const six = wave.subarray(0, 6 * sampleRate);
        await embedding(encoder, golden, report, `${prefix}emb.six`, six, "");
      }
    }
  }
  return report.rows;
}

/** A front end as sets describe it. */
export interface FrontendSizes {
  readonly sample_rate: number;
  readonly window_size: number;
  readonly mel_bins: number;
  readonly fmin: number;
  readonly fmax: number;
}

/** Its mel filters, [bins, bands]. */
function filtersOf(
  { sample_rate: sampleRate, window_size: size, mel_bins: bands, fmin, fmax }: FrontendSizes,
): Float32Array {
  const bins = size / 2 + 1;
  return slaneyMelFilterbank({ bins, bands, fmin, fmax, sampleRate, order: "nnaudio" });
}

/** The same, [bands, bins]. */
function turned(sizes: FrontendSizes): Float32Array {
  const [mel, bins] = [filtersOf(sizes), sizes.window_size / 2 + 1];
  const at = (i: number) => i % bins * sizes.mel_bins + Math.floor(i / bins);
  return mel.map((_, i) => mel[at(i)]);
}

/** The file with such a front end in the place of its own, or where it has none. */
export function withFrontend(file: CheckpointFile, sizes: FrontendSizes): CheckpointFile {
  const { window_size: size, mel_bins: bands } = sizes;
  const [bins, mel] = [size / 2 + 1, filtersOf(sizes)];
  const window = hannPeriodic(size, "nnaudio");
  const kernel = (f: (angle: number) => number) =>
    Float32Array.from({ length: bins * size }, (_, i) => {
      const [bin, n] = [Math.floor(i / size), i % size];
      return window[n] * f(-2 * Math.PI * (bin * n % size) / size);
    });
  const tensors = new Map(file.tensors);
  const first = tensors.has("patch_embed.norm.weight") ? "" : "sed_model.";
  const put = (name: string, values: Float32Array, shape: number[]) =>
    tensors.set(`${first}${name}`, storedTensor("F32", shape, new Uint8Array(values.buffer)));
  put("spectrogram_extractor.stft.conv_real.weight", kernel(Math.cos), [bins, 1, size]);
  put("spectrogram_extractor.stft.conv_imag.weight", kernel(Math.sin), [bins, 1, size]);
  put("logmel_extractor.melW", mel, [bins, bands]);
  return { ...file, tensors };
}

async function embedding(
  encoder: Htsat,
  golden: GoldenSet,
  report: Report,
  key: string,
  wave: Float32Array,
  file: string,
): Promise<void> {
  const expected = golden.tensors.get(key);
  if (!expected) return;
  const { values } = await encoder.embed(wave, { official: true });
  const of = file === "" ? "" : ` of ${file}`;
  report.compare(`${key}${of}`, values, expected.data, WAVEFORM.embedding);
}

/** All chunks of a clip: front end, and stages from the set's and from the waveform. */
async function clip(
  encoder: Htsat,
  golden: GoldenSet,
  report: Report,
  prefix: string,
  name: string,
  wave: Float32Array,
): Promise<void> {
  const { device } = encoder;
  const { scalars } = golden.json;
  const chunks = encoder.chunks(wave.length);
  const counts: number[] = [];
  for (const [i, { first, length }] of chunks.entries()) {
    const key = golden.tensors.has(`${prefix}latent.${name}`) ? name : `${name}.chunk${i}`;
    const part = wave.slice(first, first + length);
    using own = scope(() => encoder.features(device.tensor(part, [1, length])));
    counts.push(own.shape[1]);
    const frontend = golden.tensors.get(`${prefix}frontend.${key}`);
    if (frontend) {
      const largest = golden.json.float32_run_vs_float64_run[`${prefix}frontend.${key}`].max_abs;
      const tolerance = granted(1e-2 / largest, "mel decibels: 1e-2 where bins are nearly empty");
      report.compare(`${prefix}frontend.${key}`, await own.data(), frontend.data, tolerance);
      using given = device.tensor(frontend.data, [1, ...frontend.shape]);
      await stages(encoder, golden, report, [prefix, key], given, GIVEN);
    }
    await stages(encoder, golden, report, [prefix, key], own, WAVEFORM);
  }
  const expected = scalars[`${prefix}frames_${name}`];
  report.compare(`${prefix}frames of ${name}`, counts, expected, TOLERANCES.exact);
}

async function stages(
  encoder: Htsat,
  golden: GoldenSet,
  report: Report,
  [prefix, key]: readonly [string, string],
  features: Tensor,
  pass: Pass,
): Promise<void> {
  const seen = new Map<string, Tensor>();
  const results = scope(() => {
    const tokens = encoder.encode(features, {
      trace: (what, x) => {
        // A copy: stages are freed when the next one has been computed.
        if (golden.tensors.has(`${prefix}${what}.${key}`)) seen.set(what, keep(mul(x, 1)));
      },
    });
    return noGrad(() => {
      const tscam = encoder.scores(tokens);
      return {
        tscam,
        framewise: mul(permute(sigmoid(tscam), [0, 2, 1]), 1),
        clipwise: encoder.probabilities(tscam),
        latent: mean(tokens, { axes: [1] }),
      };
    });
  });
  for (const [what, x] of Object.entries(results)) seen.set(what, x);
  for (const [what, x] of seen) {
    const expected = golden.tensors.get(`${prefix}${what}.${key}`);
    const early = pass === WAVEFORM && /^(bn0|image|patch|tokens_in|stage0)/.test(what);
    const tolerance = /^(clipwise|latent)/.test(what)
      ? pass.embedding
      : early
      ? FIRST_STAGE
      : pass.stage;
    if (expected) {
      const row = `${prefix}${what}.${key}${pass.from}`;
      report.compare(row, await x.data(), expected.data, tolerance);
    }
    x.dispose();
  }
}
