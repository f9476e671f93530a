/**
 * Parameters in one flat arena: optimizer, averages and norms are then a few dispatches over one
 * array.
 *
 * @module
 */
import {
  assign,
  type Device,
  type DType,
  fill,
  type HostArray,
  itemSizeOf,
  type Shape,
  ShapeError,
  type Tensor,
} from "../../engine/functions.ts";

/** One parameter of a model. */
export interface ParameterSpec {
  /** Name as in model/README.md, Checkpoints. */
  readonly name: string;
  /** Sizes of the axes. */
  readonly shape: Shape;
  /** Keeps its value: no gradient, no optimizer. */
  readonly frozen?: boolean;
}

/** Bytes to which each parameter's start is aligned: the strictest offset WebGPU asks for. */
const ALIGNMENT = 256;

const count = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);

/**
 * Whether M2D's optimizer decays a parameter: not one-dimensional ones and not biases
 * (model/README.md, Optimizer).
 */
export function isDecayed({ name, shape, frozen }: ParameterSpec): boolean {
  return !frozen && shape.length > 1 && !name.endsWith(".bias");
}

interface Place extends ParameterSpec {
  readonly start: number;
}

/** A contiguous run of parameters that two arenas hold in the same order. */
export interface SharedRun {
  /** The part of this arena. */
  readonly own: Tensor;
  /** The part of the other arena. */
  readonly other: Tensor;
}

/** What an arena holds, and how. */
export interface ArenaOptions {
  /** Whether gradients are collected. */
  readonly trainable: boolean;
  /** Element type of parameters and gradients; default f32. */
  readonly dtype?: DType;
  /** Memory of the parameters, that of an arena of the same layout; default its own. */
  readonly values?: Tensor;
  /** Narrowest element type among the arenas that share this one's layout; default its own. */
  readonly narrowest?: DType;
}

/**
 * Parameters of one network (and their gradients when it is trained) in flat tensors. Decayed
 * parameters come first, then the others, then frozen ones; within each, specification order.
 */
export class ParameterArena implements Disposable {
  /**
   * All parameters, padded to 256 bytes each (of the narrowest element type); the padding stays 0.
   */
  readonly values: Tensor;
  /** All gradients, laid out like {@link values}; only when trainable. */
  readonly grads: Tensor | undefined;
  /** Elements of the decayed parameters, which lie first. */
  readonly decayedSize: number;
  /** Elements of all parameters but the frozen ones, which lie last. */
  readonly trainedSize: number;
  readonly #places = new Map<string, Place>();
  readonly #views = new Map<string, Tensor>();
  readonly #gradViews: Tensor[] = [];
  readonly #options: ArenaOptions;
  /** Elements to which each parameter's start is aligned. */
  readonly #alignment: number;

  /**
   * Lays the parameters out and makes their memory, filled with 0.
   *
   * @param specs parameters in the order of the state dict
   */
  constructor(
    readonly device: Device,
    readonly specs: readonly ParameterSpec[],
    options: ArenaOptions,
  ) {
    const { trainable, dtype = "f32", narrowest = dtype } = options;
    this.#options = options;
    this.#alignment = ALIGNMENT / itemSizeOf(narrowest);
    let size = 0;
    const place = (spec: ParameterSpec) => {
      if (this.#places.has(spec.name)) {
        throw new ShapeError(`the parameter ${spec.name} is named twice`);
      }
      this.#places.set(spec.name, { ...spec, start: size });
      size += this.#padded(spec);
    };
    specs.filter(isDecayed).forEach(place);
    this.decayedSize = size;
    specs.filter((spec) => !isDecayed(spec) && !spec.frozen).forEach(place);
    this.trainedSize = size;
    specs.filter(({ frozen }) => frozen).forEach(place);
    this.values = options.values ?? device.zeros([size], dtype);
    this.grads = trainable ? device.zeros([size], dtype) : undefined;
    for (const spec of specs) {
      const { start } = this.#places.get(spec.name)!;
      const view = this.values.view(spec.shape, undefined, this.values.offset + start);
      if (this.grads && !spec.frozen) {
        const grad = this.grads.view(spec.shape, undefined, this.grads.offset + start);
        this.#gradViews.push(grad);
        view.trainable(grad);
      }
      this.#views.set(spec.name, view);
    }
  }

  #padded({ shape }: ParameterSpec): number {
    return Math.ceil(count(shape) / this.#alignment) * this.#alignment;
  }

  /** An f16 arena of the same layout, its values not yet copied. */
  halved(): ParameterArena {
    const { values: _, ...options } = this.#options;
    return new ParameterArena(this.device, this.specs, { ...options, dtype: "f16" });
  }

