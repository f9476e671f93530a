/**
 * An encoder with a head of batch normalisation and a linear layer that is trained with it
 * (model/README.md, Fine-tuning).
 *
 * @module
 */
import {
  batchedIndexSelect,
  BatchNorm,
  crossEntropy,
  type Device,
  Linear,
  matmul,
  mean,
  mul,
  reshape,
  slice,
  type Tensor,
  within,
} from "../../../engine/mod.ts";
import { ParameterArena } from "../../../model/vit/parameter_arena.ts";
import { type Bands, type EncoderNetwork, gridOf, stepSize } from "../../../model/encoder/embed.ts";
import { behindClass, classTokens, tokenView } from "../../../model/vit/tokens.ts";
import type { PatchGrid } from "../../../model/vit/geometry.ts";
import { blocks, norm } from "../../../model/vit/blocks.ts";
import { linearSpecs } from "../../../model/vit/parameter_specs.ts";
import type { Prng } from "../../../engine/prng.ts";
import { knownCrossEntropy } from "../known_labels.ts";
import type { ProbeFile } from "../probe/probe_layer.ts";
import { type InitialEncoder, initialEncoderSpecs } from "./initial_encoder.ts";

/** Deviation of the head's initial weights. */
export const HEAD_STD = 0.01;

/** What the head is for. */
export interface HeadSettings {
  /** Number of classes. */
  readonly classes: number;
  /** Whether a clip can be of several. */
  readonly multiLabel: boolean;
  /** What the head sees of the bands of a clip. */
  readonly bands: Bands;
  /** Whether the patch embedding keeps its values. */
  readonly frozenPatchEmbed: boolean;
}

/** A batch on the device. */
export interface DeviceBatch {
  /** [batch, bands, frames] standardised log-mel, frames a multiple of the patch's. */
  readonly input: Tensor;
  /** u32 [batch, visible]: patches that are kept. */
  readonly ids: Tensor;
  /** [batch, results, visible]: how they are averaged. */
  readonly pool: Tensor;
  /** [batch, classes]: shares of the classes. */
  readonly targets: Tensor;
}

/** Encoder, batch norm and linear layer. */
export class FineTuneModel implements Disposable {
  /** Parameters of encoder and linear layer, and the table of positions. */
  readonly arena: ParameterArena;
  /** In front of the linear layer. */
  readonly norm: BatchNorm;
  /** The encoder. */
  readonly network: EncoderNetwork;
  readonly #head: Linear;
  readonly #settings: HeadSettings;

  /**
   * Takes the encoder's values over and draws the head: weights normal with deviation 0.01, bias 0.
   *
   * @param random draws the head
   */
  constructor(device: Device, encoder: InitialEncoder, settings: HeadSettings, random: Prng) {
    const { geometry, values } = encoder;
    const dim = stepSize(geometry, settings.bands);
    this.#settings = settings;
    this.arena = new ParameterArena(
      device,
      [
        ...initialEncoderSpecs(geometry, settings.frozenPatchEmbed),
        ...linearSpecs("head", dim, settings.classes),
      ],
      { trainable: true },
    );
    const weight = Float32Array.from(
      { length: settings.classes * dim },
      () => HEAD_STD * random.normal(),
    );
    this.arena.load([...values, ["head.weight", weight]]);
    this.#head = new Linear(
      device,
      dim,
      settings.classes,
      (name) => this.arena.get(`head.${name}`),
    );
    this.norm = new BatchNorm(device, dim, { affine: false });
    this.network = { device, geometry, parameter: (name) => this.arena.get(name) };
  }

  /** Patches of an input of so many frames. */
  gridOf(frames: number): PatchGrid {
    const { geometry } = this.network;
    return { rows: gridOf(geometry).rows, columns: frames / geometry.patch[1] };
  }

  /**
   * The training loss. Clips of one class: cross-entropy with the shares of the classes, over the
   * number of classes, as in EVAR, whose rates for SGD so have the same meaning; after mixup the
   * shares of a clip still sum to 1. Clips of several: binary cross-entropy of each class, mean
   * over clips and classes.
   */
  loss({ input, ids, pool, targets }: DeviceBatch): Tensor {
    const { multiLabel, classes } = this.#settings;
    const features = this.#features(input, ids, pool);
    const logits = this.#head.apply(this.norm.apply(features));
    return multiLabel
      ? mean(knownCrossEntropy(logits, targets))
      : mul(mean(crossEntropy(logits, targets)), 1 / classes);
  }

  /** @returns [batch, results * width] */
  #features(input: Tensor, ids: Tensor, pool: Tensor): Tensor {
    const { geometry, parameter: p } = this.network;
    const first = classTokens(geometry);
    const [batch, visible] = ids.shape;
    const { rows, columns } = this.gridOf(input.shape[2]);
    const view = tokenView(p, input, { ...geometry, grid: gridOf(geometry) }, p("pos_embed"));
    const { tokens } = view;
    const kept = visible === rows * columns
      ? tokens
      : batchedIndexSelect(tokens, ids, { unique: true });
    const sequence = behindClass(view, kept);
    const encoder = within(p, "student_encoder.");
    const hidden = norm(encoder, "norm", blocks(encoder, "blocks.", sequence, geometry));
    return reshape(matmul(pool, slice(hidden, 1, first, visible)), [batch, -1]);
  }

  /** The head as probes have it: running statistics standardise. */
  async head(): Promise<Required<Pick<ProbeFile, "weight" | "bias" | "statistics">>> {
    const { arena, norm: { mean, variance, eps } } = this;
    const [weight, bias, centre, spread] = await arena.device.read([
      arena.get("head.weight"),
      arena.get("head.bias"),
      mean,
      variance,
    ]) as Float32Array[];
    const std = spread.map((it) => Math.sqrt(it + eps));
    return { weight, bias, statistics: { mean: centre, std } };
  }

  /** Frees parameters and running statistics. */
  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
    this.norm[Symbol.dispose]();
  }
}
