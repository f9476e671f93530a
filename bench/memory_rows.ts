/**
 * Norms, softmax and losses: kernels that share sums along rows.
 *
 * @module
 */
import {
  backward,
  centredCrossEntropy,
  cosineLoss,
  l2Normalize,
  layerNorm,
  residualLayerNorm,
  softmax,
  type Tensor,
} from "../engine/mod.ts";
import { affordablePart, backwardOf, random } from "./case.ts";
import type { Benchmark } from "./harness.ts";
import { type Entry, plainMap } from "./memory_entry.ts";
import { naive } from "./naive/kernels.ts";

/** Bytes of an array that a naive kernel of one thread per row may do on a software adapter. */
const AFFORDABLE_ROWS = 2 ** 20;

export function layerNormForward(rows: number, width: number, tier: Benchmark["tier"]): Entry {
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

export function layerNormBackward(rows: number, width: number, tier: Benchmark["tier"]): Entry {
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
      };
    },
  };
}

/** The norm of `x + residual`, which is a result as well. */
export function residualNormForward(rows: number, width: number, tier: Benchmark["tier"]): Entry {
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
export function residualNormBackward(rows: number, width: number, tier: Benchmark["tier"]): Entry {
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

export function softmaxEntry(
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

export function crossEntropyEntry(rows: number, width: number, tier: Benchmark["tier"]): Entry {
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

export function cosineEntry(rows: number, width: number, tier: Benchmark["tier"]): Entry {
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

export function normalizeEntry(rows: number, width: number, tier: Benchmark["tier"]): Entry {
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
