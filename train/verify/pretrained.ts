/**
 * Holds encoders of other systems against sets of their official programs: `mae_ast_patch`,
 * `mae_ast_frame`, `beats` and `beats_finetuned`, each with a `.pt` file, and `audio` with the
 * waveforms of all. What a set has of front end, stages, clip and frame embeddings is compared;
 * stages and embeddings once from the set's own front end, which leaves out float32's noise in
 * nearly empty bins, and once from the waveform.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import {
  concat,
  type Device,
  type HostArray,
  keep,
  mean,
  mul,
  noGrad,
  pad,
  scope,
  slice,
  type Tensor,
} from "../../engine/mod.ts";
import { Beats } from "../../model/pretrained/beats.ts";
import type { PretrainedEncoder } from "../../model/pretrained/encoder.ts";
import { loadPretrained } from "../../model/pretrained/load.ts";
import { relativeBuckets } from "../../model/pretrained/relative_positions.ts";
import {
  KALDI_128,
  kaldiFrames,
  kaldiMelFilterbank,
  poveyWindow,
} from "../../model/frontend/kaldi_fbank.ts";
import { UsageError } from "../errors.ts";
import { openCheckpointFile } from "../io/checkpoint_file.ts";
import { type GoldenSet, readGolden } from "./golden.ts";
import { type CheckRow, Report, type Tolerance, TOLERANCES } from "./report.ts";

/** Where the features of a pass come from, and what it is granted. */
export interface Pass {
  /** In the names of checks. */
  readonly from: string;
  /** Of activations. */
  readonly stage: Tolerance;
  /** Of clips' embeddings. */
  readonly embedding: Tolerance;
}

/** A tolerance of which both bounds are alike. */
export const granted = (most: number, reason: string): Tolerance => ({
  max: most,
  l2: most,
  reason,
});

/** From the set's own front end. */
export const GIVEN: Pass = {
  from: "",
  stage: granted(5e-5, "stages from a given front end: sums of float32 in another order"),
  embedding: granted(1e-5, "means over tokens from a given front end"),
};
/** From the waveform. */
export const WAVEFORM: Pass = {
  from: " from the waveform",
  stage: granted(2e-4, "stages from the waveform: float32's noise in nearly empty bins"),
  embedding: granted(2e-5, "means over tokens from the waveform: that noise, averaged"),
};
/** What a value of the log-mel may be off by, in natural logarithm, and all of them in L2. */
const [LOG_MEL, LOG_MEL_L2] = [5e-3, 5e-5];
/** Of windows. */
export const WINDOW = granted(
  5e-7,
  "torch takes cosine and power in float32: a few units in the last place",
);
/** Of Kaldi's filters. */
export const MEL_TABLE = granted(
  2e-5,
  "edges near 2800 mel are rounded by 1.2e-4 of the 21.9 in a band",
);

/** Names of the stages and results of one wave. */
const STAGE = /^(patch|patch_norm|proj|pos_conv|enc_in|(?:gate_linear|attn_out|mid|block)\d+)$/;

/** Runs all checks of a set; its `.pt` and `audio` are in the same folder. */
export async function verifyPretrained(
  device: Device,
  golden: GoldenSet,
  folder: string,
): Promise<CheckRow[]> {
  const { json } = golden;
  const report = new Report(json.name);
  const audio = readGolden(folder, json.wave_file);
  if (!audio) throw new UsageError(`${folder}: ${json.name} needs the set ${json.wave_file}`);
  using checkpoint = openCheckpointFile(join(folder, json.checkpoint));
  using encoder = await loadPretrained(device, checkpoint.file);
  tables(golden, report);
  const waves = json.waves as string[];
  for (const name of waves) {
    const wave = audio.get(name).data as Float32Array;
    await clip(encoder, golden, report, { name: name.split(".")[0], wave });
  }
  if (golden.tensors.has("emb.six")) {
    const wave = audio.get(waves[1]).data as Float32Array;
    const { values } = await encoder.embed(wave.subarray(0, 6 * encoder.info.sampleRate));
    report.compare("emb.six", values, golden.get("emb.six").data, WAVEFORM.embedding);
  }
  if (json.scalars.batch_second_length !== undefined) {
    await batch(encoder, golden, report, audio.get(waves[0]).data as Float32Array);
  }
  return report.rows;
}

/** Window, filters and buckets, where the set has them. */
function tables(golden: GoldenSet, report: Report): void {
  const compare = (name: string, actual: () => ArrayLike<number>, tolerance: Tolerance) => {
    const expected = golden.tensors.get(name);
    if (expected) report.compare(name, actual(), expected.data, tolerance);
  };
  compare("window", () => poveyWindow(KALDI_128.frame), WINDOW);
  compare("mel_fb", () => kaldiMelFilterbank(KALDI_128), MEL_TABLE);
  const { num_buckets: count, max_distance: maxDistance } = golden.json.hyperparameters;
  const places = golden.tensors.get("rel_bucket")?.shape[0] ?? 0;
  compare(
    "rel_bucket",
    () => relativeBuckets((places + 1) / 2, { count, maxDistance }),
    TOLERANCES.exact,
  );
}

/** A waveform of the set. */
interface Wave {
  readonly name: string;
  readonly wave: Float32Array;
}

