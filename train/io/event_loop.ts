/**
 * Turns of the event loop.
 *
 * @module
 */
import { setImmediate } from "node:timers";

/**
 * Lets signals, timers and finished reads and writes be handled. Neither awaiting a batch that is
 * ready nor a value that the GPU gives at once does. Takes 3 µs; `setTimeout` takes 2 ms.
 */
export function yieldToEventLoop(): Promise<void> {
  return new Promise((done) => {
    setImmediate(done);
  });
}
