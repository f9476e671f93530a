/**
 * Sums over the micro-batches of an update, on the device and over the processes of a group.
 *
 * @module
 */
import { addScaled, assign, type Device, fill, type Tensor } from "../../engine/mod.ts";
import type { SumOrder } from "./exchange.ts";
import type { Group } from "./group.ts";

/**
 * Elements that are exchanged at a time: 16 MiB. Copies above 32 MiB are slow, as glibc gives their
 * memory back each time.
 */
const BUCKET = 2 ** 22;

/** What is summed and by whom. */
export interface UpdateSumsOptions {
  /** Dense f32 tensors that each micro-batch adds to, the largest first. */
  readonly tensors: readonly Tensor[];
  /** Micro-batches of this process. */
  readonly passes: number;
  /**
   * Whether micro-batches are added as a binary tree, whatever process has them; their number is a
   * power of two then. Takes log2({@link passes}) copies of the tensors.
   */
  readonly tree: boolean;
  /** The processes that have micro-batches. */
  readonly group: Pick<Group, "size" | "sum">;
  /** Elements of a bucket; default 2^22. */
  readonly bucket?: number;
}

/** The sums of an update. */
export class UpdateSums implements Disposable {
  readonly #device: Device;
  readonly #options: UpdateSumsOptions;
  /** Sums of 2^level micro-batches that wait for as many more, by level. */
  readonly #waiting: readonly (readonly Tensor[])[];
  /** What is exchanged together: views of one tensor, or all small ones. */
  readonly #buckets: readonly (readonly Tensor[])[];
  /** Memory that the group's thread sees, a part for each bucket. */
  #shared: Float32Array<SharedArrayBuffer>[] | undefined;
  /** Values on their way to the device. */
  #written = new Float32Array(0);

  /** Makes the memory that a tree needs. */
  constructor(device: Device, options: UpdateSumsOptions) {
    this.#device = device;
    this.#options = options;
    const { tensors, passes, tree, group, bucket = BUCKET } = options;
    const levels = tree ? Math.log2(passes) : 0;
    if (!Number.isInteger(levels)) {
      throw new RangeError(`a tree adds a power of two of micro-batches, not ${passes}`);
    }
    this.#waiting = Array.from(
      { length: levels },
      () => tensors.map(({ shape }) => device.empty(shape)),
    );
    this.#buckets = group.size > 1 ? bucketsOf(tensors, bucket) : [];
  }

  /** Levels of the tree of this process. */
  get levels(): number {
    return this.#waiting.length;
  }

  /** Starts a sum. */
  clear(): void {
    for (const tensor of this.#options.tensors) fill(tensor, 0);
  }

  /** Adds what waits at a level. */
  join(level: number): void {
    this.#options.tensors.forEach((sum, i) => addScaled(sum, this.#waiting[level][i], 1));
  }

  /** Leaves the sum at a level, to be joined by as many micro-batches more. */
  leave(level: number): void {
    this.#options.tensors.forEach((sum, i) => assign(this.#waiting[level][i], sum));
  }

  /**
   * Replaces the sums by those over the group. Work that fills them has been submitted; reading a
   * bucket back, adding up the one before and writing the one before that go on at the same time.
   *
   * @returns milliseconds that the host waited for other processes
   */
  async exchange(): Promise<number> {
    const { group, tree } = this.#options;
    const order: SumOrder = tree ? "tree" : "sequence";
    this.#shared ??= this.#buckets.map((tensors) =>
      new Float32Array(
        new SharedArrayBuffer(4 * tensors.reduce((sum, { size }) => sum + size, 0)),
      )
    );
    const largest = Math.max(0, ...this.#buckets.flat().map(({ size }) => size));
    if (this.#written.length < largest) this.#written = new Float32Array(largest);
    const sums: Promise<void>[] = [];
    for (const [i, tensors] of this.#buckets.entries()) {
      const shared = this.#shared[i];
      let at = 0;
      for (const values of await this.#device.read(tensors)) {
        shared.set(values, at);
        at += values.length;
      }
      sums.push(group.sum(shared, order));
    }
    let waited = 0;
    for (const [i, tensors] of this.#buckets.entries()) {
      const before = performance.now();
      await sums[i];
      waited += performance.now() - before;
      let at = 0;
      for (const tensor of tensors) {
        // WebGPU takes no shared memory.
        const values = this.#written.subarray(0, tensor.size);
        values.set(this.#shared[i].subarray(at, at += tensor.size));
        this.#device.write(tensor, values);
      }
    }
    return waited;
  }

  /** Frees what it made; the tensors are their owner's. */
  [Symbol.dispose](): void {
    const { tensors } = this.#options;
    const views = this.#buckets.flat().filter((it) => !tensors.includes(it));
    for (const tensor of [...this.#waiting.flat(), ...views]) tensor.dispose();
  }
}

/** Pieces of the first tensor, its end first, as backward passes fill it; the others together. */
function bucketsOf([large, ...small]: readonly Tensor[], bucket: number): Tensor[][] {
  const buckets: Tensor[][] = [];
  for (let end = large.size; end > 0; end -= bucket) {
    const start = Math.max(0, end - bucket);
    buckets.push([large.view([end - start], undefined, large.offset + start)]);
  }
  if (small.length > 0) buckets.push([...small]);
  return buckets;
}
