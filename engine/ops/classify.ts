/**
 * Cross-entropy of logits against class indices or distributions.
 *
 * @module
 */
import { ShapeError } from "../errors.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom, refZeros } from "../reference.ts";
import { sameShape, show } from "../shape.ts";
import { noGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { oneHot, pickRows } from "./indexing.ts";
import { elementwise } from "../launch/elementwise.ts";
import { reduceInto } from "./reduce.ts";
import { rowsAndWidth } from "../launch/rows.ts";
import { logSoftmax, refSoftmaxRow } from "./softmax.ts";

/** Softmax of each row of logits and its logarithm. */
const refRows = (x: RefArray) => {
  const { rows, width } = rowsAndWidth(x.shape);
  return Array.from(
    { length: rows },
    (_, r) => refSoftmaxRow(x.data.subarray(r * width, (r + 1) * width), 1),
  );
};

/** `[..., 1]` seen from `[...]`. */
const column = (t: Tensor): Tensor => t.view([...t.shape, 1]);

const indexOp = defineOp<null>({
  name: "crossEntropy",
  dtypes: "any",
  forward([logits, target], _, save) {
    const log = noGrad(() => logSoftmax(logits));
    const loss = pickRows(log, column(target)).view(target.shape);
    elementwise(loss, [], { expression: "-o", readOut: true });
    save(log);
    save(target);
    return [loss];
  },
  backward({ grads: [dloss], saved: [log, target] }) {
    const { width } = rowsAndWidth(log.shape);
    const dx = log.device.empty(log.shape);
    elementwise(dx, [log, oneHot(target, width), column(dloss!)], {
      expression: "(exp_$V(a) - b) * c",
    });
    return [dx, undefined];
  },
  reference: {
    forward([logits, target]) {
      const rows = refRows(logits);
      return [refFrom(target.shape, (r) => -rows[r].log[target.data[r]])];
    },
    backward([logits, target], _, [dloss]) {
      const { width } = rowsAndWidth(logits.shape);
      const rows = refRows(logits);
      return [
        refFrom(logits.shape, (i) => {
          const r = Math.floor(i / width);
          return dloss.data[r] * (rows[r].probability[i % width] - +(target.data[r] === i % width));
        }),
        undefined,
      ];
    },
  },
});

/** Sums of rows, the last axis kept. */
function rowSums(x: Tensor): Tensor {
  const { rows, width } = rowsAndWidth(x.shape);
  const sums = x.device.empty([...x.shape.slice(0, -1), 1]);
  reduceInto(sums, x, { outer: rows, reduce: width, inner: 1 });
  return sums;
}

const distributionOp = defineOp<null>({
  name: "crossEntropyOfDistributions",
  dtypes: "any",
  forward([logits, target], _, save) {
    const log = noGrad(() => logSoftmax(logits));
    const terms = log.device.empty(log.shape);
    elementwise(terms, [log, target], { expression: "-a * b" });
    const loss = rowSums(terms).view(logits.shape.slice(0, -1));
    save(log);
    save(target);
    return [loss];
  },
  backward({ grads: [dloss], saved: [log, target], needs }) {
    const { device, shape } = log;
    const slope = column(dloss!);
    let dlogits: Tensor | undefined;
    if (needs[0]) {
      dlogits = device.empty(shape);
      elementwise(dlogits, [log, rowSums(target), target], { expression: "exp_$V(a) * b - c" });
      elementwise(dlogits, [slope], { expression: "o * a", readOut: true });
    }
    let dtarget: Tensor | undefined;
    if (needs[1]) {
      dtarget = device.empty(shape);
      elementwise(dtarget, [log, slope], { expression: "-a * b" });
    }
    return [dlogits, dtarget];
  },
  reference: {
    forward([logits, target]) {
      const rows = refRows(logits);
      const { width } = rowsAndWidth(logits.shape);
      return [
        refFrom(
          logits.shape.slice(0, -1),
          (r) => -rows[r].log.reduce((sum, v, k) => sum + v * target.data[r * width + k], 0),
        ),
      ];
    },
    backward([logits, target], _, [dloss]) {
      const { width } = rowsAndWidth(logits.shape);
      const [dlogits, dtarget] = [refZeros(logits.shape), refZeros(logits.shape)];
      refRows(logits).forEach(({ probability, log }, r) => {
        const p = target.data.subarray(r * width, (r + 1) * width);
        const total = p.reduce((a, b) => a + b, 0);
        for (let k = 0; k < width; k++) {
          dlogits.data[r * width + k] = dloss.data[r] * (probability[k] * total - p[k]);
          dtarget.data[r * width + k] = -dloss.data[r] * log[k];
        }
      });
      return [dlogits, dtarget];
    },
  },
});

/**
 * Cross-entropy per row: `-log softmax(logits)[target]` for class indices, `-sum(target log
 * softmax(logits))` for distributions, to which a gradient flows as well. Take the mean of it for a
 * loss.
 *
 * @param logits [..., K]
 * @param target u32 [...], each below K; or f32 [..., K]
 * @returns [...]
 * @throws {ShapeError} if the target fits neither.
 */
export function crossEntropy(logits: Tensor, target: Tensor): Tensor {
  const rank = logits.shape.length;
  if (rank > 0) {
    if (target.dtype === "u32" && sameShape(target.shape, logits.shape.slice(0, -1))) {
      return indexOp.apply([logits, target], null)[0];
    }
    if (target.dtype === "f32" && sameShape(target.shape, logits.shape)) {
      return distributionOp.apply([logits, target], null)[0];
    }
  }
  throw new ShapeError(
    `crossEntropy: logits ${show(logits.shape)} take u32 indices ${
      show(logits.shape.slice(0, -1))
    } or f32 probabilities ${show(logits.shape)}, not ${show(target.shape)} of ${target.dtype}`,
  );
}
