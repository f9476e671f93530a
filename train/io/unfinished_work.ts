/**
 * Work that a signal waits for, however long it takes: an update and the checkpoint after it.
 *
 * @module
 */

let open = 0;

/** Whether something is under way that must not be lost. */
export function hasUnfinishedWork(): boolean {
  return open > 0;
}

/** Begins such work; it ends when the result is disposed. */
export function unfinishedWork(): Disposable {
  open++;
  return { [Symbol.dispose]: () => void open-- };
}

/** Waits within such work for what may never come: meanwhile a signal does not wait for it. */
export async function waitFor<T>(promise: Promise<T>): Promise<T> {
  open--;
  try {
    return await promise;
  } finally {
    open++;
  }
}
