/**
 * Elementwise kernels, tokens, reductions and updates of flat arenas.
 *
 * @module
 */
import {
  adamHyperValues,
  adamStep,
  batchedIndexSelect,
  cast,
  emaStep,
  gelu,
  gradientNorm,
  max,
  Prng,
  sum,
  type Tensor,
  variance,
} from "../engine/mod.ts";
import { randomMask } from "../model/objectives/masking.ts";
import { backwardOf, type CaseSpec, random } from "./case.ts";
import type { Benchmark } from "./harness.ts";
import { type Entry, plainMap } from "./memory_entry.ts";
import { naive } from "./naive/kernels.ts";

export function geluEntry(
  direction: "forward" | "backward",
  rows: number,
  width: number,
  tier: Benchmark["tier"],
): Entry {
  return {
    name: `gelu/${direction}/${rows}x${width}`,
    tier,
    size: rows * width,
    moved: direction === "forward" ? 2 : 3,
    flops: direction === "forward" ? 4 : 8,
    make(device) {
      const x = random(device, [rows, width]);
      if (direction === "forward") {
        return {
          operands: [x],
          outputs: () => [gelu(x)],
          naive: { outputs: () => [plainMap([x], "gelu_f32(x0[i])")] },
        };
      }
      const dy = random(device, [rows, width]);
      const y = gelu(x.trainable());
      return {
        operands: [x, dy, y],
        outputs: backwardOf([y, dy]),
        naive: { outputs: () => [plainMap([x, dy], "x1[i] * gelu_grad_f32(x0[i])")] },
      };
    },
  };
}

/** To half precision and back; the plain kernels pack two halves into one word. */
export function castEntry(direction: "f32-to-f16" | "f16-to-f32", size: number): Entry {
  return {
    name: `cast/${direction}/${size}`,
    tier: "quick",
    needs: "f16",
    size,
    moved: 1.5,
    flops: 1,
    make(device) {
      const x = random(device, [size]);
      const half = cast(x, "f16");
      const packed = () => {
        const words = device.empty([size / 2], "u32");
        const EXPR = "pack2x16float(vec2f(x0[2u * i], x0[2u * i + 1u]))";
        const constants = { INPUTS: 1, EXPR, T: "f32", TY: "u32" };
        naive("elementwise", constants, [x, words], {}, size / 2);
        return [words];
      };
      const unpacked = (words: Tensor) => {
        const y = device.empty([size]);
        const constants = {
          INPUTS: 1,
          EXPR: "unpack2x16float(x0[i / 2u])[i % 2u]",
          T: "u32",
          TY: "f32",
        };
        naive("elementwise", constants, [words, y], {}, size);
        return [y];
      };
      const operands = [x, half];
      return direction === "f32-to-f16"
        ? {
          operands,
          outputs: () => [cast(x, "f16")],
          compared: () => [cast(cast(x, "f16"), "f32")],
          naive: { outputs: packed, compared: () => unpacked(packed()[0]), tolerance: 2 ** -10 },
        }
        : {
          operands,
          outputs: () => [cast(half, "f32")],
          naive: { outputs: () => unpacked(half) },
        };
    },
  };
}

/** Tokens by index, and their gradients back to where they came from. */
export function tokensEntry(
  direction: "gather" | "scatter",
  [batch, rows, picks, width]: readonly [number, number, number, number],
  tier: Benchmark["tier"],
): Entry {
  const wide = direction === "gather" ? picks : rows;
  return {
    name: `tokens/${direction}/b${batch}x${picks}of${rows}x${width}`,
    tier,
    size: batch * width,
    // What is picked is read, and written among zeros or side by side.
    moved: picks + wide,
    flops: 0,
    make(device) {
      const prng = new Prng(1);
      const { shuffle } = randomMask(() => prng.uniform(), batch, rows, 1 - (picks + 0.5) / rows);
      const chosen = Uint32Array.from(
        { length: batch * picks },
        (_, i) => shuffle[Math.floor(i / picks) * rows + i % picks],
      );
      const ids = device.tensor(chosen, [batch, picks]);
      const x = random(device, [batch, rows, width]);
      const dy = random(device, [batch, picks, width]);
      const plain = (from: Tensor, BACKWARD: boolean) => {
        const y = device.empty([batch, BACKWARD ? rows : picks, width]);
        naive("gather", { BACKWARD }, [from, ids, y], { rows, picks, width }, y.size);
        return [y];
      };
      const pick = () => batchedIndexSelect(x, ids, { unique: true });
      if (direction === "gather") {
        return {
          operands: [ids, x, dy],
          outputs: () => [pick()],
          naive: { outputs: () => plain(x, false) },
        };
      }
      x.trainable();
      const y = pick();
      return {
        operands: [ids, x, dy, y],
        outputs: backwardOf([y, dy]),
        naive: { outputs: () => plain(dy, true) },
      };
    },
  };
}

function plainSum(
  x: Tensor,
  [outer, reduce, inner]: readonly [number, number, number],
  options: { SQUARE?: boolean; ROOT?: boolean; MAX?: boolean; VARIANCE?: boolean } = {},
): Tensor {
  const y = x.device.empty([outer * inner]);
  const constants = { SQUARE: false, ROOT: false, MAX: false, VARIANCE: false, ...options };
  naive("reduce", constants, [x, y], { reduce, inner }, outer * inner);
  return y;
}

const REDUCTIONS = {
  sum: { op: sum, flops: 1, plain: {} },
  max: { op: max, flops: 1, plain: { MAX: true } },
  variance: { op: variance, flops: 3, plain: { VARIANCE: true } },
} as const;

