/**
 * What a run on real data takes where nobody says how: model, crops, batch, rates, stages and
 * length, from the hours of sound, from how fast this adapter trains, and from the time given.
 *
 * The numbers of short runs are those that were measured to be better than the untrained network
 * (bench/RESULTS.md); those of long ones lie between them and the papers', and were not.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { Prng } from "../../engine/prng.ts";
import { initialise } from "../../model/objectives/initialise.ts";
import { drawMask } from "../../model/objectives/masking.ts";
import type { ObjectiveName } from "../../model/objectives/objectives.ts";
import { type PresetName, PRESETS } from "../../model/objectives/presets.ts";
import { patchGrid } from "../../model/vit/geometry.ts";
import { SAMPLE_RATE } from "../audio/decode.ts";
import type { PlannedReason, ResolvedConfig } from "../config/config.ts";
import { stagesOf } from "../config/stages.ts";
import type { ClipSource } from "../data/clip_source.ts";
import { FileError } from "../data/clip_reading.ts";
import { readStoreHeader } from "../data/logmel_file.ts";
import type { WorkerPool } from "../data/worker_pool.ts";
import { openRegular } from "../io/regular_file.ts";
import type { InitialModel } from "./initial_weights.ts";
import { buildModel, stepSettings } from "./model_from_config.ts";
import { Trainer } from "./update.ts";

/** How much sound there is. */
export interface SoundFacts {
  /** Clips. */
  readonly clips: number;
  /** Estimated from some clips. */
  readonly hours: number;
  /** Half of the clips are longer, seconds. */
  readonly median: number;
  /** Hours of each of several folders. */
  readonly each?: readonly number[];
}

/** What is decided before the length is. */
export interface PlannedSizes {
  /** By option name. */
  readonly values: Readonly<Record<string, unknown>>;
  /** Share of the time in which the encoder paints before the objective; 0 for one stage. */
  readonly painting: number;
  /** Half-lives of the teacher encoder's average at first and at last, as shares of the run. */
  readonly averaging?: readonly [start: number, end: number];
  /** What comes to that where a pass has crops of two clips at least. */
  readonly contrast?: {
    readonly values: Readonly<Record<string, unknown>>;
    readonly reason: PlannedReason;
  };
  /** Most crops of the last stage. */
  readonly mostCrops?: number;
  /** Why. */
  readonly reasons: readonly PlannedReason[];
}

/** Options for which the plan has values already. */
export interface Fixed {
  readonly preset?: PresetName;
  readonly objective?: ObjectiveName;
}

/** Clips that are looked at for lengths, and in each of several folders at least. */
const LOOKED_AT = { all: 40, each: 10 } as const;
/** A longer clip counts as this long in the estimate: all of it would have to be decoded. */
const MOST_SECONDS = 600;
/** Share of the time that updates get; reading, checkpoints and kernels take the rest. */
const FOR_UPDATES = 0.95;
/** Crops from which on MATPAC follows painting, and crops are as long as the presets'. */
const LONG_RUN = 1_000_000;
/** Updates at least where the preset's length, or its training from nothing, is no measure. */
const LEAST_UPDATES = 200;
/** Crops and hours of sound that a larger model is worth. */
const WORTH: Readonly<Record<"small" | "base", { crops: number; hours: number }>> = {
  small: { crops: 2_000_000, hours: 5 },
  base: { crops: 20_000_000, hours: 100 },
};

/**
 * What a short run has beside its objective, as measured: without it the last block of an encoder
 * that only paints says no more of a clip than before (bench/RESULTS.md).
 */
const CLIPS = { contrast: 0.3, speeds: [0.75, 1.33] } as const;

/** What the rate is first measured with: `tiny` painting, the cheapest of all. */
export const FIRST_SIZES: Readonly<Record<string, unknown>> = {
  preset: "tiny",
  objective: "msm-mae",
  "norm-pix": true,
  "crop-frames": 64,
  batch: 32,
  "mask-ratio": 0.5,
  lr: 5e-4,
  ...CLIPS,
};

/** What a crop costs of one of `tiny`: products grow with the square of the width. */
function costOf(preset: PresetName): number {
  return (PRESETS[preset].geometry.width / PRESETS.tiny.geometry.width) ** 2;
}

/** What clips' embeddings are of models that saw little. */
function readoutOf(preset: PresetName): Readonly<Record<string, unknown>> {
  return { pool: "mean-std", blocks: [0, PRESETS[preset].geometry.depth] };
}

