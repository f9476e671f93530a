/**
 * Time inside a method, to be taken off that of its callers.
 *
 * @module
 */

/** Time that a method of an object takes, until it is disposed. */
export function stopwatch<K extends string>(
  target: Record<K, unknown> | object,
  method: K,
): { ms: number } & Disposable {
  const owner = target as Record<string, (...words: unknown[]) => unknown>;
  const watch = {
    ms: 0,
    [Symbol.dispose]: () => {
      delete owner[method];
    },
  };
  const original = owner[method].bind(target);
  owner[method] = (...words) => {
    const start = performance.now();
    try {
      return original(...words);
    } finally {
      watch.ms += performance.now() - start;
    }
  };
  return watch;
}