/** Sums (over rows: a bias gradient), maxima or variances along an axis. */
export function reduceEntry(
  kind: keyof typeof REDUCTIONS,
  axis: number,
  shape: readonly number[],
  tier: Benchmark["tier"],
): Entry {
  const { op, flops, plain } = REDUCTIONS[kind];
  const product = (sizes: readonly number[]) => sizes.reduce((a, b) => a * b, 1);
  const extent = [product(shape.slice(0, axis)), shape[axis], product(shape.slice(axis + 1))];
  return {
    name: `${kind}/axis${axis}/${shape.join("x")}`,
    tier,
    size: product(shape),
    moved: 1,
    flops,
    make(device) {
      const x = random(device, shape);
      return {
        operands: [x],
        outputs: () => [op(x, { axes: [axis] })],
        naive: {
          tolerance: 3e-5,
          outputs: () => [plainSum(x, extent as [number, number, number], plain)],
        },
      };
    },
  };
}

/** The gradient of variances along rows, from what forward kept. */
export function varianceBackward(rows: number, width: number, tier: Benchmark["tier"]): Entry {
  return {
    name: `variance/backward/axis1/${rows}x${width}`,
    tier,
    size: rows * width,
    moved: 2,
    flops: 3,
    make(device) {
      const x = random(device, [rows, width]).trainable();
      const dy = random(device, [rows]);
      const y = variance(x, { axes: [1] });
      const mean = plainSum(x, [rows, width, 1]);
      return {
        operands: [x, dy, y, mean],
        outputs: backwardOf([y, dy]),
        naive: {
          outputs() {
            const dx = device.empty([rows, width]);
            const row = `i / ${width}u`;
            const EXPR = `2.0 / ${width - 1}.0 * (x0[i] - x1[${row}] / ${width}.0) * x2[${row}]`;
            const constants = { INPUTS: 3, EXPR, T: "f32", TY: "f32" };
            naive("elementwise", constants, [x, mean, dy, dx], {}, dx.size);
            return [dx];
          },
        },
      };
    },
  };
}

/** Parameters, gradients and moments side by side, as training keeps them. */
export function adamEntry(size: number, tier: Benchmark["tier"]): Entry {
  const hyper = {
    lr: 1e-4,
    betas: [0.9, 0.95],
    eps: 1e-8,
    weightDecay: 0.05,
    step: 10,
    epsPlacement: "torch",
  } as const;
  return {
    name: `adamw/${size}`,
    tier,
    size,
    moved: 7,
    flops: 13,
    make(device) {
      const [grads, values] = [random(device, [size]), random(device, [size])];
      const [m, v] = [device.zeros([size]), device.zeros([size])];
      const hyperTensor = device.tensor(adamHyperValues(hyper));
      const clip = device.tensor([1, 0.5]);
      const ours = ([p, first, second]: readonly Tensor[]) => {
        adamStep({ values: p, grads, m: first, v: second }, hyperTensor, clip);
        return [p, first, second];
      };
      const plain = (state: readonly Tensor[]) => {
        naive("adamw", {}, [hyperTensor, clip, grads, ...state], {}, size);
        return state;
      };
      return {
        operands: [hyperTensor, clip, grads, values, m, v],
        ...inPlace([values, m, v], ours, plain),
      };
    },
  };
}

export function emaEntry(size: number, tier: Benchmark["tier"]): Entry {
  return {
    name: `ema/${size}`,
    tier,
    size,
    moved: 3,
    flops: 3,
    make(device) {
      const [average, value] = [random(device, [size]), random(device, [size])];
      const decays = device.tensor([0.99, 0.01]);
      const ours = ([target]: readonly Tensor[]) => {
        emaStep(target, value, decays);
        return [target];
      };
      const plain = ([target]: readonly Tensor[]) => {
        const constants = { INPUTS: 1, EXPR: "0.99 * y[i] + 0.01 * x0[i]", T: "f32", TY: "f32" };
        naive("elementwise", constants, [value, target], {}, size);
        return [target];
      };
      return { operands: [average, value, decays], ...inPlace([average], ours, plain) };
    },
  };
}

/** Updates in place: both are timed on the same state and compared on copies of it. */
function inPlace(
  state: readonly Tensor[],
  ours: (state: readonly Tensor[]) => readonly Tensor[],
  plain: (state: readonly Tensor[]) => readonly Tensor[],
): Pick<CaseSpec, "outputs" | "compared" | "naive"> {
  const run = (update: typeof ours) => () => {
    update(state);
    return [];
  };
  return {
    outputs: run(ours),
    compared: () => ours(state.map(copied)),
    naive: { outputs: run(plain), compared: () => plain(state.map(copied)) },
  };
}

export function gradientNormEntry(size: number, tier: Benchmark["tier"]): Entry {
  return {
    name: `gradient-norm/${size}`,
    tier,
    size,
    moved: 1,
    flops: 2,
    make(device) {
      const grads = random(device, [size]);
      const norm = () => gradientNorm([grads], 3);
      return {
        operands: [grads],
        outputs: () => [norm()],
        compared() {
          const both = norm();
          return [both.view([1], undefined, both.offset)];
        },
        naive: {
          tolerance: 3e-5,
          outputs() {
            const parts = plainSum(grads, [size / 1024, 1024, 1], { SQUARE: true });
            return [plainSum(parts, [1, size / 1024, 1], { ROOT: true })];
          },
        },
      };
    },
  };
}

function copied(x: Tensor): Tensor {
  const copy = x.device.empty(x.shape);
  x.device.copy(x, copy);
  return copy;
}
