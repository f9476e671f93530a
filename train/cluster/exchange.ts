/**
 * Sums and gathers over ranks, made of sends and receives.
 *
 * A sum is an all-to-all, after which each rank has all ranks' values of its part, an addition in a
 * fixed order, and an all-gather of the parts: 2 (n - 1) / n of the bytes in and out, as in a ring.
 * Unlike `MPI_Allreduce`, whose algorithm depends on library, size and network, it gives the same
 * bits with every library and every time.
 *
 * @module
 */

/** What carries bytes: MPI, or in tests something else. */
export interface Transport<Transfer extends { readonly peer: number }> {
  readonly rank: number;
  readonly size: number;
  /** Begins to send. */
  send(bytes: Uint8Array, to: number): Transfer;
  /** Begins to receive. */
  receive(bytes: Uint8Array, from: number): Transfer;
  /**
   * Waits for transfers.
   *
   * @param receives those whose peers are behind if they do not come
   */
  wait(sends: readonly Transfer[], receives: readonly Transfer[]): void;
}

/**
 * In which order ranks are added: one after the other, as one process adds its micro-batches, or
 * neighbours first, then neighbouring pairs and so on, so that for powers of two it does not matter
 * how many of the additions were made before.
 */
export type SumOrder = "sequence" | "tree";

/** Elements of `length` that a rank adds up: equal parts, the last ones may be shorter. */
export function partOf(rank: number, size: number, length: number): [start: number, end: number] {
  const part = Math.ceil(length / size);
  return [Math.min(length, rank * part), Math.min(length, (rank + 1) * part)];
}

/**
 * Adds up arrays of the same length in f32, into the first.
 *
 * @param order as {@link SumOrder}
 */
export function addInOrder(rows: readonly Float32Array[], order: SumOrder): void {
  const [first] = rows;
  if (order === "sequence") {
    for (const row of rows.slice(1)) addTo(first, row);
    return;
  }
  for (let stride = 1; stride < rows.length; stride *= 2) {
    for (let i = 0; i + stride < rows.length; i += 2 * stride) addTo(rows[i], rows[i + stride]);
  }
}

function addTo(sum: Float32Array, values: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] += values[i];
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** Sums and gathers of one rank; all ranks call the same ones in the same order. */
export class Exchange<Transfer extends { readonly peer: number }> {
  readonly #transport: Transport<Transfer>;
  /** Values of the other ranks; grows as needed. */
  #received = new Float32Array(0);

  /** Uses a transport. */
  constructor(transport: Transport<Transfer>) {
    this.#transport = transport;
  }

  get #others(): number[] {
    const { rank, size } = this.#transport;
    // Not all to the same rank first.
    return Array.from({ length: size - 1 }, (_, i) => (rank + 1 + i) % size);
  }

  /** Replaces `values` by their sums over all ranks; the same bits on each. */
  sum(values: Float32Array, order: SumOrder): void {
    const { rank, size } = this.#transport;
    const partFor = (it: number) => values.subarray(...partOf(it, size, values.length));
    const own = partFor(rank);
    if (this.#received.length < size * own.length) {
      this.#received = new Float32Array(size * own.length);
    }
    const rows = Array.from(
      { length: size },
      (_, i) => this.#received.subarray(i * own.length, (i + 1) * own.length),
    );
    rows[rank].set(own);
    this.#swap((to) => bytesOf(partFor(to)), (from) => bytesOf(rows[from]));
    addInOrder(rows, order);
    own.set(rows[0]);
    this.#swap(() => bytesOf(own), (from) => bytesOf(partFor(from)));
  }

  /** Bytes of each rank, by rank. */
  gather(bytes: Uint8Array): Uint8Array[] {
    const { rank, size } = this.#transport;
    const length = new Float64Array([bytes.length]);
    const lengths = Array.from({ length: size }, () => new Float64Array(1));
    const raw = ({ buffer }: Float64Array<ArrayBuffer>) => new Uint8Array(buffer);
    this.#swap(() => raw(length), (from) => raw(lengths[from]));
    const all = lengths.map(([it], i) => i === rank ? bytes.slice() : new Uint8Array(it));
    this.#swap(() => all[rank], (from) => all[from]);
    return all;
  }

  /** Sends something to each other rank and receives something from it; nothing where empty. */
  #swap(out: (to: number) => Uint8Array, into: (from: number) => Uint8Array): void {
    const transport = this.#transport;
    const begin = (direction: "send" | "receive", bytes: (peer: number) => Uint8Array) =>
      this.#others.flatMap((peer) => {
        const part = bytes(peer);
        return part.length === 0 ? [] : [transport[direction](part, peer)];
      });
    const receives = begin("receive", into);
    transport.wait(begin("send", out), receives);
  }
}
