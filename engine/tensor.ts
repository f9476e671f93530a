/**
 * Tensors: a shape over a slice of GPU memory. Ops are functions (see mod.ts); a tensor itself can
 * be read, disposed and asked for its gradient.
 *
 * @module
 */
import type { Device } from "./device.ts";
import { describe, notebookView } from "./display.ts";
import { BYTES_PER_ELEMENT, type DType, type HostArray, isFloat, itemSizeOf } from "./dtype.ts";
import { LifetimeError, ShapeError } from "./errors.ts";
import type { PoolBuffer } from "./memory.ts";
import type { Methods } from "./methods.ts";
import type { GradientLog, Recorder } from "./recorder.ts";
import { track, untrack } from "./scope_stack.ts";
import { denseStrides, isDense, needShape, sameShape, type Shape, show, sizeOf } from "./shape.ts";
import type { Node } from "./tape.ts";

/** One value that kernels take as a parameter, until something needs it in memory. */
export interface Constant {
  /** The value, as its element type holds it. */
  readonly value: number;
  /** Takes memory that holds it. */
  readonly inMemory: () => PoolBuffer;
}

/** Counted ownership of a buffer: tensors and views share it, the last one hands it back. */
export class Storage {
  /** How many were made. */
  static made = 0;
  /** Order of making. */
  readonly serial: number = Storage.made++;
  #owners = 0;
  #buffer: PoolBuffer | undefined;
  #constant: Constant | undefined;
  /** Version of the buffer when it was as new. */
  #first = 0;

  /**
   * Takes over a buffer, or a value without memory.
   *
   * @param owner what it came from and goes back to
   */
  constructor(readonly owner: Recorder, memory: PoolBuffer | Constant) {
    if ("value" in memory) this.#constant = memory;
    else this.#buffer = memory;
  }

  /** The value that a kernel may use instead of the memory, which there is none of then. */
  get value(): number | undefined {
    return this.#constant?.value;
  }

  /** The memory. */
  get buffer(): PoolBuffer {
    if (!this.#buffer) {
      this.#buffer = this.#constant!.inMemory();
      this.#first = this.#buffer.version;
      this.#constant = undefined;
    }
    return this.#buffer;
  }

  /** What the values are known by: another number after every write. */
  get version(): number {
    return this.#buffer ? this.#buffer.version - this.#first : 0;
  }

  /** Size in bytes. */
  get bytes(): number {
    return this.#buffer?.bytes ?? BYTES_PER_ELEMENT;
  }

  /** Adds an owner. */
  retain(): void {
    this.#owners++;
  }

  /** Drops an owner. */
  release(): void {
    if (--this.#owners === 0 && this.#buffer) this.owner.release(this.#buffer);
  }
}

/** Where a leaf's gradient goes. Internal to the tape. */
export class GradientSlot {
  /** Whether it holds a gradient, whatever a plan that is being recorded will find. */
  filledNow = false;

  /** Empty, which is known also to a plan that is being recorded if `inner` says so. */
  constructor(
    /** The gradient, of the leaf's shape; stale unless filled. */
    readonly tensor: Tensor,
    inner: boolean,
  ) {
    if (inner) this.#log?.note(this, false);
  }

  get #log(): GradientLog | undefined {
    return this.tensor.device.recorder.gradients;
  }

  /** Whether it holds a gradient; undefined where that is known at replays only. */
  get known(): boolean | undefined {
    return this.#log ? this.#log.known(this) : this.filledNow;
  }

  /** Whether it holds a gradient; a plan that is being recorded is bound to it. */
  get filled(): boolean {
    return this.#log ? this.#log.require(this) : this.filledNow;
  }

