/// <reference lib="deno.worker" />
/**
 * A worker thread: reads what it is asked to, one after the other, and answers each.
 *
 * @module
 */
import type { Answer, Order } from "./worker_pool.ts";
import { clipReaders, FileError } from "./clip_reading.ts";

const tasks = clipReaders();
let last: Promise<void> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<Order>) => {
  last = last.then(() => perform(data));
};

async function perform({ id, name, argument }: Order): Promise<void> {
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
  self.postMessage(answer, transfer as ArrayBuffer[]);
}
