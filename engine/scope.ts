/**
 * Scopes free every tensor that is not returned. They nest; they are synchronous, because reads are
 * what is asynchronous and a value to be read is returned from its scope.
 *
 * @module
 */
import { needFunction, needTensors } from "./arguments.ts";
import { scopes, track, untrack } from "./scope_stack.ts";
import { Tensor } from "./tensor.ts";

/**
 * Takes a tensor out of every scope, as for layers and other state: its owner disposes it by hand.
 *
 * @returns the tensor
 * @throws {ShapeError} if it is none.
 */
export function keep<T extends Tensor>(tensor: T): T {
  needTensors("keep", { tensor });
  untrack(tensor);
  return tensor;
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
 * @throws {ShapeError} if it is no function.
 */
export function scope<T>(body: () => T): T {
  needFunction("scope", "the body", body);
  return freeing(body, true);
}

/**
 * The same for functions that are made of ops, such as layers: what is returned stays on the tape,
 * and what backward needs stays until then.
 *
 * @throws {TypeError} if `body` returns a promise.
 * @throws {ShapeError} if it is no function.
 */
export function composite<T>(body: () => T): T {
  needFunction("composite", "the body", body);
  return freeing(body, false);
}

/**
 * As {@link scope}, for a body that knows the tensors in what it returns. Internal to ops.
 *
 * @param body synchronous
 */
export function scopeOf<T>(body: () => T, kept: (result: T) => readonly Tensor[]): T {
  return freeing(body, true, kept);
}

/** Tensors beyond which a set finds them faster than a list. */
const MANY = 8;

function freeing<T>(
  body: () => T,
  detach: boolean,
  tensorsOf: (result: T) => readonly Tensor[] = tensorsIn,
): T {
  const own = new Set<Tensor>();
  scopes.push(own);
  let result: T;
  let kept: readonly Tensor[] = [];
  try {
    result = body();
    if (result instanceof Promise) {
      // Nobody will wait for it.
      result.catch(() => {});
      throw new TypeError(
        "scope: the body must be synchronous; return the tensors and read them outside",
      );
    }
    kept = tensorsOf(result);
  } finally {
    scopes.pop();
    // Ops keep one or two tensors, for which a set is more work.
    const many = kept.length > MANY ? new Set(kept) : undefined;
    for (const tensor of own) {
      if (many ? many.has(tensor) : kept.includes(tensor)) {
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
