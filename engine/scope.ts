/**
 * Scopes free every tensor that is not returned. They nest; they are synchronous, because reads are what is
 * asynchronous and a value to be read is returned from its scope.
 *
 * @module
 */
import { Tensor } from "./tensor.ts";

const stack: Set<Tensor>[] = [];

/** Puts a new tensor under the innermost scope's care. */
export function track(tensor: Tensor): void {
  stack[stack.length - 1]?.add(tensor);
}

/** Takes a tensor out of the care of whatever scope holds it. */
export function untrack(tensor: Tensor): void {
  for (const scope of stack) scope.delete(tensor);
}

function collect(value: unknown, found: Set<Tensor>, depth = 0): void {
  if (value instanceof Tensor) found.add(value);
  else if (depth < 4 && value !== null && typeof value === "object" && !ArrayBuffer.isView(value)) {
    for (const item of Object.values(value)) collect(item, found, depth + 1);
  }
}

/**
 * Runs `body` and disposes every tensor made in it that it does not return (alone, or in arrays and plain
 * objects). Returned tensors leave the tape and belong to the surrounding scope.
 *
 * @throws {TypeError} if `body` returns a promise.
 */
export function scope<T>(body: () => T): T {
  const own = new Set<Tensor>();
  stack.push(own);
  let result: T;
  const kept = new Set<Tensor>();
  try {
    result = body();
    if (result instanceof Promise) {
      throw new TypeError(
        "scope: the body must be synchronous; return the tensors and read them outside",
      );
    }
    collect(result, kept);
  } finally {
    stack.pop();
    for (const tensor of own) {
      if (kept.has(tensor)) {
        tensor.detachFromTape();
        track(tensor);
      } else {
        tensor.dispose();
      }
    }
  }
  return result;
}
