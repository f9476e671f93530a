/**
 * A multilayer perceptron over fixed features, as HEAR 2021 trains it (SPEC section 7.5;
 * hear-eval-kit, task_predictions.py): each hidden layer is a product, batch normalisation, dropout
 * and ReLU, in this order. The bias in front of batch normalisation, which takes it away again, is
 * left out.
 *
 * One network at a time: a product of 1024 rows with 1024 x 3840 weights fills a device by itself,
 * and networks of different sizes that stop at different epochs would wait for each other. Rows are
 * put together on the host, so that only a batch of them has to fit the device: the frames of
 * MAESTRO are 2 GB.
 *
 * @module
 */
import {
  Adam,
  add,
  assign,
  backward,
  bceWithLogits,
  capture,
  crossEntropy,
  type Device,
  div,
  dropout,
  linear,
  mean,
  mul,
  noGrad,
  type Plan,
  relu,
  scope,
  sqrt,
  sub,
  type Tensor,
} from "../../../engine/mod.ts";
import type { ClassLoss } from "../probe/metrics.ts";
import type { Prng } from "../../data/random.ts";
import { BATCH_NORM_EPS, BatchNorm } from "../finetune/batch_norm.ts";

/** Rows whose logits are computed at a time. */
const ROWS_AT_ONCE = 2048;

/** How weights are drawn. */
export type Initialisation = "uniform" | "normal";

/** A network and what it is trained for. */
export interface MlpSettings {
  /** Values of a row. */
  readonly dim: number;
  /** Classes. */
  readonly classes: number;
  /** Hidden layers. */
  readonly layers: number;
  /** Their width. */
  readonly hidden: number;
  /** Chance of a hidden value to be dropped. */
  readonly dropout: number;
  /** Xavier's, with normal or uniform numbers. */
  readonly initialisation: Initialisation;
  /**
   * Cross-entropy of one class per row, or binary cross-entropy of each class, mean over classes.
   */
  readonly loss: ClassLoss;
  /** Adam's learning rate. */
  readonly rate: number;
}

/** Rows that networks learn from and are tried on. */
export interface Rows {
  /** [rows, dim]. */
  readonly features: Float32Array;
  /** [rows, classes]: 1 where a row is of a class. */
  readonly targets: Float32Array;
}

interface Hidden {
  /** [hidden, inputs]. */
  readonly weight: Tensor;
  readonly norm: BatchNorm;
  /** [hidden] each, after the normalisation. */
  readonly scale: Tensor;
  readonly shift: Tensor;
}

/** A network with its optimizer. */
export class Mlp implements Disposable {
  readonly #device: Device;
  readonly #settings: MlpSettings;
  readonly #hidden: readonly Hidden[];
  /** [classes, inputs] and [classes]. */
  readonly #output: readonly [weight: Tensor, bias: Tensor];
  readonly #adam: Adam;
  readonly #dropoutSeed: number;
  /** Parameters and running statistics as they are, and as they were kept. */
  readonly #now: readonly Tensor[];
  readonly #kept: readonly Tensor[];
  /** Updates by the number of rows. */
  readonly #updates = new Map<number, Plan<Tensor>>();
  #steps = 0;

