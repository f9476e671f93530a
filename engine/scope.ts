/**
 * Scopes free every tensor that is not returned. They nest; they are synchronous, because reads are
 * what is asynchronous and a value to be read is returned from its scope.
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

/** Tensors in a value: itself, or inside arrays and plain objects a few levels deep. */
export function tensorsIn(value: unknown, depth = 0): Tensor[] {
  if (value instanceof Tensor) return [value];
  const leaf = value === null || typeof value !== "object" || ArrayBuffer.isView(value);
  return leaf || depth > 3
    ? []
    : Object.values(value).flatMap((item) => tensorsIn(item, depth + 1));
}

/**
 * Runs `body` and disposes every tensor made in it that it does not return (alone, or in arrays and
 * plain objects). Returned tensors leave the tape and belong to the surrounding scope.
 *
 * @throws {TypeError} if `body` returns a promise.
 */
export function scope<T>(body: () => T): T {
  return freeing(body, true);
}

/**
 * The same for ops that are made of other ops: what is returned stays on the tape. Internal to ops.
 *
 * @param body synchronous
 */
export function composite<T>(body: () => T): T {
  return freeing(body, false);
}

function freeing<T>(body: () => T, detach: boolean): T {
  const own = new Set<Tensor>();
  stack.push(own);
  let result: T;
  let kept: ReadonlySet<Tensor> = new Set();
  try {
    result = body();
    if (result instanceof Promise) {
      throw new TypeError(
        "scope: the body must be synchronous; return the tensors and read them outside",
      );
    }
    kept = new Set(tensorsIn(result));
  } finally {
    stack.pop();
    for (const tensor of own) {
      if (kept.has(tensor)) {
        if (detach) tensor.detachFromTape();
        track(tensor);
      } else if (tensor.saved && !detach) {
        track(tensor);
      } else {
        tensor.dispose();
      }
    }
  }
  return result;
}
