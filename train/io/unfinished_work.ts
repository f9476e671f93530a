/**
 * Work that is lost where a command is ended in the middle of it.
 *
 * @module
 */

const open: (() => string)[] = [];

/** Begins such work; it ends when the result is disposed. @param loss what is lost, in words */
export function unfinishedWork(loss: () => string): Disposable {
  open.push(loss);
  return { [Symbol.dispose]: () => void open.splice(open.indexOf(loss), 1) };
}

/** What is lost if the process ends now, in words; nothing where no such work is under way. */
export function lossNow(): string | undefined {
  return open.at(-1)?.();
}