/**
 * Shares of several folders in the crops: every second of sound counts alike, where clip by clip a
 * folder of short ones would be most of a run. One without a known length is drawn from too.
 */
function weightsOf({ each, hours }: SoundFacts): Readonly<Record<string, unknown>> {
  if (each === undefined || hours === 0) return {};
  return {
    "data-weights": each.map((it) => Number(Math.max(60 * it, 0.6 * hours).toPrecision(2))),
  };
}

/** A number for people. */
const rounded = (x: number): string => Number(x.toPrecision(2)).toLocaleString("en");

/** What was found or measured. */
const fact = (text: string): PlannedReason => ({ text, of: [] });

function sharesReason({ each }: SoundFacts): PlannedReason[] {
  if (each === undefined) return [];
  const minutes = each.map((it) => rounded(60 * it)).join(", ");
  const text =
    `crops come from the folders by their minutes of sound, ${minutes}, not by their clips`;
  return [{ text, of: ["data-weights"] }];
}

/**
 * Decides on everything but the length.
 *
 * @param rate crops per second of {@link FIRST_SIZES}
 * @param hours of training
 */
export function planSizes(
  facts: SoundFacts,
  rate: number,
  hours: number,
  fixed: Fixed = {},
): PlannedSizes {
  const { hours: sound, clips, median } = facts;
  const crops = (preset: PresetName) => rate * hours * 3600 / costOf(preset);
  const pays = (preset: "small" | "base") =>
    crops(preset) >= WORTH[preset].crops && sound >= WORTH[preset].hours;
  const preset = fixed.preset ?? (pays("base") ? "base" : pays("small") ? "small" : "tiny");
  const isLong = crops(preset) >= LONG_RUN;
  const frames = isLong && median >= 1 ? 208 : 64;
  const maskRatio = frames === 64 ? 0.5 : 0.7;
  const batch = { tiny: 32, small: 64, base: 256 }[preset];
  const paints = fixed.objective === undefined ? !isLong : fixed.objective === "msm-mae";
  const larger = preset === "tiny" ? "small" : "base";
  const reasons: PlannedReason[] = [
    fact(
      `${rounded(sound * 60)} min of sound in ${clips} clips, half of them longer than ` +
        `${rounded(median)} s; ${rounded(hours)} h of training, tiny paints ${rounded(rate)} ` +
        "crops per second here",
    ),
    fact(
      fixed.preset === undefined
        ? `preset ${preset}: ${rounded(crops(preset))} crops in that time` +
          (preset === "base"
            ? ""
            : `; ${larger} is for ${rounded(WORTH[larger].crops)} crops of its ` +
              `own and ${WORTH[larger].hours} h of sound`)
        : `preset ${preset}, as asked for: about ${rounded(crops(preset))} crops in that time`,
    ),
    {
      text: `crops of ${frames / 100} s, ${batch} to an update, mask ratio ${maskRatio}: ` +
        (frames === 64
          ? isLong
            ? "clips are short"
            : "more crops in the time given, of which a short run has few"
          : "long enough a run for the presets' crops"),
      of: ["crop-frames", "batch", "mask-ratio"],
    },
    ...sharesReason(facts),
    paints
      ? {
        text: "the encoder paints spectrograms (MSM-MAE): in a short run the other objectives' " +
          "teacher knows too little to ask for more",
        of: ["objective"],
      }
      : fact(
        `the encoder paints spectrograms first, then ${
          fixed.objective ?? "matpac"
        } goes on from it, whose teacher knows something then`,
      ),
    ...preset === "base" ? [] : [{
      text: "embeddings are mean and deviation over time, of the patches and of the last block: " +
        "what a sound is and how steady, as it was heard and as it was understood",
      of: ["pool", "blocks"] as const,
    }],
  ];
  return {
    values: {
      preset,
      batch,
      "crop-frames": frames,
      "mask-ratio": maskRatio,
      lr: paints ? 5e-4 : 3e-4,
      ...paints
        ? { objective: "msm-mae", "norm-pix": true }
        : { objective: "matpac", "paint-lr": preset === "base" ? 3e-4 : 5e-4 },
      ...preset !== "base" && readoutOf(preset),
      ...weightsOf(facts),
      "log-every": 20,
    },
    painting: paints ? 0 : 0.4,
    // As measured after painting.
    ...!paints && { averaging: [0.23, 4.6] as const },
    ...paints && !isLong && {
      contrast: {
        values: CLIPS,
        reason: {
          text: "two crops of each clip, played at different speeds, are to be known as one " +
            `(contrast, weight ${CLIPS.contrast}): an encoder that paints alone learns little of ` +
            "whole sounds",
          of: ["contrast", "speeds"],
        },
      },
    },
    reasons,
  };
}

