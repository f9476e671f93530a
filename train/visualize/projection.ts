/**
 * Many values in few dimensions: principal components and UMAP.
 *
 * @module
 */
import { PCA } from "../deps/pca.ts";
import { UMAP } from "../deps/umap.ts";
import { refuseInterrupted } from "../io/interruption.ts";
import { Prng } from "../../engine/prng.ts";

/** Points along their principal components. */
export interface Components {
  /** A list of coordinates for each point. */
  readonly points: readonly (readonly number[])[];
  /** Share of the variance that each component has. */
  readonly shares: readonly number[];
}

/**
 * Coordinates along the components of largest variance. Each component's sign is such that its
 * largest coordinate (by size) is positive, so that pictures repeat.
 *
 * @param rows points of equally many values
 * @param count components; fewer where there are fewer points or values
 */
export function principalComponents(rows: readonly ArrayLike<number>[], count: number): Components {
  const most = Math.min(count, rows.length - 1, rows[0]?.length ?? 0);
  if (most < 1) return { points: rows.map(() => []), shares: [] };
  const values = rows.map((row) => Array.from(row));
  // Without any spread, or with less than there are components, none can be found.
  if (rows.every((row) => values[0].every((it, k) => it === row[k]))) {
    return { points: rows.map(() => new Array(most).fill(0)), shares: new Array(most).fill(0) };
  }
  const pca = new PCA(values, { method: "NIPALS", nCompNIPALS: most });
  const scores = pca.predict(values, { nComponents: most }).to2DArray()
    .map((row) => row.map((it) => Number.isFinite(it) ? it : 0));
  const total = scatter(values);
  const columns = Array.from({ length: most }, (_, i) => scores.map((row) => row[i]));
  const signs = columns.map((column) =>
    Math.sign(column.reduce((a, b) => Math.abs(b) > Math.abs(a) ? b : a, 0)) || 1
  );
  return {
    points: scores.map((row) => row.map((it, i) => it * signs[i])),
    shares: columns.map((column) => total > 0 ? column.reduce((a, b) => a + b * b, 0) / total : 0),
  };
}

/** Sum of the squared distances from the mean. */
function scatter(rows: readonly (readonly number[])[]): number {
  const means = rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
  return rows.reduce((sum, row) => row.reduce((a, it, i) => a + (it - means[i]) ** 2, sum), 0);
}

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
