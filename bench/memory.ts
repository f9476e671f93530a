/**
 * Kernels that are bound by memory, counted in bytes that have to be moved.
 *
 * @module
 */
import {
  adamHyperValues,
  adamStep,
  backward,
  cast,
  centredCrossEntropy,
  cosineLoss,
  type Device,
  emaStep,
  gather,
  gelu,
  gradientNorm,
  l2Normalize,
  layerNorm,
  residualLayerNorm,
  softmax,
  sum,
  type Tensor,
  uniformFrom,
} from "../engine/mod.ts";
import { randomMask } from "../model/masking.ts";
import { affordablePart, backwardOf, type CaseSpec, prepared, random } from "./case.ts";
import type { Benchmark } from "./harness.ts";
import { naive } from "./naive/kernels.ts";

/** A kernel over `size` elements; `moved` and `flops` count per element, special functions as one operation. */
interface Entry {
  readonly name: string;
  readonly tier: Benchmark["tier"];
  readonly needs?: Benchmark["needs"];
  readonly size: number;
  /** Floats read and written. */
  readonly moved: number;
  readonly flops: number;
  make(device: Device): CaseSpec;
}

/** Bytes of an array that a naive kernel of one thread per row may do on a software adapter. */
const AFFORDABLE_ROWS = 2 ** 20;

function layerNormForward(rows: number, width: number, tier: Benchmark["tier"]): Entry {
  return {
    name: `layernorm/forward/${rows}x${width}`,
    tier,
    size: rows * width,
    moved: 2,
    flops: 8,
    make(device) {
      const [x, gamma, beta] = [[rows, width], [width], [width]].map((it) => random(device, it));
      const some = affordablePart(device, rows, AFFORDABLE_ROWS / width);
      return {
        operands: [x, gamma, beta],
        outputs: () => [layerNorm(x, gamma, beta)],
        naive: {
          share: some / rows,
          outputs: () => [plainLayerNorm(x, gamma, beta, some, width).y],
        },
      };
    },
  };
}

function plainLayerNorm(x: Tensor, gamma: Tensor, beta: Tensor, rows: number, width: number) {
  const [y, stats] = [x.device.empty([rows, width]), x.device.empty([rows, 2])];
  naive("layernorm", { MODE: 0 }, [x, gamma, beta, y, stats], { rows, width, eps: 1e-6 }, rows);
  return { y, stats };
}

function layerNormBackward(rows: number, width: number, tier: Benchmark["tier"]): Entry {
  return {
    name: `layernorm/backward/${rows}x${width}`,
    tier,
    size: rows * width,
    moved: 3,
    flops: 14,
    make(device) {
      const inputs = [[rows, width], [width], [width]].map((it) => random(device, it).trainable());
      const [x, gamma, beta] = inputs;
      const dy = random(device, [rows, width]);
      const y = layerNorm(x, gamma, beta);
      const { y: plain, stats } = plainLayerNorm(x, gamma, beta, rows, width);
      return {
        operands: [...inputs, dy, y, plain, stats],
        outputs: backwardOf([y, dy]),
        naive: {
          // dgamma and dbeta are sums over all rows in another order.
          tolerance: 3e-5,
          outputs: () => plainLayerNormGradients(x, dy, stats, gamma),
        },
        },
      };
    },
  };
}

/** The norm of `x + residual`, which is a result as well. */
function residualNormForward(rows: number, width: number, tier: Benchmark["tier"]): Entry {
  return {
    name: `residual-layernorm/forward/${rows}x${width}`,
    tier,
    size: rows * width,
    moved: 4,
    flops: 9,
    make(device) {
      const [x, residual] = [random(device, [rows, width]), random(device, [rows, width])];
      const [gamma, beta] = [random(device, [width]), random(device, [width])];
      return {
        operands: [x, residual, gamma, beta],
        outputs() {
          const { y, sum } = residualLayerNorm(x, residual, gamma, beta);
          return [y, sum];
        },
        naive: {
          outputs() {
            const sum = plainMap([x, residual], "x0[i] + x1[i]");
            return [plainLayerNorm(sum, gamma, beta, rows, width).y, sum];
          },
        },
      };
    },
  };
}

/** Its gradient, with one that arrives at the sum added. */
function residualNormBackward(rows: number, width: number, tier: Benchmark["tier"]): Entry {
  return {
    name: `residual-layernorm/backward/${rows}x${width}`,
    tier,
    size: rows * width,
    moved: 4,
    flops: 15,
    make(device) {
      const shapes = [[rows, width], [rows, width], [width], [width]];
      const inputs = shapes.map((it) => random(device, it).trainable());
      const [x, residual, gamma, beta] = inputs;
      const [dy, dsum] = [random(device, [rows, width]), random(device, [rows, width])];
      const { y, sum } = residualLayerNorm(x, residual, gamma, beta);
      const { y: plain, stats } = plainLayerNorm(sum, gamma, beta, rows, width);
      return {
        operands: [...inputs, dy, dsum, y, sum, plain, stats],
        outputs: backwardOf([y, dy], [sum, dsum]),
        naive: {
          // dgamma and dbeta are sums over all rows in another order.
          tolerance: 3e-5,
          outputs() {
            const [dx, dgamma, dbeta] = plainLayerNormGradients(sum, dy, stats, gamma);
            const both = plainMap([dx, dsum], "x0[i] + x1[i]");
            return [both, both, dgamma, dbeta];
          },
        },
      };
    },
  };
}

