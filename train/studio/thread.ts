/**
 * A studio in a thread of its own, so that pages are answered while this one feeds the GPU.
 *
 * @module
 */
import type { ThreadOptions } from "../data/thread_permissions.ts";
import { openStudio } from "./server.ts";
import { Sounds } from "./sounds.ts";

/** What the thread is called. */
const NAME = "tessera studio";

/** What the thread is sent. */
interface Order {
  readonly folder: string;
  readonly adapter: "auto" | "gpu" | "software";
}

/** What it answers: where the page is, or why there is none. */
type Answer = { readonly address: string } | { readonly error: string };

interface Thread {
  readonly name?: string;
  onmessage: (event: MessageEvent<Order>) => void;
  postMessage(answer: Answer): void;
}

const thread = globalThis as unknown as Thread;
if (thread.name === NAME) {
  thread.onmessage = async ({ data: { folder, adapter } }) => {
    try {
      const sounds = new Sounds({ folder, adapter, workers: 0, clips: 1000 });
      const { address } = await openStudio({ folder, sounds });
      thread.postMessage({ address });
    } catch (error) {
      thread.postMessage({ error: (error as Error).message });
    }
  };
}

/**
 * Opens a studio for a folder in another thread, which may read, and listen at 127.0.0.1; it ends
 * when the result is disposed.
 *
 * @throws {Error} if it cannot
 */
export async function studioThread(
  order: Order,
): Promise<{ readonly address: string } & Disposable> {
  const none = { write: false, env: false, run: false, ffi: false, sys: false, import: false };
  const options: ThreadOptions = {
    ...{ type: "module", name: NAME },
    deno: { permissions: { ...none, read: "inherit", net: "inherit" } },
  };
  const worker = new Worker(import.meta.url, options);
  const answer = await new Promise<Answer>((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => {
      event.preventDefault();
      resolve({ error: event.message });
    };
    worker.postMessage(order);
  });
  if ("address" in answer) {
    return { address: answer.address, [Symbol.dispose]: () => worker.terminate() };
  }
  worker.terminate();
  throw new Error(`--studio: ${answer.error}`);
}
