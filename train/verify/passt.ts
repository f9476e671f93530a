/**
 * Holds PaSST against the set `passt` of its official program, as pretrained.ts does the others.
 * Embeddings of two and three levels, which are further windows side by side, are not made here.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import { type Device, keep, mul, permute, scope, type Tensor } from "../../engine/mod.ts";
import { kaldiMelFilterbank } from "../../model/frontend/kaldi_fbank.ts";
import { hannSymmetric, PASST_MEL, passtFrames } from "../../model/frontend/passt_mel.ts";
import { loadPretrained } from "../../model/pretrained/load.ts";
import { Passt } from "../../model/pretrained/passt.ts";
import { UsageError } from "../errors.ts";
import { openCheckpointFile } from "../io/checkpoint_file.ts";
import { type GoldenSet, readGolden } from "./golden.ts";
import { GIVEN, granted, MEL_TABLE, type Pass, WAVEFORM, WINDOW } from "./pretrained.ts";
import { type CheckRow, Report, TOLERANCES } from "./report.ts";

/** Runs all checks of the set; its `.pt` and `audio` are in the same folder. */
export async function verifyPasst(
  device: Device,
  golden: GoldenSet,
  folder: string,
): Promise<CheckRow[]> {
  const { json } = golden;
  const report = new Report(json.name);
  const audio = readGolden(folder, json.wave_file);
  if (!audio) throw new UsageError(`${folder}: ${json.name} needs the set ${json.wave_file}`);
  for (
    const [name, made, tolerance] of [
      ["window", () => hannSymmetric(PASST_MEL.window), WINDOW],
      ["mel_fb", () => kaldiMelFilterbank(PASST_MEL), MEL_TABLE],
    ] as const
  ) {
    const expected = golden.tensors.get(name);
    if (expected) report.compare(name, made(), expected.data, tolerance);
  }
  using checkpoint = openCheckpointFile(join(folder, json.checkpoint));
  const heads: number = json.hyperparameters.num_heads;
  using encoder = await loadPretrained(device, checkpoint.file, { heads });
  if (!(encoder instanceof Passt)) throw new UsageError(`${json.checkpoint}: is not PaSST`);
  const waves = (json.waves as string[]).map((it) =>
    [it.split(".")[0], audio.get(it).data as Float32Array] as const
  );
  for (const [name, wave] of waves) {
    const frames = windows(wave).map((it) => passtFrames(it.length));
    report.compare(`frames of ${name}`, frames, json.scalars[`frames_${name}`], TOLERANCES.exact);
    for (const [i, part] of windows(wave).entries()) {
      const key = golden.tensors.has(`logits.${name}`) ? name : `${name}.window${i}`;
      await window(encoder, golden, report, key, part);
    }
    await embedding(encoder, golden, report, `emb.${name}`, wave);
    const features = golden.tensors.get(`features_mean.${name}`);
    if (features) {
      const { values } = await encoder.embed(wave);
      report.compare(`features_mean.${name}`, values, features.data, WAVEFORM.embedding);
    }
  }
  if (waves.length > 1) {
    const six = waves[1][1].subarray(0, 6 * PASST_MEL.sampleRate);
    await embedding(encoder, golden, report, "emb.six", six);
  }
  const steps = golden.tensors.get("timestamps.embeddings");
  if (steps) {
    const part = waves[0][1].subarray(0, json.scalars.timestamp_samples);
    const found = await encoder.embed(part, { pool: "none", vector: "all" });
    report.compare("timestamps.embeddings", found.values, steps.data, WAVEFORM.embedding);
    const { data } = golden.get("timestamps.ms");
    report.compare("timestamps.ms", found.times!, data, TOLERANCES.table);
  }
  return report.rows;
}

/** The windows that a clip's embedding is made of, cut as its definition says. */
function windows(wave: Float32Array): Float32Array[] {
  const [window, hop] = [10 * PASST_MEL.sampleRate, 2.5 * PASST_MEL.sampleRate];
  if (wave.length <= window) return [wave];
  const before = wave.slice(1, window / 2 + 1).reverse();
  const behind = wave.slice(-window / 2 - 1, -1).reverse();
  const whole = Float32Array.from([before, wave, behind].flatMap((it) => [...it]));
  return Array.from(
    { length: Math.floor((whole.length - window) / hop) + 1 },
    (_, i) => whole.slice(i * hop, i * hop + window),
  );
}

async function embedding(
  encoder: Passt,
  golden: GoldenSet,
  report: Report,
  key: string,
  wave: Float32Array,
): Promise<void> {
  const expected = golden.tensors.get(key);
  if (!expected) return;
  const { values } = await encoder.embed(wave, { vector: "all" });
  report.compare(key, values, expected.data, WAVEFORM.embedding);
}

/** One window: front end, and stages from the set's and from the waveform. */
async function window(
  encoder: Passt,
  golden: GoldenSet,
  report: Report,
  key: string,
  wave: Float32Array,
): Promise<void> {
  const { device } = encoder;
  using own = scope(() => encoder.features(device.tensor(wave, [1, wave.length])));
  const turned = (x: Tensor) => scope(() => mul(permute(x, [0, 2, 1]), 1));
  const frontend = golden.tensors.get(`frontend.${key}`);
  if (frontend) {
    const { max_abs: largest } = golden.json.float32_run_vs_float64_run[`frontend.${key}`];
    const tolerance = granted(5e-3 / 5 / largest, "log-mel: 5e-3 before it is divided by 5");
    using found = turned(own);
    report.compare(`frontend.${key}`, await found.data(), frontend.data, tolerance);
    using given = scope(() => turned(device.tensor(frontend.data, [1, ...frontend.shape])));
    await stages(encoder, golden, report, key, given, GIVEN);
  }
  await stages(encoder, golden, report, key, own, WAVEFORM);
}

async function stages(
  encoder: Passt,
  golden: GoldenSet,
  report: Report,
  key: string,
  features: Tensor,
  pass: Pass,
): Promise<void> {
  const seen = new Map<string, Tensor>();
  const vectors = scope(() => {
    const [last] = encoder.encodeBlocks(features, 1, {
      trace: (what, x) => {
        // A copy: stages are freed when the next one has been computed.
        if (golden.tensors.has(`${what}.${key}`)) seen.set(what, keep(mul(x, 1)));
      },
    });
    return [encoder.vectorOf(last, "features"), encoder.vectorOf(last, "logits")];
  });
  vectors.forEach((it, i) => seen.set(["features", "logits"][i], it));
  for (const [what, x] of seen) {
    const expected = golden.tensors.get(`${what}.${key}`);
    const tolerance = vectors.includes(x) ? pass.embedding : pass.stage;
    if (expected) {
      report.compare(`${what}.${key}${pass.from}`, await x.data(), expected.data, tolerance);
    }
    x.dispose();
  }
}
