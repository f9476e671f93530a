/**
 * Functions as methods of tensors: `x.add(y).relu().mean()`. A method is the function of the same
 * name with the tensor as its first argument. Internal to mod.ts, which imports it for its effect.
 *
 * @module
 */
import * as functions from "./functions.ts";
import * as unary from "./ops/unary.ts";

/** Functions that are methods, by name, beside those of ops/unary.ts, which all are. */
export const METHOD_NAMES = [
  // Arithmetic and comparisons.
  "add",
  "sub",
  "mul",
  "div",
  "idiv",
  "mod",
  "pow",
  "maximum",
  "minimum",
  "atan2",
  "logaddexp",
  "hypot",
  "lerp",
  "isclose",
  "allclose",
  "clamp",
  "elu",
  "prelu",
  "glu",
  "leakyRelu",
  "equal",
  "notEqual",
  "less",
  "lessEqual",
  "greater",
  "greaterEqual",
  "logicalAnd",
  "logicalOr",
  "logicalXor",
  "logicalNot",
  "bitwiseAnd",
  "bitwiseOr",
  "bitwiseXor",
  "bitwiseNot",
  "leftShift",
  "rightShift",
  "cast",
  // Products.
  "matmul",
  "tensordot",
  "outer",
  // Along axes.
  "sum",
  "mean",
  "max",
  "min",
  "any",
  "all",
  "variance",
  "std",
  "prod",
  "norm",
  "logsumexp",
  "logcumsumexp",
  "median",
  "quantile",
  "countNonzero",
  "cumsum",
  "cumprod",
  "cummax",
  "cummin",
  "diff",
  "softmax",
  "logSoftmax",
  "sort",
  "argsort",
  "argmax",
  "argmin",
  "topk",
  // Shapes and views.
  "at",
  "reshape",
  "permute",
  "transpose",
  "contiguous",
  "detach",
  "slice",
  "expand",
  "split",
  "repeat",
  "pad",
  "squeeze",
  "unsqueeze",
  "flatten",
  "swapaxes",
  "moveaxis",
  "flip",
  "roll",
  "chunk",
  "tile",
  "repeatInterleave",
  "diag",
  "diagonal",
  "diagEmbed",
  "tril",
  "triu",
  // By index and mask.
  "gather",
  "takeAlong",
  "scatter",
  "indexSelect",
  "take",
  "oneHot",
  "maskedFill",
  "nonzero",
  "unique",
  "bincount",
  "histogram",
  // Gradients, and tensors like others.
  "backward",
  "zerosLike",
  "onesLike",
  "fullLike",
] as const;

/** A function of a tensor as its method. */
export type Method<F> = F extends (x: functions.Tensor, ...rest: infer R) => infer Y
  ? (...rest: R) => Y
  : never;

/** The methods that tensors have of functions. */
export type Methods = {
  readonly [K in (typeof METHOD_NAMES)[number] | keyof typeof unary]: Method<(typeof functions)[K]>;
};

for (const [name, value] of Object.entries(functions)) {
  if (!(METHOD_NAMES as readonly string[]).includes(name) && !(name in unary)) continue;
  const call = value as (x: functions.Tensor, ...rest: unknown[]) => unknown;
  Object.defineProperty(functions.Tensor.prototype, name, {
    value(this: functions.Tensor, ...rest: unknown[]) {
      return call(this, ...rest);
    },
  });
}