  /** An arena of the same parameters with gradients of its own. */
  withOwnGrads(): ParameterArena {
    return new ParameterArena(this.device, this.specs, { ...this.#options, values: this.values });
  }

  /**
   * Overwrites all parameters with those of an arena of the same layout, rounded to this one's
   * element type.
   */
  copyFrom(other: ParameterArena): void {
    assign(this.values, other.values);
  }

  /** Number of parameters, padding not counted. */
  get parameterCount(): number {
    return this.specs.reduce((sum, spec) => sum + count(spec.shape), 0);
  }

  /**
   * A parameter by name: a view of the arena.
   *
   * @throws {ShapeError} if there is none of that name.
   */
  get(name: string): Tensor {
    const view = this.#views.get(name);
    if (!view) throw new ShapeError(`there is no parameter ${name}`);
    return view;
  }

  /** Whether there is a parameter of that name. */
  has(name: string): boolean {
    return this.#views.has(name);
  }

  /** Forgets all gradients. Memory is overwritten by the next backward pass. */
  zeroGrad(): void {
    for (const view of this.#views.values()) view.zeroGrad();
  }

  /**
   * Makes the flat gradients whole after a backward pass: parameters that it did not reach get 0.
   *
   * @returns names of the parameters that had no gradient
   */
  finishGrads(): string[] {
    const missing: string[] = [];
    for (const [name, view] of this.#views) {
      if (view.grad || this.#places.get(name)!.frozen) continue;
      const slot = view.gradientSlot();
      fill(slot.tensor, 0);
      missing.push(name);
    }
    return missing;
  }

  /**
   * Overwrites parameters.
   *
   * @throws {ShapeError} if a name is unknown or a size differs.
   */
  load(tensors: Iterable<readonly [string, HostArray]>): void {
    for (const [name, data] of tensors) {
      const view = this.get(name);
      if (data.length !== view.size) {
        throw new ShapeError(
          `parameter ${name} has ${view.size} values [${view.shape}], the file has ${data.length}`,
        );
      }
      this.device.write(view, data);
    }
  }

  /** Reads a flat tensor that is laid out like this arena, by parameter. */
  async read(
    flat: Tensor = this.values,
  ): Promise<Map<string, { shape: Shape; data: Float32Array }>> {
    return this.byParameter(await flat.data());
  }

  /** Views of the parameters in the values of a flat tensor that is laid out like this arena. */
  byParameter(flat: Float32Array): Map<string, { shape: Shape; data: Float32Array }> {
    return new Map(this.specs.map((spec) => {
      const { start } = this.#places.get(spec.name)!;
      return [spec.name, {
        shape: spec.shape,
        data: flat.subarray(start, start + count(spec.shape)),
      }];
    }));
  }

  /**
   * Writes a flat tensor that is laid out like this arena, by parameter; parameters not named keep
   * their values.
   */
  async write(
    flat: Tensor,
    tensors: ReadonlyMap<string, { readonly data: HostArray }>,
  ): Promise<void> {
    const data = await flat.data();
    for (const spec of this.specs) {
      const given = tensors.get(spec.name);
      if (given) data.set(given.data, this.#places.get(spec.name)!.start);
    }
    this.device.write(flat, data);
  }

  /**
   * The runs of this arena that hold `other`'s parameters in `other`'s order, as few as there can
   * be.
   *
   * @param rename name in this arena of a parameter of `other`
   * @throws {ShapeError} if a parameter is missing or has another shape.
   */
  runsOf(other: ParameterArena, rename: (name: string) => string): SharedRun[] {
    const runs: { own: number; other: number; size: number }[] = [];
    const places = [...other.#places.values()].sort((a, b) => a.start - b.start);
    for (const place of places) {
      const mine = this.#places.get(rename(place.name));
      if (!mine || count(mine.shape) !== count(place.shape)) {
        throw new ShapeError(
          `no parameter ${rename(place.name)} of shape [${place.shape}] to average`,
        );
      }
      const size = this.#padded(place);
      const last = runs[runs.length - 1];
      if (last && last.own + last.size === mine.start && last.other + last.size === place.start) {
        last.size += size;
      } else runs.push({ own: mine.start, other: place.start, size });
    }
    return runs.map((run) => ({
      own: this.values.view([run.size], undefined, this.values.offset + run.own),
      other: other.values.view([run.size], undefined, other.values.offset + run.other),
    }));
  }

  /** Frees parameters and gradients. */
  [Symbol.dispose](): void {
    for (const tensor of [...this.#views.values(), ...this.#gradViews, this.values, this.grads]) {
      tensor?.dispose();
    }
  }
}