function plainLayerNormGradients(x: Tensor, dy: Tensor, stats: Tensor, gamma: Tensor): Tensor[] {
  const [rows, width] = x.shape;
  const params = { rows, width, eps: 1e-6 };
  const [dx, dgamma, dbeta] = [x, gamma, gamma].map(({ shape }) => x.device.empty(shape));
  naive("layernorm", { MODE: 1 }, [x, dy, stats, gamma, dx], params, rows);
  naive("layernorm", { MODE: 2 }, [x, dy, stats, dgamma, dbeta], params, width);
  return [dx, dgamma, dbeta];
}

function softmaxEntry(
  direction: "forward" | "backward",
  rows: number,
  width: number,
  tier: Benchmark["tier"],
): Entry {
  const temperature = 0.1;
  return {
    name: `softmax/${direction}/${rows}x${width}`,
    tier,
    size: rows * width,
    moved: direction === "forward" ? 2 : 3,
    flops: direction === "forward" ? 6 : 5,
    make(device) {
      const x = random(device, [rows, width], 0.1);
      const some = affordablePart(device, rows, AFFORDABLE_ROWS / width);
      const plain = (operands: readonly Tensor[], BACKWARD: boolean) => {
        const out = device.empty([some, width]);
        naive("softmax", { BACKWARD }, [...operands, out], { width, temperature }, some);
        return [out];
      };
      if (direction === "forward") {
        return {
          operands: [x],
          outputs: () => [softmax(x, { temperature })],
          naive: { share: some / rows, outputs: () => plain([x], false) },
        };
      }
      const dy = random(device, [rows, width]);
      const y = softmax(x.trainable(), { temperature });
      return {
        operands: [x, dy, y],
        outputs: backwardOf([y, dy]),
        naive: { share: some / rows, outputs: () => plain([y, dy], true) },
      };
    },
  };
}

function crossEntropyEntry(rows: number, width: number, tier: Benchmark["tier"]): Entry {
  return {
    name: `cross-entropy/forward+backward/${rows}x${width}`,
    tier,
    size: rows * width,
    // Two logits in, probabilities out; logits and probabilities in, a gradient out.
    moved: 6,
    flops: 18,
    make(device) {
      const student = random(device, [rows, width], 0.3).trainable();
      const teacher = random(device, [rows, width], 0.3);
      const centre = random(device, [width], 0.1);
      const ones = device.full([rows], 1);
      const some = affordablePart(device, rows, AFFORDABLE_ROWS / width / 2);
      const temperatures = { student_temperature: 0.1, teacher_temperature: 0.05 };
      const teacherTemperature = device.tensor([temperatures.teacher_temperature]);
      return {
        operands: [student, teacher, centre, ones, teacherTemperature],
        outputs() {
          student.zeroGrad();
          const { loss, probabilities } = centredCrossEntropy(student, teacher, centre, {
            studentTemperature: temperatures.student_temperature,
            teacherTemperature,
          });
          backward(loss, ones);
          return [loss, probabilities, student.grad!];
        },
        naive: {
          share: some / rows,
          tolerance: 3e-5,
          outputs() {
            const out = [[some], [some, width], [some, width]].map((it) => device.empty(it));
            const operands = [student, teacher, centre, ...out];
            naive("crossEntropy", {}, operands, { width, ...temperatures }, some);
            return out;
          },
        },
      };
    },
  };
}

function cosineEntry(rows: number, width: number, tier: Benchmark["tier"]): Entry {
  return {
    name: `cosine-loss/forward+backward/${rows}x${width}`,
    tier,
    size: rows * width,
    // Both rows in; both rows in again, a gradient out.
    moved: 5,
    flops: 14,
    make(device) {
      const a = random(device, [rows, width]).trainable();
      const b = random(device, [rows, width]);
      const ones = device.full([rows], 1);
      return {
        operands: [a, b, ones],
        outputs() {
          a.zeroGrad();
          const loss = cosineLoss(a, b);
          backward(loss, ones);
          return [loss, a.grad!];
        },
        naive: {
          outputs() {
            const [loss, gradient] = [device.empty([rows]), device.empty([rows, width])];
            naive("cosine", { NORMALIZE: false }, [a, b, loss, gradient], { width }, rows);
            return [loss, gradient];
          },
        },
      };
    },
  };
}

