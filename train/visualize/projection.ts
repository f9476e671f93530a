/**
 * UMAP: many values in two dimensions.
 *
 * @module
 */
import { UMAP } from "../deps/umap.ts";
import { refuseInterrupted } from "../io/interruption.ts";
import { Prng } from "../../engine/prng.ts";

/** Neighbours that UMAP keeps together, as its authors' default. */
const NEIGHBOURS = 15;
/** Fewest points that have a neighbourhood. */
export const FEWEST_FOR_UMAP = 5;

/**
 * UMAP to two dimensions: who is near to whom is kept, distances are not.
 *
 * @param rows at least {@link FEWEST_FOR_UMAP} points
 * @param seed same seed, same picture
 * @param onEpoch hears how many epochs are done, of how many
 * @throws {InterruptedError} after a signal
 */
export function umap(
  rows: readonly ArrayLike<number>[],
  seed: number,
  onEpoch?: (done: number, total: number) => void,
): [number, number][] {
  const steps = umapSteps(rows, seed);
  for (let it = steps.next();; it = steps.next()) {
    if (it.done) return it.value;
    onEpoch?.(...it.value);
  }
}

/** As {@link umap}, an epoch at a time: gives how many are done, of how many; points at last. */
export function* umapSteps(
  rows: readonly ArrayLike<number>[],
  seed: number,
): Generator<readonly [done: number, total: number], [number, number][]> {
  const random = new Prng(seed);
  const layout = new UMAP({
    nComponents: 2,
    nNeighbors: Math.min(NEIGHBOURS, rows.length - 1),
    random: () => {
      // All of its long work asks for random numbers.
      refuseInterrupted();
      return random.uniform();
    },
  });
  const epochs = layout.initializeFit(rows.map((row) => Array.from(row)));
  for (let done = 1; done <= epochs; done++) {
    layout.step();
    yield [done, epochs];
  }
  const found = layout.getEmbedding();
  // Equal points have no neighbourhood.
  return found.map(([x, y]) => Number.isFinite(x + y) ? [x, y] : [0, 0]);
}
