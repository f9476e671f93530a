/**
 * Which scope frees which tensor; scope.ts opens and closes them.
 *
 * @module
 */
import type { Tensor } from "./tensor.ts";

/** Tensors that each open scope is to free, the innermost scope last. */
export const scopes: Set<Tensor>[] = [];

/** Puts a new tensor under the innermost scope's care. */
export function track(tensor: Tensor): void {
  scopes[scopes.length - 1]?.add(tensor);
}

/** Takes a tensor out of the care of whatever scope holds it. */
export function untrack(tensor: Tensor): void {
  for (const scope of scopes) scope.delete(tensor);
}
