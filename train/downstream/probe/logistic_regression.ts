/**
 * Multinomial logistic regression to its optimum, from inner products of clips alone: with an L2
 * penalty the weights are a sum over the clips that are learned from, W = Aᵀ X, so that a step
 * costs as much as there are pairs of clips, however many values each has.
 *
 * The minimum of Σ cross-entropy + penalty / 2 · ‖W‖² (biases are free; scikit-learn's
 * `LogisticRegression` with C = 1 / penalty) is unique but for a constant in the biases, so nothing
 * here is drawn. L-BFGS (Nocedal and Wright 2006, algorithm 7.4) works on (A, biases) in the inner
 * product of (W, biases).
 *
 * @module
 */

/** A fitted classifier. */
export interface LogisticFit {
  /** [clips, classes]: weights are the sum over clips of coefficient times features. */
  readonly coefficients: Float64Array;
  /** [classes]. */
  readonly bias: Float64Array;
  /** Steps taken. */
  readonly iterations: number;
  /** Length of the gradient by weights and biases where it ended. */
  readonly gradient: number;
}

/** A point or direction. */
interface Vector {
  /** [clips, classes]. */
  readonly a: Float64Array;
  /** [clips, classes] inner products of the clips times {@link a}: logits without biases. */
  readonly logits: Float64Array;
  /** [classes]. */
  readonly bias: Float64Array;
}

/** Pairs of steps that L-BFGS remembers. */
const MEMORY = 10;
const MOST_ITERATIONS = 500;
/** Length of the gradient, per root of a clip, that counts as the minimum. */
const TOLERANCE = 1e-5;

const dot = (x: Float64Array, y: Float64Array): number => {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] * y[i];
  return sum;
};
const inner = (u: Vector, v: Vector): number => dot(u.a, v.logits) + dot(u.bias, v.bias);
const combined = (u: Vector, v: Vector, share: number): Vector => {
  const sum = (x: Float64Array, y: Float64Array) => x.map((it, i) => it + share * y[i]);
  return { a: sum(u.a, v.a), logits: sum(u.logits, v.logits), bias: sum(u.bias, v.bias) };
};

/** Logits [rows, classes] of clips by their products [rows, clips] with those learned from. */
export function logitsFrom(
  products: ArrayLike<number>,
  { coefficients, bias }: Pick<LogisticFit, "coefficients" | "bias">,
): Float64Array {
  const classes = bias.length;
  const clips = coefficients.length / classes;
  const rows = products.length / clips;
  const logits = new Float64Array(rows * classes);
  for (let row = 0; row < rows; row++) {
    const into = logits.subarray(row * classes, (row + 1) * classes);
    into.set(bias);
    for (let j = 0; j < clips; j++) {
      const product = products[row * clips + j];
      for (let k = 0; k < classes; k++) into[k] += product * coefficients[j * classes + k];
    }
  }
  return logits;
}

/**
 * Fits.
 *
 * @param products [clips, clips] inner products of the clips' features
 * @param labels class of each clip
 * @param classes how many there are; those without a clip get nothing but a low bias
 * @param penalty of the squared weights; scikit-learn's 1 / C
 * @throws {RangeError} if sizes do not fit or nothing is to be learned from.
 */
