/**
 * Worker threads for decoding and reading, and the same work without them.
 *
 * @module
 */
import type { CropRequest } from "./logmel_file.ts";
import {
  type ClipAudio,
  type ClipReaders,
  clipReaders,
  type ClipRequest,
  FileError,
  type Piece,
  type PiecesRequest,
  type ReaderName,
  type WaveformRequest,
} from "./clip_reading.ts";
import { threadOptions } from "./thread_permissions.ts";
import { WORKER_NAME, WORKER_URL } from "./worker.ts";

/** What a worker is sent. */
export interface Order {
  /** Repeated by the answer. */
  readonly id: number;
  /** Which task. */
  readonly name: ReaderName;
  /** Its argument. */
  readonly argument: unknown;
}

type Result = Float32Array | Piece | ClipAudio;

/** What a worker answers; an error without a stack is about the file. */
export interface Answer {
  /** Of the order. */
  readonly id: number;
  /** The result. */
  readonly value?: Result;
  /** What went wrong instead. */
  readonly error?: { readonly message: string; readonly stack?: string };
}

interface Done {
  readonly value: Result;
  /** Who did it. */
  readonly lane: Lane | undefined;
}

interface Job extends Omit<Order, "id"> {
  readonly resolve: (done: Done) => void;
  readonly reject: (error: unknown) => void;
}

/** One thread. */
interface Lane {
  readonly worker: Worker;
  readonly running: Map<number, Job>;
}

/**
 * Orders that a worker has at a time, one of them under way. The calling thread sends no new ones
 * while it submits work to the GPU, which takes as long as an update on software adapters; so that
 * many clips are read meanwhile. Pieces are large.
 */
const ORDERS_PER_WORKER: Readonly<Record<ReaderName, number>> = {
  waveform: 64,
  clip: 64,
  crop: 64,
  firstPiece: 2,
  nextPiece: 2,
};
/** Each thread takes some 30 MB. */
const MOST_WORKERS = 16;

/**
 * Threads worth having beside training: all cores but the one that feeds the GPU.
 *
 * @param processes that train on this machine and share its cores
 */
export function defaultWorkers(processes = 1): number {
  const cores = Math.floor(navigator.hardwareConcurrency / processes);
  return Math.max(1, Math.min(MOST_WORKERS, cores - 1));
}

/**
 * Runs tasks on worker threads, begun in the order they were given; results may overtake each
 * other.
 */
export class WorkerPool implements Disposable {
  readonly #lanes: Lane[];
  readonly #waiting: Job[] = [];
  readonly #here: ClipReaders = clipReaders();
  #last: Promise<unknown> = Promise.resolve();
  #orders = 0;
  #failure: Error | undefined;

  /**
   * Starts the threads.
   *
   * @param workers how many; 0 runs everything in the calling thread, one task at a time
   * @param maxHours longer files of audio are refused; default 24
   */
  constructor(workers: number, readonly maxHours?: number) {
    this.#lanes = Array.from({ length: workers }, () => this.#lane());
  }

  /**
   * Runs one task: a file as mono.
   *
   * @throws {FileError} if the file cannot be used.
   */
  run(name: "waveform", request: WaveformRequest): Promise<Float32Array>;
  /** As above: a clip, or the crop of a long one. */
  run(name: "clip", request: ClipRequest): Promise<ClipAudio>;
  /** As above: a standardised crop of a log-mel file. */
  run(name: "crop", request: CropRequest): Promise<Float32Array>;
  async run(name: ReaderName, request: object): Promise<Float32Array | ClipAudio> {
    const { value } = await this.#submit(name, this.#limited(request));
    return value as Float32Array | ClipAudio;
  }

  #limited(request: object): object {
    return this.maxHours === undefined ? request : { ...request, maxHours: this.maxHours };
  }

  /**
   * The pieces of a waveform, one after the other; each is made when it is asked for.
   *
   * @throws {FileError} if the file cannot be used, also after some pieces.
   */
  async *pieces(request: PiecesRequest): AsyncGenerator<Piece> {
    let { value, lane } = await this.#submit("firstPiece", this.#limited(request));
    for (;;) {
      const piece = value as Piece;
      yield piece;
      if (piece.stream === undefined) return;
      ({ value, lane } = await this.#submit("nextPiece", piece.stream, lane));
    }
  }

  /** Ends the threads; what they were doing is never answered. */
  [Symbol.dispose](): void {
    for (const { worker } of this.#lanes) worker.terminate();
  }

  #submit(name: ReaderName, argument: unknown, lane?: Lane): Promise<Done> {
    if (this.#lanes.length === 0) {
      const turn = this.#last.then(async () => {
        return { value: await this.#here[name](argument as never), lane: undefined };
      });
      this.#last = turn.catch(() => {});
      return turn;
    }
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      const job: Job = { name, argument, resolve, reject };
      if (lane) this.#send(lane, job);
      else this.#waiting.push(job);
      this.#fill();
    });
  }

  #fill(): void {
    for (;;) {
      const lane = this.#lanes.reduce((a, b) => a.running.size <= b.running.size ? a : b);
      const [job] = this.#waiting;
      if (!job || lane.running.size >= ORDERS_PER_WORKER[job.name]) return;
      this.#waiting.shift();
      this.#send(lane, job);
    }
  }

  #send(lane: Lane, job: Job): void {
    const id = this.#orders++;
    lane.running.set(id, job);
    const order: Order = { id, name: job.name, argument: job.argument };
    lane.worker.postMessage(order);
  }

  #lane(): Lane {
    const worker = new Worker(WORKER_URL, threadOptions(WORKER_NAME));
    const lane: Lane = { worker, running: new Map() };
    worker.onmessage = ({ data: { id, value, error } }: MessageEvent<Answer>) => {
      const job = lane.running.get(id)!;
      lane.running.delete(id);
      if (error) {
        const { message, stack } = error;
        job.reject(
          stack === undefined ? new FileError(message) : new Error(message, { cause: stack }),
        );
      } else job.resolve({ value: value!, lane });
      this.#fill();
    };
    worker.onerror = (event) => {
      event.preventDefault();
      const failure = this.#failure = new Error(`a worker thread ended: ${event.message}`);
      const jobs = [
        ...this.#lanes.flatMap(({ running }) => [...running.values()]),
        ...this.#waiting,
      ];
      for (const { reject } of jobs) reject(failure);
    };
    return lane;
  }
}