function normalizeEntry(rows: number, width: number, tier: Benchmark["tier"]): Entry {
  return {
    name: `l2-normalize/forward/${rows}x${width}`,
    tier,
    size: rows * width,
    moved: 2,
    flops: 3,
    make(device) {
      const x = random(device, [rows, width]);
      return {
        operands: [x],
        outputs: () => [l2Normalize(x)],
        naive: {
          outputs() {
            const y = device.empty([rows, width]);
            naive("cosine", { NORMALIZE: true }, [x, y], { width }, rows);
            return [y];
          },
        },
      };
    },
  };
}

function plainMap(inputs: readonly Tensor[], EXPR: string): Tensor {
  const y = inputs[0].device.empty(inputs[0].shape);
  naive(
    "elementwise",
    { INPUTS: inputs.length, EXPR, T: "f32", TY: "f32" },
    [...inputs, y],
    {},
    y.size,
  );
  return y;
}

function geluEntry(
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
function castEntry(direction: "f32-to-f16" | "f16-to-f32", size: number): Entry {
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
function tokensEntry(
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
      const { shuffle } = randomMask(uniformFrom(1), batch, rows, 1 - (picks + 0.5) / rows);
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
      const pick = () => gather(x, ids, { unique: true });
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
  options: { SQUARE?: boolean; ROOT?: boolean } = {},
): Tensor {
  const y = x.device.empty([outer * inner]);
  const constants = { SQUARE: false, ROOT: false, ...options };
  naive("reduce", constants, [x, y], { reduce, inner }, outer * inner);
  return y;
}

/** Sums over rows (a bias gradient) or along them. */
function sumEntry(axis: 0 | 1, rows: number, width: number, tier: Benchmark["tier"]): Entry {
  return {
    name: `sum/axis${axis}/${rows}x${width}`,
    tier,
    size: rows * width,
    moved: 1,
    flops: 1,
    make(device) {
      const x = random(device, [rows, width]);
      return {
        operands: [x],
        outputs: () => [sum(x, { axes: [axis] })],
        naive: {
          tolerance: 3e-5,
          outputs: () => [plainSum(x, axis === 0 ? [1, rows, width] : [rows, width, 1])],
        },
      };
    },
  };
}

/** Parameters, gradients and moments side by side, as training keeps them. */
function adamEntry(size: number, tier: Benchmark["tier"]): Entry {
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

function emaEntry(size: number, tier: Benchmark["tier"]): Entry {
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

function gradientNormEntry(size: number, tier: Benchmark["tier"]): Entry {
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

/** Elements of a flat arena, as large as all parameters of `tiny`, and beyond the caches. */
const ARENA = 2 ** 23;

/** Rows at the base step's sizes with 8 clips, and arrays beyond the caches. */
const ENTRIES: readonly Entry[] = [
  layerNormForward(1072, 768, "check"),
  layerNormForward(16384, 768, "full"),
  layerNormBackward(1072, 768, "check"),
  layerNormBackward(16384, 768, "full"),
  residualNormForward(1072, 768, "quick"),
  residualNormBackward(1072, 768, "quick"),
  softmaxEntry("forward", 1064, 2048, "check"),
  softmaxEntry("forward", 8192, 2048, "full"),
  softmaxEntry("backward", 1064, 2048, "quick"),
  crossEntropyEntry(1064, 2048, "quick"),
  normalizeEntry(1064, 768, "quick"),
  cosineEntry(1064, 768, "quick"),
  geluEntry("forward", 1072, 3072, "quick"),
  geluEntry("forward", 8192, 3072, "full"),
  geluEntry("backward", 1072, 3072, "check"),
  tokensEntry("gather", [8, 190, 57, 768], "quick"),
  tokensEntry("scatter", [8, 190, 57, 768], "quick"),
  tokensEntry("gather", [8, 190, 133, 768], "full"),
  tokensEntry("scatter", [8, 190, 133, 768], "full"),
  sumEntry(0, 1072, 768, "quick"),
  sumEntry(0, 16384, 768, "full"),
  sumEntry(1, 16384, 768, "quick"),
  castEntry("f32-to-f16", ARENA),
  castEntry("f16-to-f32", ARENA),
  adamEntry(ARENA, "check"),
  emaEntry(ARENA, "quick"),
  gradientNormEntry(ARENA, "quick"),
];

/** All of them. */
export const MEMORY_BENCHMARKS: readonly Benchmark[] = ENTRIES.map((
  { name, tier, needs, size, moved, flops, make },
) => ({
  name,
  tier,
  needs,
  bound: "copy",
  flops: size * flops,
  bytes: 4 * size * moved,
  prepare: (device) => Promise.resolve(prepared(name, make(device))),
}));
