/**
 * Encoders of other systems with a head that is trained with them: clips are crops of waveforms,
 * and the head sees the vector that is their embedding by default.
 *
 * @module
 */
import {
  AdamW,
  backward,
  BatchNorm,
  crossEntropy,
  type Device,
  Linear,
  mean,
  mul,
  type Optimizer,
  type PendingRead,
  scope,
  SGD,
} from "../../../engine/mod.ts";
import type { CheckpointFile } from "../../../model/formats/checkpoint_file.ts";
import type { PretrainedEncoder } from "../../../model/pretrained/encoder.ts";
import { loadPretrained, trainedTensors } from "../../../model/pretrained/load.ts";
import { ParameterArena } from "../../../model/vit/parameter_arena.ts";
import { linearSpecs } from "../../../model/vit/parameter_specs.ts";
import type { Prng } from "../../../engine/prng.ts";
import { refuseInterrupted } from "../../io/interruption.ts";
import { knownCrossEntropy, UNKNOWN } from "../known_labels.ts";
import { Snapshot } from "../snapshot.ts";
import { classTargets } from "../probe/metrics.ts";
import { Probe, type ProbeFile } from "../probe/probe_layer.ts";
import type { ProbeData } from "../probe/splits.ts";
import { drawMix, mixedRows } from "./augment.ts";
import type { FineTuned, Trainee } from "./finetune.ts";
import { HEAD_STD } from "./model.ts";
import type { UpdateSettings } from "./trainer.ts";

/** How an encoder of another system is fine-tuned. */
export interface PretrainedTraining extends UpdateSettings {
  /** Samples of a training crop. */
  readonly samples: number;
  /** Clips are tried by as many samples from their start, or whole. */
  readonly tested: "start" | "whole";
  /** Shares of mixed clips come from Beta(mixup, mixup); 0 mixes none. */
  readonly mixup: number;
  /** Whether what comes before the first block keeps its values. */
  readonly frozenPatchEmbed: boolean;
}

/** What {@link PretrainedTrainee} works with. */
export interface PretrainedSubject {
  readonly device: Device;
  /** Its file, which is open. */
  readonly file: CheckpointFile;
  readonly heads: number | undefined;
  readonly data: ProbeData;
  /** Waveforms at the encoder's rate, in the order of the clips. */
  readonly sounds: readonly Float32Array[];
  readonly settings: PretrainedTraining;
  /** How `embed --probe` makes what the head sees. */
  readonly features: ProbeFile["features"];
}

/** An encoder of another system with its head. */
export class PretrainedTrainee implements Trainee {
  readonly #subject: PretrainedSubject;
  readonly #encoder: PretrainedEncoder;
  readonly #arena: ParameterArena;
  readonly #head: Linear;
  readonly #norm: BatchNorm;
  readonly #optimizers: readonly { readonly optimizer: Optimizer; readonly scale: number }[];
  readonly #best: Snapshot;

