/**
 * Places of values in sorted tensors.
 *
 * @module
 */
import { kindOf, needOptions, needTogether } from "../arguments.ts";
import source from "../../kernels/searchsorted.wgsl" with { type: "text" };
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { fill } from "../launch/copy.ts";
import { rowChunks, rowsOf } from "../launch/elementwise.ts";
import { rowsAndWidth } from "../launch/rows.ts";
import { defineOp } from "../op.ts";
import { refFrom, refRows } from "../reference.ts";
import { sameShape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";

const kernel = /* @__PURE__ */ defineKernel("searchsorted", source, { rounds: () => 33 });
const WORKGROUP = 64;

interface SearchAttrs {
  readonly right: boolean;
}

const searchOp = /* @__PURE__ */ defineOp<SearchAttrs>({
  name: "searchsorted",
  dtypes: "same",
  half: true,
  forward([sorted, values], { right }) {
    const { device, dtype } = sorted;
    const places = device.empty(values.shape, "u32");
    const { width } = rowsAndWidth(sorted.shape);
    const shared = sorted.shape.length === 1;
    if (width === 0) fill(places, 0);
    if (width === 0 || values.size === 0) return [places];
    const each = shared ? 1 : rowsAndWidth(values.shape).width;
    const rows = values.size / each;
    const widths = shared ? [each] : [width, each];
    for (const [first, count] of rowChunks(device, rows, widths)) {
      device.run(
        kernel,
        {
          WG: WORKGROUP,
          E: dtype,
          FLOAT: isFloat(dtype),
          SIGNED: dtype === "i32",
          RIGHT: right,
        },
        [
          shared ? sorted : rowsOf(sorted, first, count, width),
          rowsOf(values, first, count, each),
          rowsOf(places, first, count, each),
        ],
        { count: count * each, width, each: shared ? count : each },
        Math.ceil(count * each / WORKGROUP),
      );
    }
    return [places];
  },
  reference: {
    forward([sorted, values], { right }) {
      const { width } = rowsAndWidth(values.shape);
      const rows = refRows(sorted);
      const before = (a: number, b: number) =>
        Number.isNaN(b) ? right || !Number.isNaN(a) : right ? a <= b : a < b;
      return [
        refFrom(values.shape, (i) => {
          const row = rows[sorted.shape.length === 1 ? 0 : Math.floor(i / width)];
          return row.reduce((count, it) => count + +before(it, values.data[i]), 0);
        }),
      ];
    },
  },
});

/** Options of {@link searchsorted}. */
export interface SearchOptions {
  /** Whether elements that are equal to a value come before it; default false. */
  readonly right?: boolean;
}

/**
 * Where values would be put into sorted rows, as torch's and NumPy's `searchsorted`: how many
 * elements are less than a value or, with `right`, not greater. NaN is above all.
 *
 * @param sorted [n], or rows [..., n], each in ascending order
 * @param values of any shape for one row, or [..., m], of the type of `sorted`
 * @returns u32 of the shape of `values`, 0 to n
 * @throws {ShapeError} if types differ, or rows of values do not fit those of `sorted`.
 */
export function searchsorted(
  sorted: Tensor,
  values: Tensor,
  options: SearchOptions = {},
): Tensor {
  needTogether("searchsorted", { sorted, values });
  needOptions("searchsorted", options, ["right"]);
  const rank = sorted.shape.length;
  const fits = rank === 1 || rank > 1 && values.shape.length === rank &&
      sameShape(sorted.shape.slice(0, -1), values.shape.slice(0, -1));
  if (!fits || sorted.dtype !== values.dtype) {
    throw new ShapeError(
      `searchsorted: values ${show(values.shape)} of ${values.dtype} in ${kindOf(sorted)}: ` +
        "one type and [n] with any values, or [..., n] with [..., m], are needed",
    );
  }
  return searchOp.apply([sorted, values], { right: options.right ?? false })[0];
}
