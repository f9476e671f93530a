/**
 * The processes that train one model together, as training sees them.
 *
 * @module
 */
import type { ThreadOptions } from "../data/thread_permissions.ts";
import { describeError, DivergedError, exitCodeOf, UsageError } from "../errors.ts";
import type { SumOrder } from "./exchange.ts";
import { type Launched, launched } from "./launcher.ts";
import { libraryFiles } from "./mpi_library.ts";
import {
  type Answer,
  type Joined,
  MPI_WORKER_NAME,
  MPI_WORKER_URL,
  type Order,
  TIME_TO_BE_READ,
} from "./mpi_worker.ts";

/** A process among its job's; all call the same methods that wait for others in the same order. */
export interface Group {
  /** This process, from 0. */
  readonly rank: number;
  /** Processes. */
  readonly size: number;
  /** Names of their machines, by rank. */
  readonly hosts: readonly string[];
  /** Which MPI, for messages; undefined where there is none. */
  readonly library: string | undefined;
  /** Place among the processes of this machine, if the launcher says it. */
  readonly localRank: number | undefined;
  /**
   * Begins to replace `values` by their sums over all ranks, the same bits on each; settles when
   * they are there. Sums are worked one after the other while the caller does something else.
   */
  sum(values: Float32Array<SharedArrayBuffer>, order: SumOrder): Promise<void>;
  /** Texts of all ranks, by rank. */
  gather(text: string): Promise<string[]>;
  /**
   * Says that the first rank works alone from here on, such as on an evaluation: it is waited for
   * without a limit of time until the next sum or text has come.
   */
  waitForFirst(): void;
  /** What is to be said if others do not come: how to go on. */
  advise(advice: string): void;
  /**
   * Ends all processes with the error's exit code, after saying who ran into it. Several ranks may
   * run into the same: the lowest speaks.
   */
  abort(error: unknown): Promise<never>;
  /**
   * Has to be called by all before they exit without an error that {@link Group.abort} heard of.
   *
   * @param code that they exit with, 0 if not given
   */
  finish(code?: number): Promise<void>;
}

/** A group of one process, without MPI. */
export function groupOfOne(): Group {
  return {
    ...{ rank: 0, size: 1, hosts: ["this machine"], library: undefined, localRank: undefined },
    sum: () => Promise.resolve(),
    gather: (text) => Promise.resolve([text]),
    waitForFirst: () => {},
    advise: () => {},
    abort: (error) => Promise.reject(error),
    finish: () => Promise.resolve(),
  };
}

/** Options of {@link openGroup}. */
export interface GroupOptions {
  /** Seconds that others are waited for before the job is ended. */
  readonly timeout: number;
  /** Reads a variable of the environment. */
  readonly environment?: (name: string) => string | undefined;
}

/**
 * Joins the job that this process was launched in; a group of one where nobody launched it.
 *
 * @throws {UsageError} if there is no MPI library, or one that does not belong to the launcher.
 */
export async function openGroup(options: GroupOptions): Promise<Group> {
  const get = options.environment ?? ((name) => Deno.env.get(name));
  const found = launched(get);
  if (!found) return groupOfOne();
  const thread = new MpiThread();
  try {
    const files = libraryFiles(found.by, get("TESSERA_MPI"));
    const { timeout } = options;
    const joined = await thread.ask({ kind: "start", files, size: found.size, timeout, ending });
    return new MpiGroup(thread, found, joined as Joined);
  } catch (error) {
    thread.end();
    // All ranks find the same, as a rule: the first one to end ends the others.
    await turnToSpeak(found.rank);
    throw error;
  }
}

/** 1 + the exit code with which the job is to end. */
const ending = /* @__PURE__ */ new Int32Array(/* @__PURE__ */ new SharedArrayBuffer(4));

type Unnumbered<T> = T extends unknown ? Omit<T, "id"> : never;

/** The other thread, asked one thing after the other. */
class MpiThread {
  readonly #worker: Worker;
  readonly #asked = new Map<number, PromiseWithResolvers<unknown>>();
  #orders = 0;

