/**
 * Dropout with a mask that backward recomputes instead of being stored.
 *
 * @module
 */
import { needOptions, needTensors } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type RefArray } from "../op.ts";
import { hostUniform, needRandom, type RandomOptions, runRandom } from "../random.ts";
import { refFrom } from "../reference.ts";
import type { Tensor } from "../tensor.ts";

interface DropoutAttrs {
  readonly rate: number;
  readonly seed: number;
  readonly stream: number;
  /** Used when there is no second input. */
  readonly step: number;
}

function drop(x: Tensor, step: Tensor | undefined, { rate, ...attrs }: DropoutAttrs): Tensor {
  const y = x.device.empty(x.shape);
  runRandom("dropout", y, { ...attrs, step: step ?? attrs.step }, rate, 1 / (1 - rate), x);
  return y;
}

function refDrop(x: RefArray, step: RefArray | undefined, attrs: DropoutAttrs): RefArray {
  const u = hostUniform(x.data.length, attrs.seed, attrs.stream, step?.data[0] ?? attrs.step);
  const rate = Math.fround(attrs.rate);
  return refFrom(x.shape, (i) => u[i] >= rate ? x.data[i] / (1 - attrs.rate) : 0);
}

const dropoutOp = /* @__PURE__ */ defineOp<DropoutAttrs>({
  name: "dropout",
  dtypes: "any",
  forward([x, step], attrs, save) {
    if (step) save(step);
    return [drop(x, step, attrs)];
  },
  backward: ({ grads: [dy], saved: [step] }, attrs) => [
    drop(dy!, step, attrs),
    undefined,
  ],
  reference: {
    forward: ([x, step], attrs) => [refDrop(x, step, attrs)],
    backward: ([, step], attrs, [dy]) => [refDrop(dy, step, attrs), undefined],
  },
});

/** Options of {@link dropout}. */
export interface DropoutOptions extends RandomOptions {
  /** Chance of an element to be dropped, from 0 to below 1. */
  readonly rate: number;
  /** Whole number below 2^32. */
  readonly seed: number;
}

/**
 * Sets elements to 0 with chance `rate` and divides the others by `1 - rate`. The mask follows from
 * seed, stream, step and position alone; give each use in a model its own `stream` and each
 * training step its own `step`.
 *
 * @throws {ShapeError} if the rate is not in [0, 1) or a number is no whole number below 2^32.
 */
export function dropout(x: Tensor, options: DropoutOptions): Tensor {
  needTensors("dropout", { x });
  needOptions("dropout", options, ["rate", "seed", "stream", "step"]);
  const { rate } = options;
  if (!(rate >= 0 && rate < 1)) throw new ShapeError(`dropout: the rate ${rate} is not in [0, 1)`);
  const { seed, stream, step } = needRandom("dropout", options.seed, options);
  return typeof step === "number"
    ? dropoutOp.apply([x], { rate, seed, stream, step })[0]
    : dropoutOp.apply([x, step], { rate, seed, stream, step: 0 })[0];
}
