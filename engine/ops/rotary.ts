/**
 * Rotary positions: pairs of channels are turned by an angle that grows with the position, so that
 * products of queries and keys depend on their distance (Su et al., "RoFormer", arXiv:2104.09864).
 *
 * @module
 */
import { needOptions, needTensors } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { materialize } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refZeros } from "../reference.ts";
import { sameShape, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";

interface RotaryAttrs {
  /** Whether the channels of a pair lie side by side, instead of half of them apart. */
  readonly interleaved: boolean;
}

/** The first or the second channel of every pair [..., T, d / 2]. */
function side(x: Tensor, second: boolean, { interleaved }: RotaryAttrs): Tensor {
  const last = x.shape.length - 1;
  const half = x.shape[last] / 2;
  const step = x.strides[last];
  const strides = [...x.strides.slice(0, last), interleaved ? 2 * step : step];
  const start = second ? (interleaved ? step : half * step) : 0;
  return x.view([...x.shape.slice(0, last), half], strides, x.offset + start);
}

/** Turns pairs by the angles of the table, or back. */
function turn(x: Tensor, table: Tensor, attrs: RotaryAttrs, back: boolean): Tensor {
  const y = x.device.empty(x.shape, x.dtype);
  const [tokens, , half] = table.shape;
  const [cos, sin] = [0, 1].map((i) =>
    table.view([tokens, half], [2 * half, 1], table.offset + i * half)
  );
  const [first, second] = [side(x, false, attrs), side(x, true, attrs)];
  const terms = back ? ["a * c + b * d", "b * c - a * d"] : ["a * c - b * d", "b * c + a * d"];
  terms.forEach((expression, i) =>
    elementwise(side(y, i === 1, attrs), [first, second, cos, sin], { expression })
  );
  return y;
}

function refTurn(
  x: RefArray,
  table: RefArray,
  { interleaved }: RotaryAttrs,
  direction: 1 | -1,
): RefArray {
  const [tokens, , half] = table.shape;
  const y = refZeros(x.shape);
  for (let pair = 0; pair < x.data.length / 2; pair++) {
    const [row, c] = [Math.floor(pair / half), pair % half];
    const at = row % tokens * 2 * half + c;
    const [cos, sin] = [table.data[at], direction * table.data[at + half]];
    const i = row * 2 * half + (interleaved ? 2 * c : c);
    const j = i + (interleaved ? 1 : half);
    y.data[i] = x.data[i] * cos - x.data[j] * sin;
    y.data[j] = x.data[j] * cos + x.data[i] * sin;
  }
  return y;
}

const rotaryOp = /* @__PURE__ */ defineOp<RotaryAttrs>({
  name: "rotary",
  half: true,
  strided: true,
  dtypes: "any",
  forward([x, given], attrs, save) {
    const table = materialize(given);
    save(table);
    return [turn(x, table, attrs, false)];
  },
  backward: ({ grads: [dy], saved: [table] }, attrs) => [turn(dy!, table, attrs, true), undefined],
  reference: {
    forward: ([x, table], attrs) => [refTurn(x, table, attrs, 1)],
    backward: ([, table], attrs, [dy]) => [refTurn(dy, table, attrs, -1), undefined],
  },
});

/** Options of {@link rotary}. */
export interface RotaryOptions {
  /**
   * Whether neighbouring channels are a pair, as in the paper and torchtune; default false: channel
   * c and c + d / 2 are, as in GPT-NeoX and Llama of Hugging Face.
   */
  readonly interleaved?: boolean;
}

/**
 * Turns queries or keys by their positions.
 *
 * @param x [..., T, d], d even; f32 or f16
 * @param table f32 [T, 2, d / 2] of `rotaryTable`; it gets no gradient
 * @returns the shape of `x`
 * @throws {ShapeError} if the table does not fit.
 */
export function rotary(x: Tensor, table: Tensor, options: RotaryOptions = {}): Tensor {
  needTensors("rotary", { x, table });
  needOptions("rotary", options, ["interleaved"]);
  const [tokens, d]: Shape = x.shape.slice(-2);
  const needed = [tokens, 2, d / 2];
  if (
    x.shape.length < 2 || d % 2 !== 0 || !isFloat(x.dtype) || table.dtype !== "f32" ||
    !sameShape(table.shape, needed)
  ) {
    throw new ShapeError(
      `rotary: x ${show(x.shape)} of ${x.dtype} and table ${
        show(table.shape)
      } of ${table.dtype}: floats [..., T, d], d even, and f32 [T, 2, d / 2] are needed`,
    );
  }
  return rotaryOp.apply([x, table], { interleaved: options.interleaved ?? false })[0];
}
