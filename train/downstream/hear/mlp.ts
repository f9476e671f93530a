/**
 * A multilayer perceptron over fixed features, as HEAR 2021 trains it (model/README.md, HEAR;
 * hear-eval-kit, task_predictions.py): each hidden layer is a product, batch normalisation, dropout
 * and ReLU, in this order. The bias in front of batch normalisation, which subtracts it, is
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
  backward,
  BatchNorm,
  capture,
  crossEntropy,
  type Device,
  dropout,
  Linear,
  mean,
  noGrad,
  type ParameterSource,
  type Plan,
  type Prng,
  relu,
  scope,
  Sequential,
  type Tensor,
  uniformValues,
  xavierNormal,
  xavierUniform,
} from "../../../engine/mod.ts";
import { knownCrossEntropy } from "../known_labels.ts";
import type { ClassLoss } from "../probe/metrics.ts";
import { Snapshot } from "../snapshot.ts";

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
  readonly linear: Linear;
  readonly norm: BatchNorm;
}

/** A network with its optimizer. */
export class Mlp implements Disposable {
  readonly #device: Device;
  readonly #settings: MlpSettings;
  readonly #hidden: readonly Hidden[];
  readonly #output: Linear;
  /** All layers, for their parameters by name. */
  readonly #network: Sequential;
  readonly #parameters: Tensor[] = [];
  readonly #adam: Adam;
  readonly #dropoutSeed: number;
  readonly #best: Snapshot;
  /** Updates by the number of rows. */
  readonly #updates = new Map<number, Plan<Tensor>>();
  #steps = 0;

  /** Draws the initial values. */
  constructor(device: Device, settings: MlpSettings, random: Prng) {
    this.#device = device;
    this.#settings = settings;
    const { dim, classes, layers, hidden, rate } = settings;
    const draw = settings.initialisation === "normal" ? xavierNormal : xavierUniform;
    /** @param inputs of the layer; weights follow ReLU but in the first one */
    const source = (inputs: number, layer: number): ParameterSource => (name, shape) => {
      const values = name === "weight"
        ? draw(shape, random, layer === 0 ? 1 : Math.SQRT2)
        // torch's default for a bias.
        : uniformValues(shape, random, 1 / Math.sqrt(inputs));
      const tensor = device.tensor(values, shape).trainable();
      this.#parameters.push(tensor);
      return tensor;
    };
    const linear = (outputs: number, layer: number, bias: boolean) => {
      const inputs = layer === 0 ? dim : hidden;
      return new Linear(device, inputs, outputs, source(inputs, layer), { bias });
    };
    this.#hidden = Array.from({ length: layers }, (_, i): Hidden => ({
      linear: linear(hidden, i, false),
      norm: new BatchNorm(device, hidden),
    }));
    this.#output = linear(classes, layers, true);
    this.#network = new Sequential(
      ...this.#hidden.flatMap(({ linear, norm }) => [linear, norm]),
      this.#output,
    );
    this.#best = new Snapshot(Array.from(this.#network.state(), ([, tensor]) => tensor));
    this.#adam = new Adam(this.#network.parameters(), { rate });
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
      selectedRows(features, dim, which),
      selectedRows(targets, classes, which),
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
        ? knownCrossEntropy(logits, targets)
        : crossEntropy(logits, targets);
      const value = mean(each);
      this.#adam.zeroGrad();
      backward(value);
      this.#adam.update();
      return value;
    });
    this.#updates.set(rows, plan);
    return plan;
  }

  /** @param step of the dropout; without it as the network is used */
  #logits(x: Tensor, step?: Tensor): Tensor {
    const { dropout: rate } = this.#settings;
    const hidden = this.#hidden.reduce((x, { linear, norm }, stream) => {
      const y = norm.apply(linear.apply(x), step !== undefined);
      return relu(step ? dropout(y, { rate, seed: this.#dropoutSeed, stream, step }) : y);
    }, x);
    return this.#output.apply(hidden);
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
          this.#logits(this.#device.tensor(selectedRows(features, dim, part), [part.length, dim]))
        )
      );
      all.set(await logits.data() as Float32Array, first * classes);
    }
    return all;
  }

  /** Keeps the network as it is now. */
  keep(): void {
    this.#best.keep();
  }

  /** Brings back what was kept. */
  restore(): void {
    this.#best.restore();
  }

  /** Frees parameters and what updates need. */
  [Symbol.dispose](): void {
    for (const plan of this.#updates.values()) plan[Symbol.dispose]();
    for (const part of [this.#adam, this.#best, this.#network]) part[Symbol.dispose]();
    for (const tensor of this.#parameters) tensor.dispose();
  }
}

/** Some rows of a matrix, one after the other. */
function selectedRows(matrix: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const result = new Float32Array(rows.length * width);
  rows.forEach((row, i) => result.set(matrix.subarray(row * width, (row + 1) * width), i * width));
  return result;
}
