/** What threads that decode may do under the command line. */
import { assertEquals } from "@std/assert";
import { restrictThreads, threadOptions } from "../../../train/data/thread_permissions.ts";
import { inTempDir } from "../../support/audio_files.ts";

/** Tries what a decoder has no need of; the text is all that the thread gets of it. */
function attempts(): void {
  const thread = self as unknown as {
    onmessage: (event: MessageEvent<string>) => void;
    postMessage(value: unknown): void;
  };
  thread.onmessage = ({ data }) => {
    const refused = (action: () => unknown): boolean => {
      try {
        action();
        return false;
      } catch (error) {
        return error instanceof Deno.errors.NotCapable;
      }
    };
    thread.postMessage([
      refused(() => Deno.readDirSync(data)),
      refused(() => Deno.writeTextFileSync(`${data}/x`, "")),
      refused(() => Deno.removeSync(data)),
      refused(() => Deno.env.get("HOME")),
      refused(() => Deno.hostname()),
      refused(() => Deno.listen({ port: 0 })),
      refused(() => new Deno.Command("true").spawn()),
    ]);
  };
}

Deno.test("threads that decode may read and nothing else", () =>
  inTempDir(async (dir) => {
    restrictThreads();
    const text = `data:text/javascript,${encodeURIComponent(`(${attempts})()`)}`;
    const thread = new Worker(text, threadOptions("attempts"));
    try {
      const refused = await new Promise((resolve, reject) => {
        thread.onmessage = ({ data }) => resolve(data);
        thread.onerror = reject;
        thread.postMessage(dir);
      });
      assertEquals(refused, [false, true, true, true, true, true, true]);
    } finally {
      thread.terminate();
    }
  }));
