/**
 * Sums of products in Einstein's notation; all of it made of views, sums and `matmul`.
 *
 * @module
 */
import { kindOf, needTensorList, needTensors, needWhole, needWholes } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { composite } from "../scope.ts";
import { normalizeAxis, sameShape, type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { squeeze } from "./axes.ts";
import { diagonal } from "./diagonal.ts";
import { mul } from "./elementwise.ts";
import { matmul } from "./matmul.ts";
import { sum } from "./reduce.ts";
import { permute, reshape } from "./view.ts";

/** A tensor whose axes have names, all of them different. */
interface Named {
  readonly tensor: Tensor;
  readonly labels: readonly string[];
}

/**
 * Labels of one term, with `...` as labels `.0`, `.1`, … counted from the last axis, so that those
 * of several operands meet as in broadcasting.
 *
 * @param rank axes in all; undefined for the result, which takes `dots` of them
 */
function labelsOf(
  term: string,
  rank: number | undefined,
  dots: number,
): { labels: string[]; dots: number } | undefined {
  const match = /^([A-Za-z]*)(\.\.\.)?([A-Za-z]*)$/.exec(term);
  if (!match) return undefined;
  const [, before, ellipsis, after] = match;
  const own = rank === undefined ? dots : rank - before.length - after.length;
  if (own < 0 || rank !== undefined && !ellipsis && own > 0) return undefined;
  const open = ellipsis ? Array.from({ length: own }, (_, i) => `.${own - 1 - i}`) : [];
  return { labels: [...before, ...open, ...after], dots: open.length };
}

/** Takes the diagonal of labels that stand twice. */
function withoutRepeats({ tensor, labels }: Named): Named {
  const second = labels.findIndex((label, i) => labels.indexOf(label) < i);
  if (second === -1) return { tensor, labels };
  const label = labels[second];
  const first = labels.indexOf(label);
  return withoutRepeats({
    tensor: diagonal(tensor, 0, first, second),
    labels: [...labels.filter((_, axis) => axis !== first && axis !== second), label],
  });
}

/** Sums over labels that nobody asks for. */
function withoutUnused({ tensor, labels }: Named, used: (label: string) => boolean): Named {
  const axes = [...labels.keys()].filter((axis) => !used(labels[axis]));
  if (axes.length === 0) return { tensor, labels };
  return { tensor: sum(tensor, { axes }), labels: labels.filter(used) };
}

/** The axes in the order of `labels`; those that the tensor does not have get size 1. */
function aligned({ tensor, labels: own }: Named, labels: readonly string[]): Tensor {
  const present = labels.filter((label) => own.includes(label));
  const ordered = permute(tensor, present.map((label) => own.indexOf(label)));
  if (present.length === labels.length) return ordered;
  const sizes = ordered.shape.values();
  return reshape(
    ordered,
    labels.map((label) => own.includes(label) ? sizes.next().value! : 1),
  );
}

/** A view with that shape stays one: `matmul` takes transposed ones as they are. */
const shaped = (x: Tensor, shape: Shape): Tensor =>
  sameShape(x.shape, shape) ? x : reshape(x, shape);

/** The product of two, summed over the labels that both have and `used` does not. */
function contracted(a: Named, b: Named, used: (label: string) => boolean): Named {
  const shared = a.labels.filter((label) => b.labels.includes(label));
  const summed = shared.filter((label) => !used(label));
  const batch = shared.filter(used);
  const [left, right] = [a, b].map((it) => it.labels.filter((label) => !shared.includes(label)));
  const labels = [...batch, ...left, ...right];
  if (summed.length === 0) {
    return { tensor: mul(aligned(a, labels), aligned(b, labels)), labels };
  }
  const size = ({ tensor, labels }: Named, label: string) => tensor.shape[labels.indexOf(label)];
  const sizes = (it: Named, of: readonly string[]) => of.map((label) => size(it, label));
  const [m, n, k] = [sizes(a, left), sizes(b, right), sizes(a, summed)].map(sizeOf);
  const batches = sizes(a, batch);
  const product = matmul(
    shaped(aligned(a, [...batch, ...left, ...summed]), [...batches, m, k]),
    shaped(aligned(b, [...batch, ...summed, ...right]), [...batches, k, n]),
  );
  return {
    tensor: shaped(product, [...batches, ...sizes(a, left), ...sizes(b, right)]),
    labels,
  };
}

/**
 * Sums of products in Einstein's notation, as NumPy's and torch's `einsum`: `einsum("bij,bjk->bik",
 * a, b)` multiplies matrices, `einsum("ii->i", a)` is a diagonal, `einsum("...ij->...ji", a)`
 * transposes. Letters name axes; one that stands twice in a term takes the diagonal; `...` stands
 * for the other axes, which broadcast; what the result does not name is summed. Without `->` the
 * result has the letters that stand once, in the order of the alphabet, behind `...`. Operands are
 * contracted two by two, in the order that makes the fewest products.
 *
 * @param subscripts one term per operand, separated by commas, then `->` and the result's
 * @throws {ShapeError} if the subscripts cannot be read, do not fit the operands, or sizes of one
 * letter differ (1 fits all).
 */
export function einsum(subscripts: string, ...operands: readonly Tensor[]): Tensor {
  needTensorList("einsum", operands);
  const fail = (what: string): never => {
    throw new ShapeError(
      `einsum: ${kindOf(subscripts)} of ${
        operands.map(({ shape }) => show(shape)).join(", ")
      }: ${what}`,
    );
  };
  if (operands.some(({ dtype }) => dtype !== operands[0].dtype || !isFloat(dtype))) {
    fail(`their types are ${operands.map(({ dtype }) => dtype).join(", ")}, not one of floats`);
  }
  const [input, output, ...more] = String(subscripts).replaceAll(/\s/g, "").split("->");
  const terms = input.split(",");
  if (more.length > 0 || terms.length !== operands.length) {
    fail(`one term per operand, and at most one "->", are needed`);
  }
  const parsed = terms.map((term, i) =>
    labelsOf(term, operands[i].shape.length, 0) ??
      fail(`the term ${kindOf(term)} does not name ${operands[i].shape.length} axes by letters`)
  );
  const dots = Math.max(...parsed.map((it) => it.dots));
  const all = parsed.flatMap((it) => it.labels);
  const open = Array.from({ length: dots }, (_, i) => `.${dots - 1 - i}`);
  const once = [...new Set(all)].filter((label) =>
    label.length === 1 && all.indexOf(label) === all.lastIndexOf(label)
  );
  const outputLabels = output === undefined
    ? [...open, ...once.sort()]
    : (labelsOf(output, undefined, dots) ?? fail(`the result ${kindOf(output)} is no term`)).labels;
  const unknown = outputLabels.find((label, i) =>
    !all.includes(label) || outputLabels.indexOf(label) < i
  );
  if (unknown !== undefined) {
    fail(`the result names ${kindOf(unknown)} twice or without an operand that has it`);
  }
  const sizes = new Map<string, number>();
  parsed.forEach(({ labels }, i) =>
    labels.forEach((label, axis) => {
      const [size, known = 1] = [operands[i].shape[axis], sizes.get(label)];
      if (size !== known && size !== 1 && known !== 1) {
        fail(`${kindOf(label)} is ${known} and ${size}`);
      }
      sizes.set(label, size === 1 ? known : size);
    })
  );
  return composite(() => {
    // An axis of size 1 beside a longer one of its name adds nothing to a product.
    const list = parsed.map(({ labels }, i): Named => {
      const { tensor, labels: own } = narrowed(operands[i], labels, sizes);
      return withoutRepeats({ tensor, labels: own });
    });
    const size = (label: string) => sizes.get(label)!;
    while (list.length > 1) {
      const { i, j } = cheapest(list.map((it) => it.labels), outputLabels, size);
      const [a, b] = [list[i], list[j]];
      list.splice(j, 1);
      const used = usedBeside(list.map((it) => it.labels), i, outputLabels);
      const [left, right] = [[a, b], [b, a]].map(([it, other]) =>
        withoutUnused(it, (label) => other.labels.includes(label) || used(label))
      );
      list[i] = contracted(left, right, used);
    }
    const result = withoutUnused(list[0], (label) => outputLabels.includes(label));
    return aligned(result, outputLabels);
  });
}

type Labels = readonly string[];

/** Whether a label is in the result or in another term than one. */
const usedBeside = (terms: readonly Labels[], i: number, output: Labels) => (label: string) =>
  output.includes(label) || terms.some((it, k) => k !== i && it.includes(label));

/** Most terms whose orders are all looked at; of more, the next pair alone. */
const MOST_ORDERED = 5;

/** Which pair to contract first, so that the fewest products are made; the first of equal ones. */
function cheapest(
  terms: readonly Labels[],
  output: Labels,
  size: (label: string) => number,
): { i: number; j: number; products: number } {
  let best = { i: 0, j: 1, products: Infinity };
  for (let j = 1; j < terms.length; j++) {
    for (let i = 0; i < j; i++) {
      const both = [...new Set([...terms[i], ...terms[j]])];
      const rest = terms.flatMap((it, k) => k === j ? [] : [k === i ? both : it]);
      const used = usedBeside(rest, i, output);
      // What one of both has alone is summed before.
      const met = both.filter((it) => used(it) || terms[i].includes(it) && terms[j].includes(it));
      let products = met.reduce((n, label) => n * size(label), 1);
      if (rest.length > 1 && terms.length <= MOST_ORDERED) {
        rest[i] = both.filter(used);
        products += cheapest(rest, output, size).products;
      }
      if (products < best.products) best = { i, j, products };
    }
  }
  return best;
}

/** A tensor without its axes of size 1 whose label is larger elsewhere. */
function narrowed(
  tensor: Tensor,
  labels: readonly string[],
  sizes: ReadonlyMap<string, number>,
): Named {
  const dropped = [...labels.keys()].filter((axis) =>
    tensor.shape[axis] === 1 && sizes.get(labels[axis])! > 1
  );
  if (dropped.length === 0) return { tensor, labels };
  return {
    tensor: squeeze(tensor, dropped),
    labels: labels.filter((_, axis) => !dropped.includes(axis)),
  };
}

/** @throws {ShapeError} if it is no pair. */
function pairOf(axes: readonly [readonly number[], readonly number[]]) {
  if (Array.isArray(axes) && axes.length === 2) return axes;
  throw new ShapeError(`tensordot: the axes are ${kindOf(axes)}; a number or two lists are needed`);
}

/**
 * Sums products over axes of two tensors, as NumPy's and torch's `tensordot`.
 *
 * @param axes how many of the last axes of `a` and the first ones of `b`, or the axes of each by
 * number
 * @returns the other axes of `a`, then those of `b`
 * @throws {ShapeError} if sizes or numbers of axes differ.
 */
export function tensordot(
  a: Tensor,
  b: Tensor,
  axes: number | readonly [readonly number[], readonly number[]] = 2,
): Tensor {
  needTensors("tensordot", { a, b });
  const [m, n] = [a.shape.length, b.shape.length];
  if (typeof axes === "number") {
    needWhole("tensordot", "the count of axes", axes, 0, Math.min(m, n));
  }
  const [ofA, ofB] = typeof axes === "number"
    ? [Array.from({ length: axes }, (_, i) => m - axes + i), [...Array(axes).keys()]]
    : pairOf(axes);
  needWholes("tensordot", "the axes of a", ofA);
  needWholes("tensordot", "the axes of b", ofB);
  const [left, right] = [
    ofA.map((axis) => normalizeAxis("tensordot", axis, m)),
    ofB.map((axis) => normalizeAxis("tensordot", axis, n)),
  ];
  if (a.dtype !== b.dtype || !isFloat(a.dtype)) {
    throw new ShapeError(
      `tensordot: ${kindOf(a)} and ${kindOf(b)}: one element type of floats is needed`,
    );
  }
  const summed = (x: Tensor, of: readonly number[]) => of.map((axis) => x.shape[axis]);
  if (
    new Set(left).size !== left.length || new Set(right).size !== right.length ||
    !sameShape(summed(a, left), summed(b, right))
  ) {
    throw new ShapeError(
      `tensordot: axes [${ofA}] of ${show(a.shape)} and [${ofB}] of ${show(b.shape)} do not ` +
        "name the same sizes, each axis once",
    );
  }
  const name = (i: number) => `a${i}`;
  const names = b.shape.map((_, axis) => {
    const met = right.indexOf(axis);
    return met === -1 ? `b${axis}` : name(left[met]);
  });
  return composite(() =>
    contracted(
      { tensor: a, labels: a.shape.map((_, axis) => name(axis)) },
      { tensor: b, labels: names },
      (label) => !left.map(name).includes(label),
    ).tensor
  );
}

/**
 * All products of two vectors: `y[i, j] = a[i] * b[j]`.
 *
 * @throws {ShapeError} if one is no vector.
 */
export function outer(a: Tensor, b: Tensor): Tensor {
  needTensors("outer", { a, b });
  if (a.shape.length !== 1 || b.shape.length !== 1) {
    throw new ShapeError(`outer: ${show(a.shape)} and ${show(b.shape)}: two vectors are needed`);
  }
  return composite(() => mul(reshape(a, [a.size, 1]), b));
}
