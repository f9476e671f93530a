/**
 * Writing by index along an axis: the counterpart of `gather` in indexing.ts.
 *
 * @module
 */
import { kindOf, needFitting, needOptions, needTensors } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { denseCopy, materialize, partOf, writePart } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { rowsAndWidth } from "../launch/rows.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom, refZeros } from "../reference.ts";
import { composite } from "../scope.ts";
import { denseStrides, normalizeAxis, sameShape, type Shape, show } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { bySpans, whole } from "./at.ts";
import { type Fold, foldRows, moved, spreadPicks } from "./indexing.ts";
import { needIds, pickRows } from "./picks.ts";
import { permute } from "./view.ts";

interface ScatterAttrs {
  readonly fold: Fold;
}

/** The shape of what indices [..., m] reach of `x` [..., n]: its first rows along each axis. */
const reached = (x: Shape, ids: Shape): number[] => [...ids.slice(0, -1), x[x.length - 1]];

const origin = (shape: Shape): number[] => shape.map(() => 0);

/** `whole` with its part from the origin replaced. */
function replaced(whole: Tensor, part: Tensor): Tensor {
  if (sameShape(whole.shape, part.shape)) return part;
  const result = denseCopy(whole);
  writePart(result, origin(part.shape), part);
  return result;
}

/** The part from the origin, dense. */
const firstOf = (whole: Tensor, shape: Shape): Tensor =>
  sameShape(whole.shape, shape) ? whole : materialize(partOf(whole, origin(shape), shape));

/** A tensor of `shape` by one launch. */
function mapped(shape: Shape, like: Tensor, inputs: readonly Tensor[], wgsl: string): Tensor {
  const y = like.device.empty(shape, like.dtype);
  elementwise(y, inputs, { expression: wgsl });
  return y;
}

const folded = (x: Tensor, ids: Tensor, values: Tensor, fold: Fold): Tensor => {
  const { rows: batch, width: rows } = rowsAndWidth(x.shape);
  return foldRows(values, ids, { batch, rows, width: 1 }, fold, x).view(x.shape);
};

/** Gradients where the last value of each place stays. */
function setBackward(dy: Tensor, ids: Tensor): [Tensor, Tensor] {
  const { device } = dy;
  const width = ids.shape[ids.shape.length - 1];
  const line = device.tensor(Uint32Array.from({ length: width }, (_, i) => i + 1));
  const places = device.empty(ids.shape, "u32");
  elementwise(places, [line], { expression: "a" });
  // From which place, counted from 1, each element of the result is; 0 for those that stayed.
  const winners = folded(device.zeros(dy.shape, "u32"), ids, places, "set");
  const [stays, wins] = [device.empty(dy.shape), device.empty(ids.shape)];
  elementwise(stays, [winners], { expression: "select(TV(0), TV(1), a == T(0))" });
  elementwise(wins, [pickRows(winners, ids), places], {
    expression: "select(TV(0), TV(1), a == b)",
  });
  const masked = "select(T(0), a, b != T(0))";
  return [
    mapped(dy.shape, dy, [dy, stays], masked),
    mapped(ids.shape, dy, [pickRows(dy, ids), wins], masked),
  ];
}

/** Gradients of a maximum, shared by all that reach it. */
function maxBackward(
  dy: Tensor,
  ids: Tensor,
  x: Tensor,
  values: Tensor,
  y: Tensor,
): [Tensor, Tensor] {
  const reaches = "select(T(0), T(1), (a == b) | (is_nan_$V(a) & is_nan_$V(b)))";
  const fromX = mapped(x.shape, x, [x, y], reaches);
  const fromValues = mapped(ids.shape, x, [values, pickRows(y, ids)], reaches);
  const share = mapped(
    x.shape,
    x,
    [dy, fromX, spreadPicks(fromValues, ids, x.shape)],
    "a / (b + c)",
  );
  return [
    mapped(x.shape, x, [share, fromX], "select(T(0), a, b != T(0))"),
    mapped(ids.shape, x, [pickRows(share, ids), fromValues], "select(T(0), a, b != T(0))"),
  ];
}

/** Visits every index: (place among them, element of x that it names). */
function refVisit(x: Shape, ids: RefArray, visit: (place: number, at: number) => void): void {
  const steps = denseStrides(ids.shape);
  const strides = denseStrides(x);
  const last = x.length - 1;
  ids.data.forEach((id, place) => {
    let at = id;
    for (let axis = 0; axis < last; axis++) {
      at += Math.floor(place / steps[axis]) % ids.shape[axis] * strides[axis];
    }
    visit(place, at);
  });
}

