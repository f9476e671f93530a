/**
 * What long_rows.ts is for softmax and layer norm, for L2 norms and cosines.
 *
 * @module
 */
import type { Tensor } from "../tensor.ts";
import { elementwise, extremum } from "../launch/elementwise.ts";
import { column, dots, mapped, update } from "./long_rows.ts";
import { reduceRows } from "./reduce.ts";

/** Lengths of rows. */
function lengths(x: Tensor): Tensor {
  const norms = reduceRows(x, "sumOfSquares");
  update(norms, [], "sqrt(o)");
  return norms;
}

/** NaN stays. */
const atLeastEps = (length: string) => extremum("max", length, "T(params.alpha)");

/** `y = x / max(|x|, eps)`, and |x| into `norms` [rows]. */
export function longNormalize(y: Tensor, norms: Tensor, x: Tensor, eps: number): void {
  using length = lengths(x);
  elementwise(norms, [length.view(norms.shape)], { expression: "a" });
  elementwise(y, [x, length], { expression: `a / ${atLeastEps("b")}`, alpha: eps });
}

/** Gradient of {@link longNormalize} from its results. */
export function longNormalizeGradient(
  dx: Tensor,
  y: Tensor,
  norms: Tensor,
  dy: Tensor,
  eps: number,
): void {
  using radial = dots(y, dy);
  const length = norms.view(radial.shape);
  update(radial, [length], "select(o, T(0.0), a < T(params.alpha))", eps);
  elementwise(dx, [dy, y, radial], { expression: "a - b * c" });
  update(dx, [length], `o / ${atLeastEps("a")}`, eps);
}

/** `2 - 2 cos(a, b)` per row, and (|a|, |b|, a.b) into `stats` [rows, 4]. */
export function longCosine(loss: Tensor, stats: Tensor, a: Tensor, b: Tensor, eps: number): void {
  const columns = [lengths(a), lengths(b), dots(a, b)];
  columns.forEach((it, i) => elementwise(column(stats, i, a), [it], { expression: "a" }));
  elementwise(loss, columns.map((it) => it.view(loss.shape)), {
    expression: `2.0 - 2.0 * (c / ${atLeastEps("a")} / ${atLeastEps("b")})`,
    alpha: eps,
  });
  columns.forEach((it) => it.dispose());
}

/** Gradients of {@link longCosine}: of a and of b, where there are tensors for them. */
export function longCosineGradients(
  [da, db]: readonly (Tensor | undefined)[],
  [a, b]: readonly [Tensor, Tensor],
  stats: Tensor,
  dloss: Tensor,
  eps: number,
): void {
  const [na, nb, ab] = [0, 1, 2].map((i) => column(stats, i, a));
  using cross = na.device.empty(na.shape);
  elementwise(cross, [dloss.view(na.shape), na, nb], {
    expression: `-2.0 * a / ${atLeastEps("b")} / ${atLeastEps("c")}`,
    alpha: eps,
  });
  for (const [result, self, other, length] of [[da, a, b, na], [db, b, a, nb]] as const) {
    if (!result) continue;
    // Where eps stood in for the length, the gradient along the row itself is 0.
    const expression = "select(a * b / c / c, T(0.0), c < T(params.alpha))";
    using pull = mapped(cross, [cross, ab, length], expression, eps);
    elementwise(result, [other, cross], { expression: "a * b" });
    update(result, [self, pull], "o - a * b");
  }
}