  private constructor(subject: PretrainedSubject, encoder: PretrainedEncoder, random: Prng) {
    this.#subject = subject;
    this.#encoder = encoder;
    const { device, data: { classes }, settings } = subject;
    const dim = encoder.embeddingSize();
    const arena = this.#arena = new ParameterArena(
      device,
      linearSpecs("head", dim, classes.length),
      { trainable: true },
    );
    const draw = () => HEAD_STD * random.normal();
    arena.load([["head.weight", Float32Array.from({ length: classes.length * dim }, draw)]]);
    this.#head = new Linear(device, dim, classes.length, (name) => arena.get(`head.${name}`));
    this.#norm = new BatchNorm(device, dim, { affine: false });
    const { layerDecay, weightDecay, optimizer, frozenPatchEmbed } = settings;
    const own = encoder.arena.specs.flatMap(({ frozen, name }) => {
      const layer = encoder.layerOf(name);
      return frozen || layer === undefined || frozenPatchEmbed && layer === 0
        ? []
        : [[layer, name, encoder.arena.get(name)] as const];
    });
    const head = arena.specs.map(({ name }) => [encoder.depth + 1, name, arena.get(name)] as const);
    const layers = Map.groupBy(
      [...own, ...head],
      ([layer]) => layerDecay === 1 ? 0 : encoder.depth + 1 - layer,
    );
    this.#optimizers = [...layers].map(([below, parameters]) => {
      const named = parameters.map(([, name, it]) => [name, it] as const);
      return {
        scale: layerDecay ** below,
        optimizer: optimizer === "adamw"
          ? new AdamW(named, { rate: 0, weightDecay, betas: [0.9, 0.95] })
          : new SGD(named, { rate: 0, weightDecay, momentum: 0.9 }),
      };
    });
    const { mean, variance } = this.#norm;
    this.#best = new Snapshot([encoder.arena.values, arena.values, mean, variance]);
  }

  /** Loads the encoder and draws the head: weights normal with deviation 0.01, bias 0. */
  static async begin(subject: PretrainedSubject, random: Prng): Promise<PretrainedTrainee> {
    const { device, file, heads } = subject;
    const options = { trainable: true, ...heads !== undefined && { heads } };
    return new PretrainedTrainee(subject, await loadPretrained(device, file, options), random);
  }

  /** @inheritdoc */
  step(clips: readonly number[], random: Prng, rate: number): PendingRead {
    const { device, data, sounds, settings: { samples, mixup } } = this.#subject;
    const { classes, truth, multiLabel } = data;
    let waves = new Float32Array(clips.length * samples);
    clips.forEach((clip, i) => {
      const sound = sounds[clip];
      const first = random.integer(Math.max(0, sound.length - samples) + 1);
      waves.set(sound.subarray(first, first + samples), i * samples);
    });
    let targets = classTargets(clips.map((clip) => truth[clip]), classes.length);
    if (mixup > 0) {
      const mix = drawMix(random, clips.length, mixup);
      waves = mixedRows(waves, mix);
      const unknown = mixedRows(targets.map((it) => +(it === UNKNOWN)), mix);
      targets = Float32Array.from(
        mixedRows(targets, mix),
        (it, i) => unknown[i] > 0 ? UNKNOWN : it,
      );
    }
    using loss = scope(() => {
      const input = device.tensor(waves, [clips.length, samples]);
      const wanted = device.tensor(targets, [clips.length, classes.length]);
      const vectors = this.#encoder.vectors(this.#encoder.features(input));
      const logits = this.#head.apply(this.#norm.apply(vectors));
      const loss = multiLabel
        ? mean(knownCrossEntropy(logits, wanted))
        : mul(mean(crossEntropy(logits, wanted)), 1 / classes.length);
      this.#encoder.arena.zeroGrad();
      this.#arena.zeroGrad();
      backward(loss);
      return loss;
    });
    for (const { optimizer, scale } of this.#optimizers) {
      optimizer.advance(rate * scale);
      optimizer.update();
      optimizer.zeroGrad();
    }
    return device.readLater([loss]);
  }

  /** @inheritdoc */
  async logits(clips: readonly number[]): Promise<Float32Array> {
    const { data, sounds, features, settings: { samples, tested } } = this.#subject;
    const { classes, multiLabel } = data;
    const file = { classes, multiLabel, features, checkpoint: "", about: {} };
    const head = new Probe({ ...file, ...await this.#headValues() });
    const logits = new Float32Array(clips.length * classes.length);
    const filled = (sound: Float32Array): Float32Array => {
      if (tested === "whole" && sound.length >= samples) return sound;
      const wave = new Float32Array(samples);
      wave.set(sound.subarray(0, samples));
      return wave;
    };
    function* waves() {
      for (const [key, clip] of clips.entries()) yield { key, audio: filled(sounds[clip]) };
    }
    for await (const [key, { values }] of this.#encoder.embedEach(waves())) {
      logits.set(head.logits(values), key * classes.length);
      refuseInterrupted();
    }
    return logits;
  }

  async #headValues(): Promise<FineTuned["head"]> {
    const { mean, variance, eps } = this.#norm;
    const [weight, bias, centre, spread] = await this.#subject.device.read([
      this.#arena.get("head.weight"),
      this.#arena.get("head.bias"),
      mean,
      variance,
    ]) as Float32Array[];
    return {
      weight,
      bias,
      statistics: { mean: centre, std: spread.map((it) => Math.sqrt(it + eps)) },
    };
  }

  /** @inheritdoc */
  keep(): void {
    this.#best.keep();
  }

  /** @inheritdoc */
  restore(): void {
    this.#best.restore();
  }

  /** @inheritdoc Tensors have the names of the encoder's file. */
  async finished(): Promise<FineTuned> {
    const { file, heads } = this.#subject;
    const values = await this.#encoder.arena.read();
    return {
      tensors: trainedTensors(file, heads === undefined ? {} : { heads }, values),
      head: await this.#headValues(),
    };
  }

  /** Frees parameters and the optimizers' state. */
  [Symbol.dispose](): void {
    for (const { optimizer } of this.#optimizers) optimizer[Symbol.dispose]();
    this.#best[Symbol.dispose]();
    this.#norm[Symbol.dispose]();
    this.#arena[Symbol.dispose]();
    this.#encoder[Symbol.dispose]();
  }
}