const scatterOp = /* @__PURE__ */ defineOp<ScatterAttrs>({
  name: "scatter",
  dtypes: "any",
  half: true,
  forward([x, ids, values], { fold }, save) {
    x.device.anomalies?.checkIndices("scatter", ids, x.shape[x.shape.length - 1]);
    save(ids);
    const before = firstOf(x, reached(x.shape, ids.shape));
    const after = folded(before, ids, values, fold);
    if (fold === "max") [before, values, after].forEach(save);
    return [replaced(x, after)];
  },
  backward({ grads: [dy], saved: [ids, x, values, y], shapes: [shape] }, { fold }) {
    const part = firstOf(dy!, reached(shape, ids.shape));
    const [dx, dvalues] = fold === "add"
      ? [part, pickRows(part, ids)]
      : fold === "set"
      ? setBackward(part, ids)
      : maxBackward(part, ids, x, values, y);
    return [replaced(dy!, dx), undefined, dvalues];
  },
  reference: {
    forward([x, ids, values], { fold }) {
      const y = x.data.slice();
      refVisit(x.shape, ids, (place, at) => {
        const value = values.data[place];
        y[at] = fold === "add" ? y[at] + value : fold === "set" ? value : Math.max(y[at], value);
      });
      return [{ shape: x.shape, data: y }];
    },
    backward(inputs, attrs, [dy]) {
      const [x, ids, values] = inputs;
      const [{ data: y }] = scatterOp.reference.forward(inputs, attrs);
      const dvalues = refZeros(ids.shape);
      if (attrs.fold === "add") {
        refVisit(x.shape, ids, (place, at) => dvalues.data[place] = dy.data[at]);
        return [dy, undefined, dvalues];
      }
      if (attrs.fold === "set") {
        const winners = new Map<number, number>();
        refVisit(x.shape, ids, (place, at) => winners.set(at, place));
        winners.forEach((place, at) => dvalues.data[place] = dy.data[at]);
        return [refFrom(x.shape, (at) => winners.has(at) ? 0 : dy.data[at]), undefined, dvalues];
      }
      const reaches = (a: number, at: number) => Object.is(a, y[at]) || a === y[at];
      const count = Float64Array.from(x.data, (a, at) => +reaches(a, at));
      refVisit(x.shape, ids, (place, at) => count[at] += +reaches(values.data[place], at));
      refVisit(x.shape, ids, (place, at) => {
        if (reaches(values.data[place], at)) dvalues.data[place] = dy.data[at] / count[at];
      });
      const dx = refFrom(x.shape, (at) => reaches(x.data[at], at) ? dy.data[at] / count[at] : 0);
      return [dx, undefined, dvalues];
    },
  },
});

/** Options of {@link scatter}. */
export interface ScatterOptions {
  /** Axis along which indices count; default the last one. */
  readonly axis?: number;
  /**
   * What becomes of an element and the values for it: `set`, the default, takes the last value in
   * order of position, `add` the sum of all, `max` the largest, NaN where one is.
   */
  readonly reduce?: Fold;
}

/**
 * A copy of `x` with values written by index: for the last axis `y[..., ids[..., j]] = values[...,
 * j]` (torch's `scatter`, `scatter_add` and `scatter_reduce` with `amax`). In order of position and
 * without atomics: the same bits every time. Gradients flow to what stayed and to the values that
 * it was made of; those that share a maximum share its gradient evenly.
 *
 * @param ids u32, of as many axes as `x` and beside the axis no larger; each below the size of the
 * axis. Values of a larger one are written nowhere; their gradient is NaN where they would be
 * added, else 0; anomaly mode reports them
 * @param values at least of the shape of `ids`, whose part it is that is read, or one number
 * @throws {ShapeError} if shapes do not fit, `ids` is not u32, or element types differ.
 */
export function scatter(
  x: Tensor,
  ids: Tensor,
  values: Tensor | number,
  options: ScatterOptions = {},
): Tensor {
  needTensors("scatter", { x, ids });
  needIds("scatter", ids);
  needOptions("scatter", options, ["axis", "reduce"]);
  const { axis = -1, reduce = "set" } = options;
  if (reduce !== "set" && reduce !== "add" && reduce !== "max") {
    throw new ShapeError(`scatter: reduce is ${kindOf(reduce)}; set, add and max are known`);
  }
  const rank = x.shape.length;
  const index = normalizeAxis("scatter", axis, rank);
  const holds = (shape: Shape, beside: number) =>
    shape.length === ids.shape.length &&
    shape.every((size, i) => i === beside || size >= ids.shape[i]);
  if (!holds(x.shape, index)) {
    throw new ShapeError(
      `scatter: indices ${show(ids.shape)} do not fit ${show(x.shape)} beside axis ${axis}`,
    );
  }
  if (values instanceof Tensor) {
    if (!holds(values.shape, -1) || values.dtype !== x.dtype) {
      throw new ShapeError(
        `scatter: values ${show(values.shape)} of ${values.dtype} for indices ${
          show(ids.shape)
        } into ${show(x.shape)} of ${x.dtype}`,
      );
    }
  } else needFitting("scatter", values, x.dtype);
  return composite(() => {
    const given = values instanceof Tensor ? values : x.device.full(ids.shape, values, x.dtype);
    const used = sameShape(given.shape, ids.shape) ? given : bySpans(given, ids.shape.map(whole));
    if (index === rank - 1) return scatterOp.apply([x, ids, used], { fold: reduce })[0];
    const order = moved(rank, index, rank - 1);
    const inputs = [x, ids, used].map((it) => permute(it, order));
    const [y] = scatterOp.apply(inputs, { fold: reduce });
    return permute(y, moved(rank, rank - 1, index));
  });
}
