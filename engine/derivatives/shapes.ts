/**
 * Gradients of ops that move, choose and add elements: linear in them.
 *
 * @module
 */
import type { Derivative, Op } from "../op.ts";
import { bySpans, whole } from "../ops/at.ts";
import { equal } from "../ops/compare.ts";
import { add, div, maximum, mul, sub } from "../ops/elementwise.ts";
import { gather } from "../ops/indexing.ts";
import { pad } from "../ops/pad.ts";
import { scatter } from "../ops/scatter.ts";
import { sameShape } from "../shape.ts";
import type { Rules } from "./rules.ts";

/** Elements that were chosen along an axis, by the places that the op saved. */
const chosen: Derivative<{ readonly axis?: number }> = {
  adjoint: ([x], { saved: [places] }, { axis = -1 }) => [gather(x, places, axis)],
};

const scattered: Derivative = {
  adjoint: ([x, , values], { saved: [ids], op }, attrs) => op.apply([x, ids, values], attrs),
};

/** The mean of all that make the maximum at a place. */
const maxima: Derivative = {
  adjoint([x, , values], { saved: [ids, before, own, after] }) {
    const reduce = "add";
    const part = bySpans(x, before.shape.map(whole));
    const [ofX, ofValues] = [equal(before, after), equal(own, gather(after, ids))];
    const total = scatter(mul(part, ofX), ids, mul(values, ofValues), { reduce });
    const most = div(total, maximum(scatter(ofX, ids, ofValues, { reduce }), 1));
    if (sameShape(part.shape, x.shape)) return [most];
    const widths = x.shape.map((size, i): [number, number] => [0, size - part.shape[i]]);
    return [add(x, pad(sub(most, part), widths))];
  },
};

/** Zeros around, or the same mirrored. */
const padded: Derivative<{ readonly fill: unknown }> = {
  adjoint: ([x], { op }, attrs) =>
    (op as Op<unknown>).apply([x], typeof attrs.fill === "number" ? { ...attrs, fill: 0 } : attrs),
};

/** The rules. */
export const SHAPES: Rules = {
  // Views.
  ...{ reshape: "linear", permute: "linear", contiguous: "linear", slice: "linear" },
  ...{ expand: "linear", split: "linear", at: "linear", diagonal: "linear", frames: "linear" },
  // Copies.
  ...{ concat: "linear", stack: "linear", repeat: "linear", diagEmbed: "linear" },
  ...{ tril: "linear", triu: "linear", dropout: "linear", rotary: "linear", pad: padded },
  // By index.
  ...{ embedding: "linear", gather: "linear", batchedIndexSelect: "linear" },
  ...{ topk: chosen, cummax: chosen, cummin: chosen, maxPool: chosen },
  scatter: { choose: ({ fold }: { fold: string }) => fold === "max" ? maxima : scattered },
  // Sums.
  ...{ sum: "linear", mean: "linear", cumsum: "linear", scatterAdd: "linear" },
  ...{ overlapAdd: "linear", banded: "linear", fft: "linear", rfft: "linear", irfft: "linear" },
  nllLoss: "linear",
};