/** Passes over the sound, in crops, that continued pre-training takes at most. */
const MOST_PASSES = 100;

/**
 * Decides on everything but the length of continued pre-training, which begins with weights that
 * were trained on much more: a low rate, a teacher that is slow from the start, few passes.
 *
 * None of these numbers was measured on official weights.
 */
export function planContinued(
  facts: SoundFacts,
  { preset, objective, frames: own, patch, classToken, choices, teacher }: InitialModel,
  hours: number,
): PlannedSizes {
  const { hours: sound, clips, median } = facts;
  const wide = patch[1];
  const frames = median >= 5
    ? own
    : Math.max(2 * wide, Math.floor(Math.min(own, 208) / wide) * wide);
  const [batch, lr] = { tiny: [32, 1e-4], small: [64, 1e-4], base: [128, 5e-5] }[preset];
  const hasTeacher = objective !== "msm-mae";
  const head = objective === "matpac" || objective === "matpac-plus";
  return {
    values: {
      ...{ preset, objective, batch, lr, "crop-frames": frames, "log-every": 20 },
      "mask-ratio": hasTeacher ? 0.7 : 0.75,
      ...preset === "base" ? { "micro-batch": 32 } : readoutOf(preset),
      ...!hasTeacher && { "norm-pix": true },
      ...choices > 0 && { "mcl-heads": choices },
      ...!(patch[0] === 16 && wide === 16) && { patch },
      ...!classToken && { "no-class-token": true },
      // Its rise is for prototypes that are still to be found.
      ...head && teacher && { "teacher-temp": [0.07, 0.07] },
      ...weightsOf(facts),
    },
    painting: 0,
    ...hasTeacher && { averaging: teacher ? [1, 4.6] as const : [0.23, 4.6] as const },
    mostCrops: Math.ceil(MOST_PASSES * sound * 3600 / (frames / 100)),
    reasons: [
      fact(
        `${rounded(sound * 60)} min of sound in ${clips} clips, half of them longer than ` +
          `${rounded(median)} s; ${rounded(hours)} h of training at most`,
      ),
      fact(
        `the file is of preset ${preset} and was trained as ${objective}, which goes on` +
          (hasTeacher ? teacher ? ", teacher included" : "; its encoder is the first teacher" : ""),
      ),
      {
        text: `crops of ${frames / 100} s, ${batch} to an update, learning rate ${lr}: low, so ` +
          "that what it knows stays",
        of: ["crop-frames", "batch", "lr"],
      },
      ...sharesReason(facts),
    ],
  };
}

/**
 * Lengths of the stages, and what depends on them.
 *
 * @param rates crops per second of each stage
 * @param config of the sizes, with some length
 */
export function planLengths(
  { painting, averaging, mostCrops = Infinity }: PlannedSizes,
  rates: readonly number[],
  hours: number,
  { batch, preset }: Pick<ResolvedConfig, "batch" | "preset">,
): { readonly values: Readonly<Record<string, unknown>>; readonly reason: PlannedReason } {
  const { length } = PRESETS[preset].training;
  const least = "steps" in length && mostCrops === Infinity ? length.steps : LEAST_UPDATES;
  const within = (share: number, rate: number) => {
    const steps = Math.floor(share * FOR_UPDATES * hours * 3600 * rate / batch);
    const unit = steps >= 2000 ? 100 : 10;
    return Math.max(unit, Math.floor(steps / unit) * unit);
  };
  const most = Math.max(10, Math.ceil(mostCrops / batch));
  const steps = Math.min(Math.max(within(1 - painting, rates.at(-1)!), least), most);
  const paint = painting > 0 ? Math.max(within(painting, rates[0]), least) : 0;
  const saveEvery = Math.max(100, Math.ceil((steps + paint) / 1000) * 100);
  const decay = (share: number) => {
    const lost = Number((1 - 0.5 ** (1 / (share * steps))).toPrecision(2));
    return Number((1 - lost).toFixed(12));
  };
  const each = paint > 0
    ? `${paint} updates of painting and ${steps} after it`
    : `${steps} updates`;
  return {
    values: {
      steps,
      ...paint > 0 && { "paint-steps": paint },
      ...averaging && { "ema-encoder": averaging.map(decay) },
      "save-every": saveEvery,
    },
    reason: fact(
      `${each}${steps === most ? `, ${MOST_PASSES} passes over the sound` : ""}: ${
        rates.map(rounded).join(" and ")
      } crops per second measured`,
    ),
  };
}

