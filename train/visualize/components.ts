/**
 * Principal components.
 *
 * @module
 */

/** Points along their principal components. */
export interface Components {
  /** A list of coordinates for each point. */
  readonly points: readonly (readonly number[])[];
  /** Share of the variance that each component has. */
  readonly shares: readonly number[];
}

/** A direction is found when none of its values moves by more, or after so many rounds. */
const [SETTLED, MOST_ROUNDS] = [1e-10, 1000];

/**
 * Coordinates along the components of largest variance, each found by NIPALS: power iteration, then
 * the component is taken away. Each component's sign is such that its largest coordinate (by size)
 * is positive, so that pictures repeat.
 *
 * @param rows points of equally many values
 * @param count components; fewer where there are fewer points or values
 */
export function principalComponents(rows: readonly ArrayLike<number>[], count: number): Components {
  const [n, size] = [rows.length, rows[0]?.length ?? 0];
  const most = Math.max(0, Math.min(count, n - 1, size));
  const points = rows.map((): number[] => []);
  const shares: number[] = [];
  const mean = new Float64Array(size);
  for (const row of rows) for (let k = 0; k < size; k++) mean[k] += row[k] / n;
  const rest = rows.map((row) => Float64Array.from(row, (it, k) => it - mean[k]));
  const scatter = rest.reduce((sum, row) => sum + powerOf(row), 0);
  // Rounding of the mean leaves a little of points that are equal.
  const least = powerOf(mean) * n * (4 * Number.EPSILON) ** 2;
  for (let c = 0; c < most; c++) {
    const { scores, direction } = componentOf(rest, size);
    const power = powerOf(scores);
    const isThere = power > least;
    const largest = scores.reduce((a, b) => Math.abs(b) > Math.abs(a) ? b : a, 0);
    points.forEach((it, i) => it.push(isThere ? scores[i] * (Math.sign(largest) || 1) : 0));
    shares.push(isThere ? power / scatter : 0);
    rest.forEach((row, i) => {
      for (let k = 0; k < size; k++) row[k] -= scores[i] * direction[k];
    });
  }
  return { points, shares };
}

/** The direction of most power, of length 1 (or 0 without any), and the rows' places along it. */
function componentOf(
  rows: readonly Float64Array[],
  size: number,
): { readonly scores: Float64Array; readonly direction: Float64Array } {
  const scores = new Float64Array(rows.length);
  // The longest row is not at right angles to all.
  let direction = unit(rows.reduce((a, b) => powerOf(b) > powerOf(a) ? b : a));
  for (let round = 0;; round++) {
    const next = new Float64Array(size);
    rows.forEach((row, i) => {
      let score = 0;
      for (let k = 0; k < size; k++) score += row[k] * direction[k];
      scores[i] = score;
      for (let k = 0; k < size; k++) next[k] += score * row[k];
    });
    const turned = unit(next);
    const settled = turned.every((it, k) => Math.abs(it - direction[k]) < SETTLED);
    if (settled || round === MOST_ROUNDS) return { scores, direction };
    direction = turned;
  }
}

const powerOf = (row: Float64Array): number => row.reduce((sum, it) => sum + it * it, 0);

function unit(row: Float64Array): Float64Array {
  const length = Math.sqrt(powerOf(row)) || 1;
  return row.map((it) => it / length);
}