  /** Says that it holds one, or none any more. */
  note(filled: boolean): void {
    if (this.#log) this.#log.note(this, filled);
    else this.filledNow = filled;
  }

  /** Overwrites or adds to what it holds. `record` may run for both cases of a plan. */
  put(record: (filled: boolean) => void): void {
    const { known } = this;
    if (known === undefined) this.#log!.either(this, record);
    else record(known);
    this.note(true);
  }
}

/** Functions that tensors have as methods, where mod.ts is imported. */
export interface Tensor extends Methods {}

/** An n-dimensional array on a {@link Device}. */
export class Tensor implements Disposable {
  /** Elements between neighbours along each axis. */
  readonly strides: readonly number[];
  /** Whether elements lie in row-major order without gaps. */
  readonly dense: boolean;
  /** Number of elements. */
  readonly size: number;
  /** Bytes per element. */
  readonly itemSize: number;
  /** What made this tensor, when it was recorded. Internal to the tape. */
  node: Node | undefined;
  /** Whether this handle keeps memory for a backward pass. Internal to the tape. */
  saved = false;
  /** Which output of {@link node} this is. */
  nodeOutput = 0;
  #requiresGrad = false;
  #slot: GradientSlot | undefined;
  #storage: Storage | undefined;
  /** Where work went when this tensor was made. */
  readonly #recorder: Recorder;

  /** Use {@link Device.tensor}, {@link Device.empty} or ops. */
  constructor(
    /** Where it lives. */
    readonly device: Device,
    storage: Storage,
    /** Sizes of the axes, outermost first. */
    readonly shape: Shape,
    /** Element type. */
    readonly dtype: DType,
    strides?: readonly number[],
    /** First element within the buffer. */
    readonly offset: number = 0,
  ) {
    this.strides = strides ?? denseStrides(shape);
    this.dense = strides === undefined || isDense(shape, strides);
    this.size = sizeOf(shape);
    this.itemSize = itemSizeOf(dtype);
    this.#storage = storage;
    this.#recorder = device.recorder;
    storage.retain();
    track(this);
    device.watch(this);
  }

  /**
   * The memory behind this tensor.
   *
   * @throws {LifetimeError} after dispose.
   */
  get storage(): Storage {
    if (!this.#storage) {
      throw new LifetimeError(`a tensor ${show(this.shape)} was used after it was disposed`);
    }
    return this.#storage;
  }

  /** Whether {@link dispose} was called. */
  get disposed(): boolean {
    return this.#storage === undefined;
  }

  /** Whether gradients flow to this tensor. */
  get requiresGrad(): boolean {
    return this.#requiresGrad;
  }

  /**
   * Marks this tensor as a leaf that collects a gradient.
   *
   * @param slot tensor of the same shape that receives it; default: made at the first backward pass
   * @returns this tensor
   * @throws {ShapeError} if the elements are integers, or the slot has another shape or type.
   */
  trainable(slot?: Tensor): this {
    if (slot !== undefined && !(slot instanceof Tensor)) {
      throw new ShapeError("trainable: the slot is no tensor");
    }
    if (!isFloat(this.dtype)) {
      throw new ShapeError(`only f32 and f16 tensors have gradients, not ${this.dtype}`);
    }
    if (slot && (!sameShape(slot.shape, this.shape) || slot.dtype !== this.dtype)) {
      throw new ShapeError(
        `trainable: a slot ${show(slot.shape)} of ${slot.dtype} for the gradient of ${
          show(this.shape)
        } of ${this.dtype}`,
      );
    }
    this.#requiresGrad = true;
    if (slot) this.#slot = new GradientSlot(slot, true);
    return this;
  }

  /** Undoes {@link trainable}: no gradient is collected, and the one so far is forgotten. */
  constant(): this {
    this.zeroGrad();
    this.#requiresGrad = false;
    return this;
  }

  /** The gradient that backward passes have collected, or undefined before the first. */
  get grad(): Tensor | undefined {
    const slot = this.#slotSoFar();
    return slot?.filled ? slot.tensor : undefined;
  }

  /** The slot if there is one; a plan keeps account of every one that it asked for. */
  #slotSoFar(): GradientSlot | undefined {
    return this.#requiresGrad && this.device.capturing ? this.gradientSlot() : this.#slot;
  }

