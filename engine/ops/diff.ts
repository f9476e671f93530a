/**
 * Differences of neighbours.
 *
 * @module
 */
import { needOptions, needTensors, needWhole } from "../arguments.ts";
import { composite } from "../scope.ts";
import { normalizeAxis } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { sub } from "./elementwise.ts";
import { slice } from "./view.ts";

/** Options of {@link diff}. */
export interface DiffOptions {
  /** Axis along which neighbours are, negative from the end; default the last. */
  readonly axis?: number;
  /** How often differences are taken, the next ones of those before; default 1. */
  readonly n?: number;
}

/**
 * Differences of neighbours along an axis: `y_k = x_(k + 1) - x_k`, of any type.
 *
 * @returns the shape of `x` with `n` elements fewer along the axis
 * @throws {ShapeError} if the axis does not exist or has fewer than `n` elements.
 */
export function diff(x: Tensor, options: DiffOptions = {}): Tensor {
  needTensors("diff", { x });
  needOptions("diff", options, ["axis", "n"]);
  const { axis = -1, n = 1 } = options;
  const index = normalizeAxis("diff", axis, x.shape.length);
  needWhole("diff", `n along ${x.shape[index]} elements`, n, 0, x.shape[index]);
  return composite(() => {
    let y = slice(x, index, 0, x.shape[index]);
    for (let left = x.shape[index] - 1; left >= x.shape[index] - n; left--) {
      y = sub(slice(y, index, 1, left), slice(y, index, 0, left));
    }
    return y;
  });
}
