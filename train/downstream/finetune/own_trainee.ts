/**
 * This project's encoders with a head that is trained with them.
 *
 * @module
 */
import type { Device, PendingRead } from "../../../engine/mod.ts";
import type { Prng } from "../../../engine/prng.ts";
import { UNKNOWN } from "../known_labels.ts";
import { classTargets } from "../probe/metrics.ts";
import type { ProbeFile } from "../probe/probe_layer.ts";
import type { ProbeData } from "../probe/splits.ts";
import { drawMix, drawPatches, mixedRows, mixedSpectrograms } from "./augment.ts";
import type { FineTuned, FineTuneSettings, Trainee } from "./finetune.ts";
import { type InitialEncoder, initialEncoderSpecs } from "./initial_encoder.ts";
import { FineTuneModel } from "./model.ts";
import { secondsOf, type SpectrogramClip } from "./spectrogram_clips.ts";
import { FineTuner, type HostBatch } from "./trainer.ts";

/** What {@link OwnTrainee} works with. */
export interface OwnSubject {
  /** Trains. */
  readonly device: Device;
  /** Where each fold begins. */
  readonly encoder: InitialEncoder;
  /** Clips and classes. */
  readonly data: ProbeData;
  /** Their sound, in order. */
  readonly sounds: readonly SpectrogramClip[];
  /** How. */
  readonly settings: FineTuneSettings;
}

/** An encoder of this project with its head. */
export class OwnTrainee implements Trainee {
  readonly #subject: OwnSubject;
  readonly #model: FineTuneModel;
  readonly #tuner: FineTuner;

  /** @param random draws the head */
  constructor(subject: OwnSubject, random: Prng) {
    const { device, encoder, data: { classes, multiLabel }, settings } = subject;
    this.#subject = subject;
    const about = { ...settings, classes: classes.length, multiLabel };
    this.#model = new FineTuneModel(device, encoder, about, random);
    this.#tuner = new FineTuner(this.#model, settings);
  }

  /** @inheritdoc */
  step(clips: readonly number[], random: Prng, rate: number): PendingRead {
    const batch = hostBatch(this.#subject, this.#model, clips, random);
    return this.#subject.device.readLater([this.#tuner.step(batch, rate)]);
  }

  /** @inheritdoc */
  logits(clips: readonly number[]): Promise<Float32Array> {
    const { data: { classes, multiLabel }, sounds, settings: { tested, frames } } = this.#subject;
    return this.#tuner.logits(
      clips.map((clip) => sounds[clip]),
      ({ frames: own }) => tested === "start" ? frames : Math.max(frames, own),
      { classes, multiLabel, features: featuresOf(this.#subject) },
    );
  }

  /** @inheritdoc */
  keep(): void {
    this.#tuner.keep();
  }

  /** @inheritdoc */
  restore(): void {
    this.#tuner.restore();
  }

  /** @inheritdoc */
  async finished(): Promise<FineTuned> {
    const { arena, network: { geometry } } = this.#model;
    const all = await arena.read();
    return {
      tensors: initialEncoderSpecs(geometry, false).map(({ name }) =>
        [name, all.get(name)!] as const
      ),
      head: await this.#model.head(),
    };
  }

  /** Frees model and captured updates. */
  [Symbol.dispose](): void {
    this.#tuner[Symbol.dispose]();
    this.#model[Symbol.dispose]();
  }
}

/** Crops, mixes, and draws the patches that stay. */
function hostBatch(
  { encoder: { frontend, geometry }, data, sounds, settings }: OwnSubject,
  model: FineTuneModel,
  clips: readonly number[],
  random: Prng,
): HostBatch {
  const { frames, mixup, patchOut, bands } = settings;
  const size = geometry.melBands * frames;
  const count = data.classes.length;
  let input = new Float32Array(clips.length * size);
  let targets = classTargets(clips.map((clip) => data.truth[clip]), count);
  clips.forEach((clip, i) => {
    const first = random.integer(Math.max(0, sounds[clip].frames - frames) + 1);
    sounds[clip].copyTo(input.subarray(i * size, (i + 1) * size), first, frames);
  });
  if (mixup > 0) {
    const mix = drawMix(random, clips.length, mixup);
    input = mixedSpectrograms(input, mix, frontend.statistics);
    // Of what one of two clips leaves unknown nothing is known.
    const unknown = mixedRows(targets.map((it) => +(it === UNKNOWN)), mix);
    targets = Float32Array.from(
      mixedRows(targets, mix),
      (it, i) => unknown[i] > 0 ? UNKNOWN : it,
    );
  }
  const patches = drawPatches(random, clips.length, model.gridOf(frames), patchOut, bands);
  return { input, targets, ...patches };
}

/** How `embed --probe` makes what the head sees. */
export function featuresOf(
  { settings: { bands, frames, tested }, encoder: { frontend } }: Pick<
    OwnSubject,
    "settings" | "encoder"
  >,
): ProbeFile["features"] {
  // What is shorter than a crop has silence behind it, as in training.
  const seconds = secondsOf(frames, frontend);
  return {
    mode: "precise",
    pool: "mean",
    bands,
    ...(tested === "start" ? { seconds } : { leastSeconds: seconds }),
  };
}