  /** Memory for the gradient, made on first use. Internal to the tape. */
  gradientSlot(): GradientSlot {
    if (!this.#slot) {
      const { device, shape, dtype, storage } = this;
      // A plan leaves the gradient of an outer leaf for others, who would not find it in its arena.
      const inner = device.recorder.gradients?.isInner(this) ?? true;
      const home = inner ? device.recorder : storage.owner;
      const tensor = device.recordInto(home, () => device.empty(shape, dtype));
      // A gradient lives as long as its leaf, whatever scope the backward pass runs in.
      untrack(tensor);
      this.#slot = new GradientSlot(tensor, inner);
    }
    return this.#slot;
  }

  /** Forgets the collected gradient, so that the next backward pass starts anew. */
  zeroGrad(): void {
    this.#slotSoFar()?.note(false);
  }

  /** Whether it was made while work went to `recorder`. Internal to plans. */
  isMadeBy(recorder: Recorder): boolean {
    return this.#recorder === recorder;
  }

  /** Makes this tensor a plain value that no gradient passes. */
  detachFromTape(): void {
    this.node = undefined;
  }

  /**
   * Another tensor over the same memory.
   *
   * @throws {ShapeError} if it would reach beyond that memory, or shape, strides and offset are no
   * whole numbers from 0.
   */
  view(shape: Shape, strides?: readonly number[], offset: number = this.offset): Tensor {
    needShape("view", shape);
    const steps = strides ?? denseStrides(shape);
    const whole = steps.every((step) => Number.isInteger(step) && step >= 0);
    if (!whole || steps.length !== shape.length || !Number.isInteger(offset)) {
      throw new ShapeError(
        `view: ${show(shape)} with strides ${show(steps)} from element ${String(offset)}: one ` +
          "stride per axis and a whole number are needed",
      );
    }
    const last = shape.reduce((sum, size, axis) => sum + (size - 1) * steps[axis], offset);
    const held = this.storage.bytes / this.itemSize;
    if (offset < 0 || (last >= held && sizeOf(shape) > 0)) {
      throw new ShapeError(
        `view: ${show(shape)} from element ${offset} leaves the memory of ${
          show(this.shape)
        } (${held} elements)`,
      );
    }
    return new Tensor(this.device, this.storage, shape, this.dtype, strides, offset);
  }

  /**
   * Reads the values, row-major; those of views as well. Floats come as a Float32Array, u32 as a
   * Uint32Array, i32 as an Int32Array: `await ids.data<Uint32Array>()`.
   */
  async data<A extends HostArray = Float32Array>(): Promise<A> {
    const [values] = await this.device.read([this]);
    return (this.dtype === "f16" ? Float32Array.from(values) : values) as A;
  }

  /**
   * Reads the only value.
   *
   * @throws {ShapeError} if there is not exactly one.
   */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new ShapeError(`item: the tensor ${show(this.shape)} has ${this.size} values`);
    }
    return (await this.device.read([this]))[0][0];
  }

  /** One line: shape, element type, device, and a few values if the host knows them. */
  toString(): string {
    return describe(this);
  }

  /** Gives the memory back; later use throws. Disposing twice is harmless. */
  dispose(): void {
    if (!this.#storage) return;
    this.device.unwatch(this);
    this.#storage.release();
    this.#storage = undefined;
    this.node = undefined;
    if (this.#slot && !this.#slot.tensor.disposed) this.#slot.tensor.dispose();
    untrack(this);
  }

  /** `using` support. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

// What consoles (Deno, Node) and notebooks (Deno's Jupyter kernel) look for.
Object.defineProperties(Tensor.prototype, {
  [Symbol.for("Deno.customInspect")]: { value: Tensor.prototype.toString },
  [Symbol.for("nodejs.util.inspect.custom")]: { value: Tensor.prototype.toString },
  [Symbol.for("Jupyter.display")]: {
    value(this: Tensor) {
      return notebookView(this);
    },
  },
});