/**
 * How much sound there is, from clips that lie evenly over the source.
 *
 * @param pool decodes
 */
export async function soundOf(source: ClipSource, pool: WorkerPool): Promise<SoundFacts> {
  const parts = source.joined ?? [source];
  const starts = parts.map((_, i) => parts.slice(0, i).reduce((sum, { size }) => sum + size, 0));
  const lengths = await Promise.all(parts.map(async ({ size }, part) => {
    const share = Math.ceil(LOOKED_AT.all * size / source.size);
    const count = Math.min(Math.max(share, LOOKED_AT.each), size);
    const looked = Array.from({ length: count }, (_, i) => Math.floor((i + 0.5) * size / count));
    const found = await Promise.all(
      looked.map((it) => secondsOf(source.describe(starts[part] + it), pool)),
    );
    const known = found.filter((it) => it !== undefined);
    // Each stands for so many clips. Whether anything can be used is found by who trains.
    return known.map((seconds) => ({ seconds, clips: size / known.length }));
  }));
  const each = lengths.map((part) =>
    part.reduce((sum, { seconds, clips }) => sum + seconds * clips, 0) / 3600
  );
  const sorted = lengths.flat().sort((a, b) => a.seconds - b.seconds);
  let left = sorted.reduce((sum, { clips }) => sum + clips, 0) / 2;
  const median = sorted.find(({ clips }) => (left -= clips) < 0);
  return {
    clips: source.size,
    hours: each.reduce((a, b) => a + b),
    median: median?.seconds ?? 0,
    ...source.joined && { each },
  };
}

async function secondsOf(path: string, pool: WorkerPool): Promise<number | undefined> {
  try {
    if (/\.npy$/i.test(path)) {
      using file = openRegular(path);
      return readStoreHeader(file).frames / 100;
    }
    const audio = await pool.run("waveform", { path, samples: MOST_SECONDS * SAMPLE_RATE });
    return Math.min(audio.length / SAMPLE_RATE, MOST_SECONDS);
  } catch (error) {
    const { name } = error as Error;
    if (
      error instanceof FileError || name === "NpyError" || error instanceof Deno.errors.NotFound
    ) {
      return undefined;
    }
    throw error;
  }
}

/** Updates that are timed at least, and seconds. */
const TIMED = { updates: 3, seconds: 3 } as const;

/**
 * Crops per second of each stage of a configuration, on made-up crops; its kernels are compiled
 * then, for the run as well.
 */
export async function measureRates(device: Device, config: ResolvedConfig): Promise<number[]> {
  const rates: number[] = [];
  for (const stage of stagesOf(config)) rates.push(await measureRate(device, stage.config));
  return rates;
}

async function measureRate(device: Device, config: ResolvedConfig): Promise<number> {
  const { geometry, microBatch, masksPerClip, masking, batch } = config;
  using model = buildModel(device, config);
  const random = new Prng(config.seed);
  initialise(model, random);
  using trainer = new Trainer(device, model, CONSTANT, stepSettings(config));
  const shape = [microBatch, geometry.melBands, geometry.cropFrames];
  const values = Float32Array.from(
    { length: shape.reduce((a, b) => a * b) },
    () => random.normal(),
  );
  using input = device.tensor(values, shape);
  const mask = drawMask(
    masking,
    () => random.uniform(),
    microBatch * masksPerClip,
    patchGrid(geometry),
    geometry.maskRatio,
  );
  const update = async () => {
    while (!trainer.step(input, mask));
    await device.sync();
  };
  // Compiles and records.
  await update();
  const start = performance.now();
  for (let updates = 1;; updates++) {
    await update();
    const seconds = (performance.now() - start) / 1000;
    if (updates < TIMED.updates || seconds < TIMED.seconds && updates < 100) continue;
    device.trim();
    return batch * updates / seconds;
  }
}

/** Schedules of updates that are only timed. */
const CONSTANT = {
  total: 1000,
  lr: () => 1e-4,
  teacherTemp: () => 0.05,
  emaEncoder: () => 0.99,
  emaHead: () => 0.99,
  choiceTemperature: () => 0.1,
} as const;
