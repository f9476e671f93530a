/**
 * Linear layers over fixed features, trained side by side: one captured update serves all of them.
 *
 * Each problem has its own clips, order, initial values and best epoch, and gives the values that
 * it would give alone. The weights of all problems are one tensor, a batch is [problems, clips],
 * and a batch that is short is filled up with clips of weight 0. Adam counts updates, so the
 * problems that are trained together are those with equally many per epoch; and their last batches
 * have equal room, so that sums are added up alike. The engine's Linear is one layer; here the
 * layers of all problems are one batched product, which has no layer in engine/nn.
 *
 * Measured on lavapipe, 2 cores, 25 problems, per problem and update of 128 clips: 1.1 to 1.3 ms
 * for 960 values and 10 classes, 3.9 ms for 3840 and 10, 5.2 ms for 3840 and 50. For 10 classes a
 * third of it is putting the rows of a batch together, and 40 % the product that gives the
 * gradient. A kernel that read rows where they are, with weights and gradients of logits loaded by
 * every lane, took 1.5 times as long for 10 classes and 3 times for 50: a load is a loop over the
 * lanes there, also where all lanes load the same.
 *
 * @module
 */
import {
  Adam,
  add,
  assign,
  backward,
  capture,
  crossEntropy,
  type Device,
  embedding,
  matmul,
  mean,
  mul,
  noGrad,
  permute,
  type Plan,
  reshape,
  scope,
  sub,
  sum,
  type Tensor,
  where,
} from "../../../engine/mod.ts";
import { knownCrossEntropy } from "../known_labels.ts";
import type { ClassLoss } from "./metrics.ts";

/** Most bytes of features that are put together at a time. */
const GATHERED_BYTES = 2 ** 26;

/**
 * Arrays of rows that exist at once at most: of the clips whose logits are computed op by op, and
 * of those of an update with room for a whole batch and for the last one (measured at 960 and 3840
 * values and 60 to 8000 clips: 3.6 to 4 and 0.7 to 1.9).
 */
const ARRAYS = { logits: 4, update: 3 } as const;
/** Parameters, the kept ones, gradients and Adam's moments. */
const PARAMETER_COPIES = 5;

/** Short batches are filled up to a multiple of this: odd sizes make products slow. */
const ROOM_STEP = 16;

/** Clips as the device has them. */
export class ProbeTable implements Disposable {
  /** f32 [clips, dim]. */
  readonly features: Tensor;
  /** f32 [clips, classes], as `classTargets` makes them. */
  readonly targets: Tensor;

  /**
   * Uploads them.
   *
   * @param features [clips, dim]
   * @param targets [clips, classes]
   */
  constructor(
    readonly device: Device,
    readonly clips: number,
    features: Float32Array,
    targets: Float32Array,
  ) {
    this.features = device.tensor(features, [clips, features.length / clips]);
    this.targets = device.tensor(targets, [clips, targets.length / clips]);
  }

  /** Values of a clip. */
  get dim(): number {
    return this.features.shape[1];
  }

  /** Classes. */
  get classes(): number {
    return this.targets.shape[1];
  }

  /** Frees them. */
  [Symbol.dispose](): void {
    this.features.dispose();
    this.targets.dispose();
  }
}

/** What problems that are trained side by side share. */
export interface LinearSettings {
  /**
   * Cross-entropy of one class per clip, or binary cross-entropy of each class, mean over classes.
   */
  readonly loss: ClassLoss;
  /** What the loss is divided by; default 1. */
  readonly lossScale?: number;
  /** Most clips of an update. */
  readonly batch: number;
  /** Adam's learning rate. */
  readonly rate: number;
  /** L2 penalty as torch's Adam has it; default 0. */
  readonly weightDecay?: number;
}

/** Where one problem layers. */
export interface InitialLayer {
  /** [classes, dim]. */
  readonly weight: Float32Array;
  /** [classes]. */
  readonly bias: Float32Array;
  /** Features are standardised with these, [dim] each; default not at all. */
  readonly statistics?: { readonly mean: Float32Array; readonly std: Float32Array };
}

