/**
 * The module that the page computes with (page_engine.ts), made in a thread of its own when a page
 * first asks for it.
 *
 * @module
 */
import { threadOptions } from "../data/thread_permissions.ts";
import { fromFileUrl } from "../deps/path.ts";

/** What the thread is called. */
const NAME = "tessera bundler";

type Answer = { readonly code: string } | { readonly error: string };

interface Thread {
  readonly name?: string;
  postMessage(answer: Answer): void;
}

const thread = globalThis as unknown as Thread;
if (thread.name === NAME) {
  try {
    const { bundle } = await import("../bundle/bundle.ts");
    const { code } = await bundle(fromFileUrl(new URL("./page_engine.ts", import.meta.url)));
    thread.postMessage({ code });
  } catch (error) {
    thread.postMessage({ error: (error as Error).message });
  }
}

let made: Promise<string> | undefined;

/** The module's text. @throws {Error} where sources are no files, as in a package */
export function engineModule(): Promise<string> {
  if (made) return made;
  made = new Promise((resolve, reject) => {
    const worker = new Worker(import.meta.url, threadOptions(NAME));
    const end = (answer: Answer): void => {
      worker.terminate();
      if ("code" in answer) resolve(answer.code);
      else reject(new Error(`the engine cannot be bundled: ${answer.error}`));
    };
    worker.onmessage = ({ data }) => end(data);
    worker.onerror = (event) => {
      event.preventDefault();
      end({ error: event.message });
    };
  });
  // What failed is tried again.
  made.catch(() => made = undefined);
  return made;
}