export function fitLogistic(
  products: ArrayLike<number>,
  labels: readonly number[],
  classes: number,
  penalty = 1,
): LogisticFit {
  const clips = labels.length;
  if (clips === 0 || products.length !== clips * clips || !(penalty > 0)) {
    throw new RangeError(
      `logistic regression of ${clips} clips, ${products.length} products, penalty ${penalty}`,
    );
  }
  const zero = new Float64Array(classes);
  const vector = (a: Float64Array, bias: Float64Array): Vector => ({
    ...{ a, bias },
    logits: logitsFrom(products, { coefficients: a, bias: zero }),
  });
  /** Probabilities minus targets at `x` + t `d`. */
  const misses = (x: Vector, d?: Vector, t = 0): Float64Array => {
    const all = new Float64Array(clips * classes);
    for (let i = 0; i < clips; i++) {
      const row = all.subarray(i * classes, (i + 1) * classes);
      for (let k = 0; k < classes; k++) {
        row[k] = x.logits[i * classes + k] + x.bias[k];
        if (d) row[k] += t * (d.logits[i * classes + k] + d.bias[k]);
      }
      const most = row.reduce((a, b) => Math.max(a, b));
      let total = 0;
      for (let k = 0; k < classes; k++) total += row[k] = Math.exp(row[k] - most);
      for (let k = 0; k < classes; k++) row[k] /= total;
      row[labels[i]] -= 1;
    }
    return all;
  };
  const gradientAt = (x: Vector): Vector => {
    const off = misses(x);
    const bias = new Float64Array(classes);
    off.forEach((it, at) => bias[at % classes] += it);
    return vector(off.map((it, at) => it + penalty * x.a[at]), bias);
  };
  let x = vector(new Float64Array(clips * classes), new Float64Array(classes));
  let g = gradientAt(x);
  const steps: { readonly s: Vector; readonly y: Vector; readonly rho: number }[] = [];
  let iterations = 0;
  const length = () => Math.sqrt(Math.max(0, inner(g, g)));
  while (length() > TOLERANCE * Math.sqrt(clips) && iterations < MOST_ITERATIONS) {
    iterations++;
    const d = direction(g, steps);
    /** Slope of the loss along `d`. */
    const slope = (t: number): number => {
      const off = misses(x, d, t);
      let sum = penalty * (dot(x.a, d.logits) + t * dot(d.a, d.logits));
      off.forEach((it, at) => sum += it * (d.logits[at] + d.bias[at % classes]));
      return sum;
    };
    const t = minimumAlong(slope, steps.length === 0 ? 1 / Math.max(1, length()) : 1);
    if (t === 0) break;
    const next = combined(x, d, t);
    const gradient = gradientAt(next);
    const [s, y] = [combined(next, x, -1), combined(gradient, g, -1)];
    const curvature = inner(s, y);
    if (curvature > 0) steps.push({ s, y, rho: 1 / curvature });
    if (steps.length > MEMORY) steps.shift();
    [x, g] = [next, gradient];
  }
  return { coefficients: x.a, bias: x.bias, iterations, gradient: length() };
}

/** The two loops of L-BFGS. */
function direction(
  g: Vector,
  steps: readonly { readonly s: Vector; readonly y: Vector; readonly rho: number }[],
): Vector {
  const back = steps.toReversed();
  let q = g;
  const shares = back.map(({ s, y, rho }) => {
    const share = rho * inner(s, q);
    q = combined(q, y, -share);
    return share;
  });
  const [newest] = back;
  const scale = newest ? 1 / newest.rho / inner(newest.y, newest.y) : 1;
  const scaled = (it: Float64Array) => it.map((x) => -scale * x);
  let r: Vector = { a: scaled(q.a), logits: scaled(q.logits), bias: scaled(q.bias) };
  steps.forEach(({ s, y, rho }, i) => {
    const share = shares[steps.length - 1 - i];
    r = combined(r, s, -share - rho * inner(y, r));
  });
  return r;
}

/**
 * Where a convex function is about lowest, from its slope: to a tenth of the slope at 0. 0 where it
 * does not fall.
 */
function minimumAlong(slope: (t: number) => number, first: number): number {
  const start = slope(0);
  if (!(start < 0)) return 0;
  let [low, high] = [0, Infinity];
  let t = first;
  for (let i = 0; i < 60; i++) {
    const here = slope(t);
    if (Math.abs(here) <= -0.1 * start) break;
    if (here < 0) low = t;
    else high = t;
    t = high === Infinity ? 2 * t : (low + high) / 2;
  }
  return t;
}
