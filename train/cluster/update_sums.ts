/**
 * Sums over the micro-batches of an update, on the device and over the processes of a group.
 *
 * @module
 */
import {
  addScaled,
  assign,
  type Device,
  fill,
  type HostArray,
  type Tensor,
} from "../../engine/mod.ts";
import { milestone } from "../../engine/plan.ts";
import type { SumOrder } from "./exchange.ts";
import type { Group } from "./group.ts";

/**
 * Elements that are exchanged at a time: 16 MiB. Copies above 32 MiB are slow, as glibc gives their
 * memory back each time.
 */
const BUCKET = 2 ** 22;

/** What is summed and by whom. */
export interface UpdateSumsOptions {
  /** Dense f32 tensors that each micro-batch adds to, that of the gradients first. */
  readonly tensors: readonly Tensor[];
  /** Elements of the gradients that a backward pass fills from the end on; all others are late. */
  readonly decayedSize: number;
  /** Micro-batches of this process. */
  readonly passes: number;
  /**
   * Whether micro-batches are added as a binary tree, whatever process has them; their number is a
   * power of two then. Takes log2({@link passes}) copies of the tensors.
   */
  readonly tree: boolean;
  /** The processes that have micro-batches. */
  readonly group: Pick<Group, "size" | "sum">;
  /** Elements of a bucket, a multiple of 128; default 2^22. */
  readonly bucket?: number;
}

/** The sums of an update. */
export class UpdateSums implements Disposable {
  readonly #device: Device;
  readonly #options: UpdateSumsOptions;
  /** Sums of 2^level micro-batches that wait for as many more, by level. */
  readonly #waiting: readonly (readonly Tensor[])[];
  /** What is exchanged together: views of one tensor, or all small ones. */
  readonly #buckets: readonly (readonly Tensor[])[] = [];
  readonly #pieces: readonly Piece[] = [];
  /** Memory that the group's thread sees, a part for each bucket. */
  #shared: Float32Array<SharedArrayBuffer>[] | undefined;
  /** Values on their way to the device. */
  #written = new Float32Array(0);

  /** Makes the memory that a tree needs. */
  constructor(device: Device, options: UpdateSumsOptions) {
    this.#device = device;
    this.#options = options;
    const { tensors: [gradients, ...others], passes, tree, group, bucket = BUCKET } = options;
    const { decayedSize } = options;
    const levels = tree ? Math.log2(passes) : 0;
    if (!Number.isInteger(levels)) {
      throw new RangeError(`a tree adds a power of two of micro-batches, not ${passes}`);
    }
    this.#waiting = Array.from(
      { length: levels },
      () => options.tensors.map(({ shape }) => device.empty(shape)),
    );
    if (group.size === 1) return;
    this.#pieces = [
      ...piecesOf(0, decayedSize, bucket),
      ...piecesOf(decayedSize, gradients.size, bucket),
    ];
    this.#buckets = [
      ...this.#pieces.map((piece) => [pieceOf(gradients, piece)]),
      ...others.length > 0 ? [others] : [],
    ];
  }

  /**
   * Adds a micro-batch's gradients. Where they are the last ones and others wait for them, each
   * bucket is a milestone of its own, as soon as the backward pass has filled it.
   *
   * @param finish completes the gradients after a backward pass
   * @param add adds a part of them
   */
  addGradients(finish: () => void, add: (part: (whole: Tensor) => Tensor) => void): void {
    if (!this.overlaps) {
      finish();
      add((whole) => whole);
      return;
    }
    milestone(this.#device, finish);
    for (const piece of this.#pieces) {
      milestone(this.#device, () => add((whole) => pieceOf(whole, piece)));
    }
  }

  /** Whether buckets are complete before a process's last backward pass has ended. */
  get overlaps(): boolean {
    return this.#pieces.length > 0 && this.levels === 0;
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
   * Replaces the sums by those over the group. Reading a bucket back, adding up the one before and
   * what the device still computes go on at the same time.
   *
   * @param milestones of {@link addGradients}, as they have been submitted, where work goes on;
   * else all of it has been
   * @returns seconds that the host waited for the sums
   */
  async exchange(milestones: Iterable<number> = []): Promise<number> {
    const { group, tree } = this.#options;
    const order: SumOrder = tree ? "tree" : "sequence";
    this.#shared ??= this.#buckets.map((tensors) =>
      new Float32Array(
        new SharedArrayBuffer(4 * tensors.reduce((sum, { size }) => sum + size, 0)),
      )
    );
    const largest = Math.max(0, ...this.#buckets.flat().map(({ size }) => size));
    if (this.#written.length < largest) this.#written = new Float32Array(largest);
    const reads: Promise<HostArray[]>[] = [];
    const sums: Promise<void>[] = [];
    // All processes offer buckets in the same order.
    const read = () => void reads.push(this.#device.read(this.#buckets[reads.length]));
    const offer = async () => {
      while (sums.length < reads.length) {
        const i = sums.length;
        let at = 0;
        for (const values of await reads[i]) {
          this.#shared![i].set(values as Float32Array, at);
          at += values.length;
        }
        sums.push(group.sum(this.#shared![i], order));
      }
    };
    const complete = new Set<number>();
    for (const number of milestones) {
      // Its work has been submitted, so that the device is busy while the bucket before is copied.
      await offer();
      // The first milestone is no bucket.
      complete.add(number - 1);
      while (complete.has(reads.length)) read();
    }
    while (reads.length < this.#buckets.length) {
      read();
      await offer();
    }
    await offer();
    let waited = 0;
    for (const [i, tensors] of this.#buckets.entries()) {
      const before = performance.now();
      await sums[i];
      waited += performance.now() - before;
      let at = 0;
      const shared = this.#shared[i];
      for (const tensor of tensors) {
        // WebGPU takes no shared memory.
        const values = this.#written.subarray(0, tensor.size);
        values.set(shared.subarray(at, at += tensor.size));
        this.#device.write(tensor, values);
      }
    }
    return waited / 1000;
  }

  /** Frees what it made; the tensors are their owner's. */
  [Symbol.dispose](): void {
    const { tensors } = this.#options;
    const views = this.#buckets.flat().filter((it) => !tensors.includes(it));
    for (const tensor of [...this.#waiting.flat(), ...views]) tensor.dispose();
  }
}

/** A part of the gradients. */
interface Piece {
  readonly start: number;
  readonly size: number;
}

/** Pieces of the elements from `from` to `to`, the last first, as backward passes fill them. */
function piecesOf(from: number, to: number, bucket: number): Piece[] {
  const pieces: Piece[] = [];
  for (let end = to; end > from; end -= bucket) {
    const start = Math.max(from, end - bucket);
    pieces.push({ start, size: end - start });
  }
  return pieces;
}

function pieceOf(whole: Tensor, { start, size }: Piece): Tensor {
  return whole.view([size], undefined, whole.offset + start);
}