  constructor() {
    const none = { write: false, net: false, env: false, run: false, sys: false, import: false };
    const options: ThreadOptions = {
      ...{ type: "module", name: MPI_WORKER_NAME },
      deno: { permissions: { ...none, read: "inherit", ffi: "inherit" } },
    };
    this.#worker = new Worker(MPI_WORKER_URL, options);
    this.#worker.onmessage = ({ data }: MessageEvent<Answer>) => {
      const asked = this.#asked.get(data.id)!;
      this.#asked.delete(data.id);
      if (!("error" in data)) return asked.resolve(data.value);
      const { message, details, usage } = data.error;
      asked.reject(usage ? new UsageError(message, details) : new Error(message));
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(`the thread of MPI ended: ${event.message}`);
      for (const { reject } of this.#asked.values()) reject(error);
    };
  }

  ask(order: Unnumbered<Order>): Promise<unknown> {
    const answer = Promise.withResolvers<unknown>();
    // Whoever waits for it hears of an error.
    answer.promise.catch(() => {});
    const id = this.#orders++;
    this.#asked.set(id, answer);
    this.#worker.postMessage({ ...order, id });
    return answer.promise;
  }

  end(): void {
    this.#worker.terminate();
  }
}

/** Milliseconds that a rank leaves to lower ones. */
const FIRST_WORD = 2_000;
const NEXT_WORD = 100;
const LAST_WORD = 10_000;
/** Milliseconds until a process ends itself that MPI should have ended. */
const LONGEST_ABORT = 5000;

/**
 * Leaves time for lower ranks to say what all have run into.
 *
 * @param byAll whether it is certain that they have: the lowest is heard, however slow it is
 */
async function turnToSpeak(rank: number, byAll = false): Promise<void> {
  if (rank > 0) await sleep(byAll ? LAST_WORD : Math.min(LAST_WORD, FIRST_WORD + NEXT_WORD * rank));
}

class MpiGroup implements Group {
  readonly rank: number;
  readonly size: number;
  readonly hosts: readonly string[];
  readonly library: string;
  readonly localRank: number | undefined;
  readonly #thread: MpiThread;
  readonly #launcher: Launched["by"];
  #advice = "";

  constructor(thread: MpiThread, { localRank, by }: Launched, joined: Joined) {
    this.#thread = thread;
    this.#launcher = by;
    ({ rank: this.rank, size: this.size, hosts: this.hosts, library: this.library } = joined);
    this.localRank = localRank;
  }

  async sum(values: Float32Array<SharedArrayBuffer>, order: SumOrder): Promise<void> {
    await this.#thread.ask({ kind: "sum", values, order });
  }

  async gather(text: string): Promise<string[]> {
    const bytes = new TextEncoder().encode(text);
    const all = await this.#thread.ask({ kind: "gather", bytes }) as Uint8Array[];
    return all.map((it) => new TextDecoder().decode(it));
  }

  waitForFirst(): void {
    void this.#thread.ask({ kind: "wait for first" });
  }

  advise(advice: string): void {
    this.#advice = advice;
    void this.#thread.ask({ kind: "advise", advice });
  }

  async abort(error: unknown): Promise<never> {
    const { rank, hosts } = this;
    // Losses are of the whole batch, and options are everybody's.
    await turnToSpeak(rank, error instanceof DivergedError || error instanceof UsageError);
    const text = describeError(error);
    const known = this.#advice !== "" && !text.includes(this.#advice) ? `\n${this.#advice}` : "";
    console.error(`${text.replace(/^error:/, `error: rank ${rank} on ${hosts[rank]}:`)}${known}`);
    return await this.#end(exitCodeOf(error));
  }

  async finish(code = 0): Promise<void> {
    // MPICH's launcher passes a signal on and then now and then forgets what the ranks exit with.
    if (code !== 0 && this.#launcher === "pmi") {
      await this.gather("");
      if (this.rank > 0) await sleep(LONGEST_ABORT);
      await this.#end(code);
    }
    await this.#thread.ask({ kind: "finish" });
    this.#thread.end();
  }

  async #end(code: number): Promise<never> {
    await sleep(TIME_TO_BE_READ);
    Atomics.store(ending, 0, 1 + code);
    void this.#thread.ask({ kind: "abort" });
    await sleep(LONGEST_ABORT);
    // Launchers end a job of which one process ends this way.
    Deno.exit(code);
  }
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, milliseconds));
}
