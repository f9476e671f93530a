/**
 * The thread that owns MPI. Nobody else calls it, so that sums go on while the main thread waits
 * for the GPU inside a call.
 *
 * @module
 */
import { UsageError } from "../errors.ts";
import { Exchange, type SumOrder, type Transport } from "./exchange.ts";
import { MpiLibrary, type Transfer } from "./mpi_library.ts";

/** What the thread is called. */
export const MPI_WORKER_NAME = "tessera mpi";
/** Where this module is. */
export const MPI_WORKER_URL: string = import.meta.url;

/** What the thread is told; each order but `abort` is answered under its number. */
export type Order =
  & { readonly id: number }
  & (
    | {
      readonly kind: "start";
      readonly files: readonly string[];
      /** Ranks that the launcher says there are. */
      readonly size: number;
      /** [1] nonzero once the job is to end: 1 + its exit code. */
      readonly ending: Int32Array<SharedArrayBuffer>;
      /** Seconds that others are waited for. */
      readonly timeout: number;
    }
    | {
      readonly kind: "sum";
      readonly values: Float32Array<SharedArrayBuffer>;
      readonly order: SumOrder;
    }
    | { readonly kind: "gather"; readonly bytes: Uint8Array }
    | { readonly kind: "wait for first" }
    | { readonly kind: "advise"; readonly advice: string }
    | { readonly kind: "abort" }
    | { readonly kind: "finish" }
  );

/** What it answers. */
export type Answer =
  & { readonly id: number }
  & (
    | { readonly value?: unknown }
    | { readonly error: { readonly message: string; readonly details?: string; usage: boolean } }
  );

/** What is known of the job once MPI is there. */
export interface Joined {
  readonly rank: number;
  readonly size: number;
  readonly library: string;
  /** Names of the machines, by rank. */
  readonly hosts: readonly string[];
}

/** Looks at all transfers, one after the other, before the thread sleeps between them. */
const BUSY_LOOKS = 200;
/** Milliseconds between looks, growing: spinning would take the cores of those waited for. */
const [SHORTEST_NAP, LONGEST_NAP] = [0.02, 1];
/** Milliseconds after which a rank tells of others that are behind. */
const SECOND = 1000;

/**
 * Milliseconds between a message and `MPI_Abort`: MPICH's launcher kills the ranks at once, and
 * what it has not read by then of their output is lost.
 */
export const TIME_TO_BE_READ = 500;

/** MPI as a transport that gives up when others do not come, or the job is to end. */
class MpiTransport implements Transport<Transfer> {
  readonly rank: number;
  readonly size: number;
  hosts: readonly string[] = [];
  advice = "";
  /** Whether rank 0 may take any time. */
  patient = false;
  readonly #nap = new Int32Array(new SharedArrayBuffer(4));

  constructor(
    readonly library: MpiLibrary,
    private readonly ending: Int32Array,
    private readonly timeout: number,
  ) {
    this.rank = library.rank;
    this.size = library.size;
  }

  send(bytes: Uint8Array, to: number): Transfer {
    return this.library.send(bytes, to);
  }

  receive(bytes: Uint8Array, from: number): Transfer {
    return this.library.receive(bytes, from);
  }

  wait(sends: readonly Transfer[], receives: readonly Transfer[]): void {
    let pending = [...receives, ...sends];
    let looks = 0;
    let nap = SHORTEST_NAP;
    let last = performance.now();
    while (pending.length > 0) {
      const before = pending.length;
      pending = pending.filter((it) => !this.library.isDone(it));
      if (pending.length < before) {
        [looks, nap, last] = [0, SHORTEST_NAP, performance.now()];
        continue;
      }
      if (++looks < BUSY_LOOKS) continue;
      this.refuseEnd();
      if (performance.now() - last > this.timeout * SECOND) {
        if (!this.patient || pending.some(({ peer }) => peer !== 0)) {
          this.#giveUp(pending, receives);
        }
      }
      Atomics.wait(this.#nap, 0, 0, nap);
      nap = Math.min(LONGEST_NAP, nap * 1.5);
    }
  }

  /** Ends the job if that is wanted. */
  refuseEnd(): void {
    const code = Atomics.load(this.ending, 0) - 1;
    if (code >= 0) this.library.abort(code);
  }

  #giveUp(pending: readonly Transfer[], receives: readonly Transfer[]): void {
    const waiting = pending.filter((it) => receives.includes(it));
    const behind = (waiting.length > 0 ? waiting : pending).map(({ peer }) => peer);
    const names = behind.sort((a, b) => a - b).map((it) =>
      `rank ${it} on ${this.hosts[it] ?? "?"}`
    );
    const verb = names.length === 1 ? "has" : "have";
    console.error(
      `error: ${names.join(", ")} ${verb} sent nothing for ${this.timeout} s (--timeout), says ` +
        `rank ${this.rank} on ${this.hosts[this.rank] ?? "?"}${this.advice && `\n${this.advice}`}`,
    );
    Atomics.wait(this.#nap, 0, 0, TIME_TO_BE_READ);
    this.library.abort(1);
  }
}

class MpiThread {
  #transport!: MpiTransport;
  #exchange!: Exchange<Transfer>;

  perform(order: Order): unknown {
    switch (order.kind) {
      case "start":
        return this.#start(order);
      case "sum":
        this.#exchange.sum(order.values, order.order);
        this.#transport.patient = false;
        return;
      case "gather": {
        const all = this.#exchange.gather(order.bytes);
        this.#transport.patient = false;
        return all;
      }
      case "wait for first":
        this.#transport.patient = true;
        return;
      case "advise":
        this.#transport.advice = order.advice;
        return;
      case "abort":
        return this.#transport.refuseEnd();
      case "finish":
        return this.#transport.library.finalize();
    }
  }

  #start({ files, size, ending, timeout }: Order & { kind: "start" }): Joined {
    const library = new MpiLibrary(files);
    if (library.size !== size) {
      throw new UsageError(
        `the launcher says that there are ${size} ranks, ${library.name} says ${library.size}`,
        "mpirun or srun belongs to another MPI than that library; name the library that belongs " +
          "to it with TESSERA_MPI=/path/to/libmpi.so",
      );
    }
    this.#transport = new MpiTransport(library, ending, timeout);
    this.#exchange = new Exchange(this.#transport);
    const names = this.#exchange.gather(new TextEncoder().encode(library.host));
    const hosts = names.map((it) => new TextDecoder().decode(it));
    this.#transport.hosts = hosts;
    return { rank: library.rank, size, library: library.name, hosts };
  }
}

/** What Deno's threads have beside what its main thread has. */
interface Thread {
  readonly name?: string;
  onmessage: (event: MessageEvent<Order>) => void;
  postMessage(answer: Answer): void;
}

const thread = globalThis as unknown as Thread;
if (thread.name === MPI_WORKER_NAME) {
  const mpi = new MpiThread();
  thread.onmessage = ({ data }) => {
    const { id } = data;
    try {
      thread.postMessage({ id, value: mpi.perform(data) });
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      const usage = error instanceof UsageError;
      const details = usage ? error.details : error.stack;
      thread.postMessage({ id, error: { message: error.message, details, usage } });
    }
  };
}
