/**
 * Curves of many rows as few points: of each column of pixels the smallest and the largest value,
 * in the order in which they come. The server and saved pages draw with it.
 *
 * @module
 */

/** A curve: values over steps or seconds, which only grow. NaN where there is no value. */
export interface Curve {
  /** Where. */
  readonly x: ArrayLike<number>;
  /** What. */
  readonly y: ArrayLike<number>;
}

/** What of curves is seen. */
export interface View {
  /** First place; default the first of all curves. */
  readonly from?: number;
  /** Last place; default the last. */
  readonly to?: number;
  /** Columns of pixels. */
  readonly columns: number;
  /** Whether columns are equal on a logarithmic axis of x; places up to 0 are not on it. */
  readonly log?: boolean;
  /** Rows that are averaged; up to 1 none. */
  readonly smooth?: number;
}

/** Curves over the same places. */
export interface Series {
  /** Places. */
  readonly x: Float64Array;
  /** Of each curve, a value for each place, NaN where it has none there. */
  readonly y: readonly Float32Array[];
}

/**
 * Exponential moving average over about `rows` rows, without the pull of its start. Rows without a
 * value stay so and do not count.
 */
export function smoothed(y: ArrayLike<number>, rows: number): Float32Array {
  const keep = 1 - 2 / (Math.max(1, rows) + 1);
  const out = new Float32Array(y.length);
  let [sum, weight] = [0, 0];
  for (let i = 0; i < y.length; i++) {
    const value = y[i];
    if (!Number.isFinite(value)) {
      out[i] = NaN;
      continue;
    }
    sum = keep * sum + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    out[i] = sum / weight;
  }
  return out;
}

/** The first place in ascending values that is at least `value`. */
function lowerBound(x: ArrayLike<number>, value: number): number {
  let [low, high] = [0, x.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Rows of a curve that are seen, and one more to both sides, so that lines reach the edges. */
function seen({ x }: Curve, from: number, to: number): [first: number, end: number] {
  let end = lowerBound(x, to);
  while (end < x.length && x[end] === to) end++;
  return [Math.max(0, lowerBound(x, from) - 1), Math.min(x.length, end + 1)];
}

/** Points of curves for a view. */
export function seriesOf(curves: readonly Curve[], view: View): Series {
  const { columns, log = false, smooth = 1 } = view;
  const filled = curves.filter(({ x }) => x.length > 0);
  const firstOf = ({ x }: Curve) => log ? x[Math.min(x.length - 1, lowerBound(x, 1e-9))] : x[0];
  const from = view.from ?? filled.reduce((least, it) => Math.min(least, firstOf(it)), Infinity);
  const to = view.to ?? filled.reduce((most, { x }) => Math.max(most, x[x.length - 1]), -Infinity);
  const drawn = curves.map(({ x, y }): Curve => ({
    x,
    y: smooth > 1 ? smoothed(y, smooth) : y,
  }));
  if (!(from <= to)) return { x: new Float64Array(0), y: curves.map(() => new Float32Array(0)) };
  const ranges = drawn.map((it) => seen(it, from, to));
  return exact(drawn, ranges, 4 * columns) ?? reduced(drawn, ranges, { from, to, columns, log });
}

/** All points, where there are no more than `most` places. */
function exact(
  curves: readonly Curve[],
  ranges: readonly (readonly [number, number])[],
  most: number,
): Series | undefined {
  const places = new Set<number>();
  for (const [k, { x, y }] of curves.entries()) {
    for (let i = ranges[k][0]; i < ranges[k][1]; i++) {
      if (Number.isFinite(y[i])) places.add(x[i]);
      if (places.size > most) return undefined;
    }
  }
  const x = Float64Array.from(places).sort();
  const at = new Map(Array.from(x, (it, i) => [it, i]));
  const y = curves.map((curve, k) => {
    const values = new Float32Array(x.length).fill(NaN);
    for (let i = ranges[k][0]; i < ranges[k][1]; i++) {
      if (Number.isFinite(curve.y[i])) values[at.get(curve.x[i])!] = curve.y[i];
    }
    return values;
  });
  return { x, y };
}

/** Two places in each column of pixels: the smaller or larger value, whichever comes first. */
function reduced(
  curves: readonly Curve[],
  ranges: readonly (readonly [number, number])[],
  { from, to, columns, log }: Required<Pick<View, "from" | "to" | "columns" | "log">>,
): Series {
  const scale = log ? Math.log : (it: number) => it;
  const back = log ? Math.exp : (it: number) => it;
  const [low, high] = [scale(from), scale(to)];
  const width = (high - low) / columns || 1;
  const x = Float64Array.from(
    { length: 2 * columns },
    (_, i) => back(low + (i + 0.5) * width / 2),
  );
  const y = curves.map((curve, k) => {
    const values = new Float32Array(2 * columns).fill(NaN);
    let column = -1;
    let [least, most, leastAt, mostAt] = [Infinity, -Infinity, 0, 0];
    const close = (): void => {
      if (column < 0 || least > most) return;
      const ordered = leastAt <= mostAt ? [least, most] : [most, least];
      values[2 * column] = ordered[0];
      if (leastAt !== mostAt) values[2 * column + 1] = ordered[1];
    };
    for (let i = ranges[k][0]; i < ranges[k][1]; i++) {
      const value = curve.y[i];
      if (!Number.isFinite(value) || log && curve.x[i] <= 0) continue;
      const place = Math.floor((scale(curve.x[i]) - low) / width);
      const here = Math.max(0, Math.min(columns - 1, place));
      if (here !== column) {
        close();
        column = here;
        [least, most] = [Infinity, -Infinity];
      }
      if (value < least) [least, leastAt] = [value, i];
      if (value > most) [most, mostAt] = [value, i];
    }
    close();
    return values;
  });
  return { x, y };
}
