/**
 * Diagonals and triangles of matrices.
 *
 * @module
 */
import { needTensors, needWhole } from "../arguments.ts";
import type { Device } from "../device.ts";
import { ShapeError } from "../errors.ts";
import { elementwise } from "../launch/elementwise.ts";
import { defineOp } from "../op.ts";
import { refFrom, refZeros } from "../reference.ts";
import { composite } from "../scope.ts";
import { normalizeAxis, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { moveaxis } from "./view.ts";

/** Which diagonal: 0 the main one, above it from 1, below it from -1. */
interface DiagonalAttrs {
  readonly diagonal: number;
}

/** Length of a diagonal of an [m, n] matrix; negative where there is none. */
const lengthOf = (m: number, n: number, diagonal: number): number =>
  Math.min(m, n, n - diagonal, m + diagonal);

const side = (n: number, diagonal: number): number => n + Math.abs(diagonal);

/** The diagonal of each matrix [..., m, n] as a view [..., length]. Records nothing. */
export function diagonalView(x: Tensor, diagonal: number): Tensor {
  const [m, n] = x.shape.slice(-2);
  const [down, right] = x.strides.slice(-2);
  const from = x.offset + Math.max(diagonal, 0) * right + Math.max(-diagonal, 0) * down;
  return x.view(
    [...x.shape.slice(0, -2), lengthOf(m, n, diagonal)],
    [...x.strides.slice(0, -2), down + right],
    from,
  );
}

/** Zeros of `shape` but for one diagonal, which holds `values`. */
function withDiagonal(shape: Shape, values: Tensor, diagonal: number): Tensor {
  const result = values.device.zeros(shape, values.dtype);
  using target = diagonalView(result, diagonal);
  elementwise(target, [values], { expression: "a" });
  return result;
}

/** Visits a diagonal: (index in its values, in the matrices). */
function refVisit(shape: Shape, diagonal: number, visit: (on: number, at: number) => void): void {
  const [m, n] = shape.slice(-2);
  const length = lengthOf(m, n, diagonal);
  refZeros([...shape.slice(0, -2), length]).data.forEach((_, i) => {
    const k = i % length;
    const [row, column] = [k + Math.max(-diagonal, 0), k + Math.max(diagonal, 0)];
    visit(i, (Math.floor(i / length) * m + row) * n + column);
  });
}

const diagonalOp = /* @__PURE__ */ defineOp<DiagonalAttrs>({
  name: "diagonal",
  dtypes: "same",
  half: true,
  strided: true,
  forward: ([x], { diagonal }) => [diagonalView(x, diagonal)],
  backward: ({ grads: [dy], shapes: [shape] }, { diagonal }) => [
    withDiagonal(shape, dy!, diagonal),
  ],
  reference: {
    forward([x], { diagonal }) {
      const [m, n] = x.shape.slice(-2);
      const y = refZeros([...x.shape.slice(0, -2), lengthOf(m, n, diagonal)]);
      refVisit(x.shape, diagonal, (on, at) => y.data[on] = x.data[at]);
      return [y];
    },
    backward([x], { diagonal }, [dy]) {
      const dx = refZeros(x.shape);
      refVisit(x.shape, diagonal, (on, at) => dx.data[at] = dy.data[on]);
      return [dx];
    },
  },
});

/**
 * A diagonal of matrices, without a copy: `y[..., i] = x[..., i, i + diagonal]`.
 *
 * @param diagonal above the main one from 1, below it from -1
 * @param rows axis of the rows
 * @param columns axis of the columns
 * @returns the other axes, then the diagonal
 * @throws {ShapeError} if there are no two axes or no such diagonal.
 */
export function diagonal(x: Tensor, diagonal = 0, rows = -2, columns = -1): Tensor {
  needTensors("diagonal", { x });
  const [r, c] = [rows, columns].map((it) => normalizeAxis("diagonal", it, x.shape.length));
  if (r === c) throw new ShapeError(`diagonal: axis ${rows} of ${show(x.shape)} is given twice`);
  needDiagonal("diagonal", diagonal);
  if (lengthOf(x.shape[r], x.shape[c], diagonal) < 0) {
    throw new ShapeError(`diagonal: ${show(x.shape)} has no diagonal ${diagonal}`);
  }
  return composite(() => diagonalOp.apply([moveaxis(x, [r, c], [-2, -1])], { diagonal })[0]);
}

const diagEmbedOp = /* @__PURE__ */ defineOp<DiagonalAttrs>({
  name: "diagEmbed",
  dtypes: "same",
  half: true,
  strided: true,
  forward([x], { diagonal }) {
    const n = side(x.shape[x.shape.length - 1], diagonal);
    return [withDiagonal([...x.shape.slice(0, -1), n, n], x, diagonal)];
  },
  backward: ({ grads: [dy] }, { diagonal }) => [diagonalView(dy!, diagonal)],
  reference: {
    forward([x], { diagonal }) {
      const n = side(x.shape[x.shape.length - 1], diagonal);
      const y = refZeros([...x.shape.slice(0, -1), n, n]);
      refVisit(y.shape, diagonal, (on, at) => y.data[at] = x.data[on]);
      return [y];
    },
    backward([x], { diagonal }, [dy]) {
      const dx = refZeros(x.shape);
      refVisit(dy.shape, diagonal, (on, at) => dx.data[on] = dy.data[at]);
      return [dx];
    },
  },
});

/**
 * Square matrices that are 0 but for a diagonal: `y[..., i, i + diagonal] = x[..., i]`.
 *
 * @param diagonal above the main one from 1, below it from -1
 * @throws {ShapeError} if `x` has no axis.
 */
export function diagEmbed(x: Tensor, diagonal = 0): Tensor {
  needTensors("diagEmbed", { x });
  needDiagonal("diagEmbed", diagonal);
  normalizeAxis("diagEmbed", -1, x.shape.length);
  return diagEmbedOp.apply([x], { diagonal })[0];
}

/**
 * The diagonal of a matrix ({@link diagonal}), or the matrix with a vector on its diagonal ({@link
 * diagEmbed}).
 *
 * @throws {ShapeError} if `x` is neither.
 */
export function diag(x: Tensor, diagonal_ = 0): Tensor {
  needTensors("diag", { x });
  if (x.shape.length === 1) return diagEmbed(x, diagonal_);
  if (x.shape.length === 2) return diagonal(x, diagonal_);
  throw new ShapeError(`diag: ${show(x.shape)} is neither a vector nor a matrix`);
}

function needDiagonal(op: string, diagonal: number): void {
  needWhole(op, "the diagonal", diagonal, -(2 ** 24), 2 ** 24);
}

/**
 * Columns of each row that are on or below a diagonal, and the columns, as tensors that broadcast
 * to matrices [m, n]: whole numbers from 0, which every element type holds.
 */
function coordinates(device: Device, [m, n]: Shape, diagonal: number): [Tensor, Tensor] {
  const within = (row: number) => Math.min(Math.max(row + diagonal + 1, 0), n);
  return [
    device.tensor(Float32Array.from({ length: m }, (_, row) => within(row)), [m, 1]),
    device.tensor(Float32Array.from({ length: n }, (_, column) => column)),
  ];
}

function defineTriangle(name: "tril" | "triu") {
  const upper = name === "triu";
  // The upper triangle is what is not on or below the diagonal before.
  const first = (diagonal: number) => upper ? diagonal - 1 : diagonal;
  const cut = (x: Tensor, diagonal: number): Tensor[] => {
    const y = x.device.empty(x.shape, x.dtype);
    const [ends, columns] = coordinates(x.device, x.shape.slice(-2), first(diagonal));
    elementwise(y, [x, ends, columns], {
      expression: upper ? "select(T(0), a, c >= b)" : "select(T(0), a, c < b)",
    });
    return [y];
  };
  const refCut = ({ shape, data }: { shape: Shape; data: Float64Array }, diagonal: number) => {
    const [m, n] = shape.slice(-2);
    const kept = (i: number) => {
      const [row, column] = [Math.floor(i / n) % m, i % n];
      return upper ? column >= row + diagonal : column <= row + diagonal;
    };
    return [refFrom(shape, (i) => kept(i) ? data[i] : 0)];
  };
  return defineOp<DiagonalAttrs>({
    name,
    dtypes: "same",
    half: true,
    strided: true,
    forward: ([x], { diagonal }) => cut(x, diagonal),
    backward: ({ grads: [dy] }, { diagonal }) => cut(dy!, diagonal),
    reference: {
      forward: ([x], { diagonal }) => refCut(x, diagonal),
      backward: (_, { diagonal }, [dy]) => refCut(dy, diagonal),
    },
  });
}

const trilOp = /* @__PURE__ */ defineTriangle("tril");
const triuOp = /* @__PURE__ */ defineTriangle("triu");

function needMatrix(op: string, x: Tensor, diagonal: number): void {
  needTensors(op, { x });
  needDiagonal(op, diagonal);
  if (x.shape.length < 2) throw new ShapeError(`${op}: ${show(x.shape)} is no matrix`);
}

/**
 * Matrices [..., m, n] with zeros above a diagonal.
 *
 * @param diagonal above the main one from 1, below it from -1
 * @throws {ShapeError} if `x` has fewer than two axes.
 */
export function tril(x: Tensor, diagonal = 0): Tensor {
  needMatrix("tril", x, diagonal);
  return trilOp.apply([x], { diagonal })[0];
}

/** Matrices [..., m, n] with zeros below a diagonal; see {@link tril}. */
export function triu(x: Tensor, diagonal = 0): Tensor {
  needMatrix("triu", x, diagonal);
  return triuOp.apply([x], { diagonal })[0];
}