/** Linear layers of several problems and their optimizer. */
export class LinearProbes implements Disposable {
  readonly #table: ProbeTable;
  readonly #settings: LinearSettings;
  readonly #problems: number;
  /** [problems, classes, dim] and [problems, classes, 1]. */
  readonly #now: readonly [weight: Tensor, bias: Tensor];
  readonly #best: readonly [weight: Tensor, bias: Tensor];
  /** [problems, 1, dim] each. */
  readonly #norm: { readonly shift: Tensor; readonly scale: Tensor } | undefined;
  readonly #adam: Adam;
  /** Updates by the number of clips that they have room for. */
  readonly #updates = new Map<number, Plan<Tensor>>();
  #last: Plan<Tensor> | undefined;

  /** Uploads the starting values. All problems have statistics, or none. */
  constructor(table: ProbeTable, layers: readonly InitialLayer[], settings: LinearSettings) {
    const { device, dim, classes } = table;
    const problems = layers.length;
    this.#table = table;
    this.#settings = settings;
    this.#problems = problems;
    const upload = (shape: readonly number[], values: (initial: InitialLayer) => Float32Array) => {
      const size = shape.reduce((a, b) => a * b, 1);
      const all = new Float32Array(problems * size);
      layers.forEach((layer, i) => all.set(values(layer), i * size));
      return device.tensor(all, [problems, ...shape]);
    };
    const parameters = () =>
      [
        upload([classes, dim], ({ weight }) => weight),
        upload([classes, 1], ({ bias }) => bias),
      ] as const;
    this.#best = parameters();
    const [weight, bias] = parameters();
    this.#now = [weight.trainable(), bias.trainable()];
    if (layers[0].statistics) {
      this.#norm = {
        shift: upload([1, dim], ({ statistics }) => statistics!.mean),
        scale: upload([1, dim], ({ statistics }) => statistics!.std.map((std) => 1 / std)),
      };
    }
    const { rate, weightDecay = 0 } = settings;
    this.#adam = new Adam(this.#now, { rate, weightDecay });
  }

  /** Clips that an update of so many has room for; the last one of an epoch may be short. */
  static room(clips: number, { batch }: Pick<LinearSettings, "batch">): number {
    return Math.min(batch, ROOM_STEP * Math.ceil(clips / ROOM_STEP));
  }

  /**
   * Bytes that training takes at most, the table included.
   *
   * @param sizes of the table, how many problems there are, and the most clips whose logits one of
   * them needs
   */
  static bytes(
    device: Device,
    sizes: Readonly<Record<"clips" | "dim" | "classes" | "problems" | "tried", number>>,
    settings: Pick<LinearSettings, "batch">,
  ): number {
    const { clips, dim, classes, problems, tried } = sizes;
    const together = Math.min(problems, LinearProbes.most(device, dim, settings));
    const rows = together * LinearProbes.room(clips, settings) * dim;
    const logits = Math.min(together * tried * dim, GATHERED_BYTES / 4);
    return 4 * (clips * (dim + classes) + PARAMETER_COPIES * together * classes * (dim + 1) +
      2 * together * dim + ARRAYS.update * rows + ARRAYS.logits * logits);
  }

  #updateOf(room: number): Plan<Tensor> {
    const known = this.#updates.get(room);
    if (known) return known;
    const { device } = this.#table;
    using ids = device.empty([this.#problems * room], "u32");
    using weights = device.empty([this.#problems, room]);
    const plan = capture(device, [ids, weights], (ids, weights) => this.#pass(ids, weights));
    this.#updates.set(room, plan);
    return plan;
  }

  /** How many problems of a size can be trained side by side. */
  static most(device: Device, dim: number, { batch }: Pick<LinearSettings, "batch">): number {
    const bytes = Math.min(GATHERED_BYTES, device.bindingLimit);
    return Math.max(1, Math.floor(bytes / (4 * batch * dim)));
  }

  /**
   * Logits [problems, clips, classes]. Weights come first in the product, so that it is wide.
   *
   * @param ids u32 [problems * clips]
   */
  #logits([weight, bias]: readonly [Tensor, Tensor], ids: Tensor): Tensor {
    const { features, dim } = this.#table;
    const raw = reshape(embedding(features, ids), [this.#problems, -1, dim]);
    const rows = this.#norm ? mul(sub(raw, this.#norm.shift), this.#norm.scale) : raw;
    return permute(add(matmul(weight, permute(rows, [0, 2, 1])), bias), [0, 2, 1]);
  }

  #pass(ids: Tensor, weights: Tensor): Tensor {
    const { loss, lossScale = 1 } = this.#settings;
    const logits = this.#logits(this.#now, ids);
    const targets = reshape(embedding(this.#table.targets, ids), logits.shape);
    const each = loss === "binary"
      ? mean(knownCrossEntropy(logits, targets), { axes: [2] })
      : crossEntropy(logits, targets);
    const losses = sum(mul(each, weights), { axes: [1] });
    this.#adam.zeroGrad();
    backward(mul(sum(losses), 1 / lossScale));
    this.#adam.update();
    return losses;
  }

  /**
   * One update of every problem.
   *
   * @param clips of each problem, at least one and at most `batch`
   */
  step(clips: readonly ArrayLike<number>[]): void {
    const most = clips.reduce((n, { length }) => Math.max(n, length), 0);
    const room = LinearProbes.room(most, this.#settings);
    const ids = new Uint32Array(this.#problems * room);
    const weights = new Float32Array(ids.length);
    clips.forEach((own, i) => {
      ids.set(own, i * room);
      weights.fill(1 / own.length, i * room, i * room + own.length);
    });
    this.#last = this.#updateOf(room);
    this.#adam.advance();
    this.#last.replay([ids, weights]);
  }

  /**
   * Each problem's mean loss over the clips of the last update, before it; `lossScale` is not in
   * it.
   */
  async losses(): Promise<Float32Array> {
    if (!this.#last) throw new Error("losses: there was no update");
    return await this.#last.outputs.data() as Float32Array;
  }

  /**
   * Logits of some clips of each problem: [clips, classes].
   *
   * @param which parameters as they are, or as they were kept
   */
  async logits(
    clips: readonly ArrayLike<number>[],
    which: "now" | "best" = "now",
  ): Promise<Float32Array[]> {
    const { device, classes, dim } = this.#table;
    const problems = this.#problems;
    const most = clips.reduce((n, { length }) => Math.max(n, length), 0);
    const atOnce = Math.max(1, Math.floor(GATHERED_BYTES / (4 * problems * dim)));
    const results = clips.map(({ length }) => new Float32Array(length * classes));
    const parts = Array.from({ length: Math.ceil(most / atOnce) }, (_, i) => i * atOnce);
    const outputs = noGrad(() =>
      parts.map((first) =>
        scope(() => {
          const count = Math.min(atOnce, most - first);
          const ids = new Uint32Array(problems * count);
          clips.forEach((own, i) =>
            ids.set(Array.prototype.slice.call(own, first, first + count), i * count)
          );
          const parameters = which === "now" ? this.#now : this.#best;
          // A copy: what is permuted cannot be read.
          return add(this.#logits(parameters, device.tensor(ids)), 0);
        })
      )
    );
    const values = await device.read(outputs);
    values.forEach((part, n) => {
      const count = part.length / problems / classes;
      results.forEach((all, i) => {
        const room = all.length - parts[n] * classes;
        const own = (part as Float32Array).subarray(i * count * classes, (i + 1) * count * classes);
        if (room > 0) all.set(own.subarray(0, Math.min(room, own.length)), parts[n] * classes);
      });
    });
    for (const output of outputs) output.dispose();
    return results;
  }

  /** Keeps the parameters of some problems as they are now. */
  keep(which: readonly boolean[]): void {
    noGrad(() =>
      scope(() => {
        const mask = Float32Array.from(which, Number);
        this.#now.forEach((now, i) => {
          const shape = now.shape.map((size, axis) => axis === 0 ? size : 1);
          const kept = where(this.#table.device.tensor(mask, shape), now, this.#best[i]);
          assign(this.#best[i], kept);
        });
      })
    );
  }

  /** What was kept of each problem: [classes, dim] and [classes]. */
  async kept(): Promise<{ readonly weight: Float32Array; readonly bias: Float32Array }[]> {
    const [weight, bias] = await this.#table.device.read(this.#best) as Float32Array[];
    const part = (all: Float32Array, i: number) => {
      const size = all.length / this.#problems;
      return all.slice(i * size, (i + 1) * size);
    };
    return Array.from({ length: this.#problems }, (_, i) => ({
      weight: part(weight, i),
      bias: part(bias, i),
    }));
  }

  /** Frees parameters and what the update needs. */
  [Symbol.dispose](): void {
    for (const plan of this.#updates.values()) plan[Symbol.dispose]();
    this.#adam[Symbol.dispose]();
    for (const tensor of [...this.#now, ...this.#best]) tensor.dispose();
    if (this.#norm) { for (const it of Object.values(this.#norm)) it.dispose(); }
  }
}
