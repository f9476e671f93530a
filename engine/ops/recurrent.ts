/**
 * Steps of recurrent layers: what follows the matrix products of a gated recurrent unit (Cho et
 * al., arXiv:1406.1078) and of long short-term memory (Hochreiter and Schmidhuber, 1997), in one
 * kernel each way.
 *
 * @module
 */
import { needTensors } from "../arguments.ts";
import source from "../../kernels/recurrent.wgsl" with { type: "text" };
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { rowChunks, rowsOf } from "../launch/elementwise.ts";
import { rowsAndWidth } from "../launch/rows.ts";
import { defineOp } from "../op.ts";
import { refZeros } from "../reference.ts";
import { sameShape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";

const kernel = /* @__PURE__ */ defineKernel("recurrent", source);
const WORKGROUP = 64;

/** `state`: how wide rows of the state are. */
function run(operands: readonly Tensor[], state: Tensor, lstm: boolean, backward: boolean): void {
  if (state.size === 0) return;
  const { device, dtype, itemSize } = state;
  const { rows, width } = rowsAndWidth(state.shape);
  const widths = operands.map(({ shape }) => rowsAndWidth(shape).width);
  for (const [first, count] of rowChunks(device, rows, widths, itemSize)) {
    device.run(
      kernel,
      { WG: WORKGROUP, E: dtype, LSTM: lstm, BACKWARD: backward },
      operands.map((it, i) => rowsOf(it, first, count, widths[i])),
      { count: count * width, width },
      Math.ceil(count * width / WORKGROUP),
    );
  }
}

const logistic = (x: number): number => 1 / (1 + Math.exp(-x));
const like = (x: Tensor): Tensor => x.device.empty(x.shape, x.dtype);

const lstmOp = /* @__PURE__ */ defineOp<null>({
  name: "lstmCell",
  half: true,
  forward([gates, c], _, save) {
    const [h, cell] = [like(c), like(c)];
    run([gates, c, h, cell], c, true, false);
    save(gates);
    save(c);
    return [h, cell];
  },
  backward({ grads, saved: [gates, c] }) {
    const [dh, dc] = grads.map((it) => it ?? c.device.zeros(c.shape, c.dtype));
    const results = [like(gates), like(c)];
    run([gates, c, dh, dc, ...results], c, true, true);
    return results;
  },
  reference: {
    forward([gates, c]) {
      const [h, cell] = [refZeros(c.shape), refZeros(c.shape)];
      const { width } = rowsAndWidth(c.shape);
      c.data.forEach((before, at) => {
        const x = (k: number) => gates.data[(4 * Math.floor(at / width) + k) * width + at % width];
        cell.data[at] = logistic(x(1)) * before + logistic(x(0)) * Math.tanh(x(2));
        h.data[at] = logistic(x(3)) * Math.tanh(cell.data[at]);
      });
      return [h, cell];
    },
    backward([gates, c], _, [dh, dc]) {
      const [dgates, dcell] = [refZeros(gates.shape), refZeros(c.shape)];
      const { width } = rowsAndWidth(c.shape);
      c.data.forEach((before, at) => {
        const place = (k: number) => (4 * Math.floor(at / width) + k) * width + at % width;
        const [i, f, o] = [0, 1, 3].map((k) => logistic(gates.data[place(k)]));
        const g = Math.tanh(gates.data[place(2)]);
        const t = Math.tanh(f * before + i * g);
        const down = dc.data[at] + dh.data[at] * o * (1 - t * t);
        dgates.data[place(0)] = down * g * i * (1 - i);
        dgates.data[place(1)] = down * before * f * (1 - f);
        dgates.data[place(2)] = down * i * (1 - g * g);
        dgates.data[place(3)] = dh.data[at] * t * o * (1 - o);
        dcell.data[at] = down * f;
      });
      return [dgates, dcell];
    },
  },
});

const gruOp = /* @__PURE__ */ defineOp<null>({
  name: "gruCell",
  half: true,
  forward([gates, inner, h], _, save) {
    const y = like(h);
    run([gates, h, inner, y], h, false, false);
    [gates, inner, h].forEach(save);
    return [y];
  },
  backward({ grads: [dh], saved: [gates, inner, h] }) {
    const results = [like(gates), like(inner), like(h)];
    run([gates, h, inner, dh!, ...results], h, false, true);
    return results;
  },
  reference: {
    forward([gates, inner, h]) {
      const y = refZeros(h.shape);
      const { width } = rowsAndWidth(h.shape);
      h.data.forEach((before, at) => {
        const place = (k: number) => (3 * Math.floor(at / width) + k) * width + at % width;
        const [r, z] = [0, 1].map((k) => logistic(gates.data[place(k)] + inner.data[place(k)]));
        const n = Math.tanh(gates.data[place(2)] + r * inner.data[place(2)]);
        y.data[at] = (1 - z) * n + z * before;
      });
      return [y];
    },
    backward([gates, inner, h], _, [dy]) {
      const [dgates, dinner, dh] = [gates, inner, h].map(({ shape }) => refZeros(shape));
      const { width } = rowsAndWidth(h.shape);
      h.data.forEach((before, at) => {
        const place = (k: number) => (3 * Math.floor(at / width) + k) * width + at % width;
        const [r, z] = [0, 1].map((k) => logistic(gates.data[place(k)] + inner.data[place(k)]));
        const own = inner.data[place(2)];
        const n = Math.tanh(gates.data[place(2)] + r * own);
        const dn = dy.data[at] * (1 - z) * (1 - n * n);
        const slopes = [dn * own * r * (1 - r), dy.data[at] * (before - n) * z * (1 - z), dn];
        slopes.forEach((slope, k) => {
          dgates.data[place(k)] = slope;
          dinner.data[place(k)] = k === 2 ? slope * r : slope;
        });
        dh.data[at] = dy.data[at] * z;
      });
      return [dgates, dinner, dh];
    },
  },
});

/** @throws {ShapeError} if gates are not so many times the state, or not floats of one type. */
function checkGates(name: string, times: number, gates: readonly Tensor[], state: Tensor): void {
  const { shape, dtype } = state;
  const needed = [...shape.slice(0, -1), times * shape[shape.length - 1]];
  for (const it of gates) {
    if (shape.length > 0 && isFloat(dtype) && it.dtype === dtype && sameShape(it.shape, needed)) {
      continue;
    }
    throw new ShapeError(
      `${name}: gates ${show(it.shape)} of ${it.dtype} beside a state ${
        show(shape)
      } of ${dtype}: ` +
        `floats [..., ${times} width] and [..., width] are needed`,
    );
  }
}

/**
 * A step of long short-term memory behind its matrix products, as torch's `LSTMCell`.
 *
 * @param gates [..., 4 width]: input, forget, cell and output gate before their functions
 * @param cell [..., width]
 * @returns the next state `h` and cell `c`, [..., width]
 * @throws {ShapeError} if gates and cell do not fit.
 */
export function lstmCell(gates: Tensor, cell: Tensor): { h: Tensor; c: Tensor } {
  needTensors("lstmCell", { gates, cell });
  checkGates("lstmCell", 4, [gates], cell);
  const [h, c] = lstmOp.apply([gates, cell], null);
  return { h, c };
}

/**
 * A step of a gated recurrent unit behind its matrix products, as torch's `GRUCell`.
 *
 * @param gates [..., 3 width] of the input: reset, update and new gate before their functions
 * @param inner [..., 3 width] of the state, as `gates`
 * @param state [..., width]
 * @returns the next state [..., width]
 * @throws {ShapeError} if gates and state do not fit.
 */
export function gruCell(gates: Tensor, inner: Tensor, state: Tensor): Tensor {
  needTensors("gruCell", { gates, inner, state });
  checkGates("gruCell", 3, [gates, inner], state);
  return gruOp.apply([gates, inner, state], null)[0];
}