  /** Draws the initial values. */
  constructor(device: Device, settings: MlpSettings, random: Prng) {
    this.#device = device;
    this.#settings = settings;
    const { dim, classes, layers, hidden, rate } = settings;
    const drawn = (outputs: number, inputs: number, gain: number) => {
      const values = xavier(outputs, inputs, gain, settings.initialisation, random);
      return device.tensor(values, [outputs, inputs]).trainable();
    };
    const filled = (size: number, value: () => number) =>
      device.tensor(Float32Array.from({ length: size }, value)).trainable();
    this.#hidden = Array.from({ length: layers }, (_, i): Hidden => ({
      weight: drawn(hidden, i === 0 ? dim : hidden, gainOf(i)),
      norm: new BatchNorm(device, hidden),
      scale: filled(hidden, () => 1),
      shift: filled(hidden, () => 0),
    }));
    const inputs = layers === 0 ? dim : hidden;
    // torch's default for a bias.
    const bound = 1 / Math.sqrt(inputs);
    this.#output = [
      drawn(classes, inputs, gainOf(layers)),
      filled(classes, () => random.uniform(-bound, bound)),
    ];
    const parameters = [
      ...this.#hidden.flatMap(({ weight, scale, shift }) => [weight, scale, shift]),
      ...this.#output,
    ];
    const statistics = this.#hidden.flatMap(({ norm }) => [norm.mean, norm.variance]);
    this.#now = [...parameters, ...statistics];
    this.#kept = this.#now.map(({ shape }) => device.zeros(shape));
    this.#adam = new Adam(parameters, { rate });
    this.#dropoutSeed = random.integer(2 ** 32);
  }

  /**
   * One update.
   *
   * @param which at least two rows
   * @throws {ShapeError} for fewer, which have no variance.
   */
  step({ features, targets }: Rows, which: readonly number[]): void {
    const { dim, classes } = this.#settings;
    const plan = this.#updateOf(which.length);
    this.#adam.advance();
    plan.replay([
      gathered(features, dim, which),
      gathered(targets, classes, which),
      Uint32Array.of(this.#steps++),
    ]);
  }

  #updateOf(rows: number): Plan<Tensor> {
    const known = this.#updates.get(rows);
    if (known) return known;
    const { dim, classes, loss } = this.#settings;
    using x = this.#device.empty([rows, dim]);
    using targets = this.#device.empty([rows, classes]);
    using step = this.#device.empty([1], "u32");
    const plan = capture(this.#device, [x, targets, step], (x, targets, step) => {
      const logits = this.#logits(x, step);
      const each = loss === "binary"
        ? bceWithLogits(logits, targets)
        : crossEntropy(logits, targets);
      const value = mean(each);
      backward(value);
      this.#adam.update();
      this.#adam.zeroGrad();
      return value;
    });
    this.#updates.set(rows, plan);
    return plan;
  }

  /** @param step of the dropout; without it as the network is used */
  #logits(x: Tensor, step?: Tensor): Tensor {
    const { dropout: rate } = this.#settings;
    const hidden = this.#hidden.reduce((x, { weight, norm, scale, shift }, stream) => {
      const y = linear(x, weight);
      const normal = step
        ? norm.apply(y)
        : div(sub(y, norm.mean), sqrt(add(norm.variance, BATCH_NORM_EPS)));
      const scaled = add(mul(normal, scale), shift);
      return relu(
        step ? dropout(scaled, { rate, seed: this.#dropoutSeed, stream, step }) : scaled,
      );
    }, x);
    return linear(hidden, ...this.#output);
  }

  /**
   * Logits [rows, classes] of some rows, as the network is used: running statistics, nothing
   * dropped.
   */
  async logits({ features }: Pick<Rows, "features">, which: readonly number[]): Promise<
    Float32Array
  > {
    const { dim, classes } = this.#settings;
    const all = new Float32Array(which.length * classes);
    for (let first = 0; first < which.length; first += ROWS_AT_ONCE) {
      const part = which.slice(first, first + ROWS_AT_ONCE);
      using logits = noGrad(() =>
        scope(() =>
          this.#logits(this.#device.tensor(gathered(features, dim, part), [part.length, dim]))
        )
      );
      all.set(await logits.data() as Float32Array, first * classes);
    }
    return all;
  }

  /** Keeps the network as it is now. */
  keep(): void {
    this.#copy(this.#now, this.#kept);
  }

  /** Brings back what was kept. */
  restore(): void {
    this.#copy(this.#kept, this.#now);
  }

  #copy(from: readonly Tensor[], to: readonly Tensor[]): void {
    noGrad(() => from.forEach((tensor, i) => assign(to[i], tensor)));
  }

  /** Frees parameters and what updates need. */
  [Symbol.dispose](): void {
    for (const plan of this.#updates.values()) plan[Symbol.dispose]();
    this.#adam[Symbol.dispose]();
    for (const tensor of [...this.#now, ...this.#kept]) tensor.dispose();
  }
}

/** torch's `calculate_gain` of what comes before a layer: nothing, or ReLU. */
function gainOf(layer: number): number {
  return layer === 0 ? 1 : Math.SQRT2;
}

/** Glorot and Bengio's initial values: variance `gain^2 2 / (inputs + outputs)`. */
export function xavier(
  outputs: number,
  inputs: number,
  gain: number,
  initialisation: Initialisation,
  random: Prng,
): Float32Array {
  const deviation = gain * Math.sqrt(2 / (inputs + outputs));
  const bound = deviation * Math.sqrt(3);
  return Float32Array.from(
    { length: outputs * inputs },
    initialisation === "normal"
      ? () => deviation * random.normal()
      : () => random.uniform(-bound, bound),
  );
}

/** Some rows of a matrix, one after the other. */
function gathered(matrix: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const result = new Float32Array(rows.length * width);
  rows.forEach((row, i) => result.set(matrix.subarray(row * width, (row + 1) * width), i * width));
  return result;
}
