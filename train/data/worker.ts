/**
 * A worker thread: reads what it is asked to, one after the other, and answers each. The pool
 * imports this module for its address, which in a package is another than here.
 *
 * @module
 */
import type { Answer, Order } from "./worker_pool.ts";
import { clipReaders, FileError } from "./clip_reading.ts";

/** Where this module is. */
export const WORKER_URL: string = import.meta.url;
/** What a thread is called that shall work. */
export const WORKER_NAME = "tessera clip reader";

/** What Deno's threads have beside what its main thread has. */
interface Thread {
  readonly name?: string;
  onmessage: (event: MessageEvent<Order>) => void;
  postMessage(answer: Answer, transfer: ArrayBuffer[]): void;
}

const thread = globalThis as unknown as Thread;
if (thread.name === WORKER_NAME) {
  const tasks = clipReaders();
  let last: Promise<void> = Promise.resolve();
  thread.onmessage = ({ data }) => {
    last = last.then(() => perform(tasks, data));
  };
}

async function perform(
  tasks: ReturnType<typeof clipReaders>,
  { id, name, argument }: Order,
): Promise<void> {
  let answer: Answer;
  const transfer: ArrayBufferLike[] = [];
  try {
    const value = await tasks[name](argument as never);
    const samples = value instanceof Float32Array ? value : value.samples;
    transfer.push(samples.buffer);
    answer = { id, value };
  } catch (error) {
    const { message, stack } = error instanceof Error ? error : new Error(String(error));
    answer = { id, error: error instanceof FileError ? { message } : { message, stack } };
  }
  thread.postMessage(answer, transfer as ArrayBuffer[]);
}