async function clip(
  encoder: PretrainedEncoder,
  golden: GoldenSet,
  report: Report,
  { name, wave }: Wave,
): Promise<void> {
  const { device, info } = encoder;
  using waves = device.tensor(wave, [1, wave.length]);
  using own = encoder.features(waves);
  const frontend = golden.tensors.get(`frontend.${name}`);
  if (frontend) {
    report.compare(`frontend.${name}`, await own.data(), frontend.data, logMelTolerance(golden));
    using given = device.tensor(frontend.data, [1, ...frontend.shape]);
    await stages(encoder, golden, report, name, given, GIVEN);
  }
  await stages(encoder, golden, report, name, own, WAVEFORM);
  const { steps } = await encoder.embed(wave, { pool: "none" });
  report.compare(
    `time steps of ${name}`,
    [steps, kaldiFrames(wave.length)],
    [
      golden.json.scalars[`tokens_${name}`] / info.rows,
      golden.json.scalars[`frames_${name}`],
    ],
    TOLERANCES.exact,
  );
  for (
    const [result, options] of [
      ["emb", {}],
      ["frames", { pool: "none", bands: "concat" }],
      ["emb_frames", { bands: "concat" }],
    ] as const
  ) {
    const expected = golden.tensors.get(`${result}.${name}`);
    if (!expected) continue;
    const { values } = await encoder.embed(wave, options);
    const tolerance = result === "frames" ? WAVEFORM.stage : WAVEFORM.embedding;
    report.compare(`${result}.${name}`, values, expected.data, tolerance);
  }
}

/** {@link LOG_MEL} relative to the largest value of a set's front end. */
function logMelTolerance({ json }: GoldenSet): Tolerance {
  const observed = json.float32_run_vs_float64_run;
  const largest = Math.max(
    ...Object.keys(observed).filter((it) => it.startsWith("frontend."))
      .map((it) => observed[it].max_abs),
  );
  return {
    max: LOG_MEL / (json.fbank?.std_times_2 ?? 1) / largest,
    l2: LOG_MEL_L2,
    reason: "log-mel: nearly empty bins beside loud ones, up to 5e-3 in natural logarithm",
  };
}

/** All stages that the set has, and what follows from the last one. */
async function stages(
  encoder: PretrainedEncoder,
  golden: GoldenSet,
  report: Report,
  name: string,
  features: Tensor,
  { from, stage, embedding }: Pass,
): Promise<void> {
  const seen = new Map<string, Tensor>();
  const expected = (what: string) => golden.tensors.get(`${what}.${name}`);
  using tokens = encoder.encode(features, {
    trace: (what, x) => {
      // A copy: stages are freed when the next one has been computed.
      if (STAGE.test(what) && expected(what)) seen.set(what, keep(mul(x, 1)));
    },
  });
  const compare = async (what: string, x: Tensor, tolerance: Tolerance) => {
    const data = expected(what)?.data;
    if (data) report.compare(`${what}.${name}${from}`, await x.data(), data, tolerance);
  };
  for (const [what, x] of seen) {
    await compare(what, x, stage);
    x.dispose();
  }
  await compare("tokens", tokens, stage);
  using clipMean = noGrad(() => mean(tokens, { axes: [1] }));
  await compare("emb", clipMean, embedding);
  if (encoder instanceof Beats && expected("probs")) {
    using probabilities = encoder.probabilities(tokens);
    await compare("probs", probabilities, embedding);
  }
}

/**
 * Two clips of different length in one batch: the first wave and its first samples. Official
 * programs pad in two ways: MAE-AST with zeros in the place of log-mel, counting every patch that
 * holds a frame of the clip; BEATs with zeros in the place of samples, of which each frame and then
 * each token counts a whole share.
 */
async function batch(
  encoder: PretrainedEncoder,
  golden: GoldenSet,
  report: Report,
  wave: Float32Array,
): Promise<void> {
  const { device, info } = encoder;
  const length: number = golden.json.scalars.batch_second_length;
  const frames = kaldiFrames(wave.length);
  const count = encoder.stepsOf(wave.length) * info.rows;
  const bySamples = info.system === "beats";
  const start = wave.subarray(0, length);
  const silenced = new Float32Array(wave.length);
  silenced.set(start);
  using features = noGrad(() =>
    scope(() => {
      const [first, second] = [wave, bySamples ? silenced : start].map((it) =>
        encoder.features(device.tensor(it, [1, it.length]))
      );
      return concat([first, pad(second, [[0, 0], [0, frames - second.shape[1]], [0, 0]])], 0);
    })
  );
  const kept = bySamples
    ? Math.ceil(Math.ceil(length / Math.floor(wave.length / frames)) / Math.floor(frames / count))
    : (Math.floor((kaldiFrames(length) - 1) * KALDI_128.hop / info.hopSamples) + 1) * info.rows;
  using tokens = encoder.encode(features, { tokens: [count, kept] });
  const { batch_masked_tokens: masked = count - kept } = golden.json.scalars;
  report.compare("batch tokens that count", [count - kept], [masked], TOLERANCES.exact);
  const expected = golden.tensors.get("batch.tokens");
  if (expected) {
    // Those behind are of padding.
    const counting = (it: HostArray) => it.subarray(0, (count + kept) * info.width);
    const [actual, reference] = [await tokens.data(), expected.data].map(counting);
    report.compare("batch.tokens", actual, reference, WAVEFORM.stage);
  }
  const probabilities = golden.tensors.get("batch.probs");
  if (probabilities && encoder instanceof Beats) {
    using both = noGrad(() =>
      scope(() =>
        concat(
          [count, kept].map((of, i) =>
            encoder.probabilities(slice(slice(tokens, 0, i, 1), 1, 0, of))
          ),
          0,
        )
      )
    );
    report.compare(
      "batch.probs",
      await both.data(),
      probabilities.data,
      WAVEFORM.embedding,
    );
  }
}
