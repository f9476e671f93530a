/** Inputs that the ops of `engine/ops/bitwise.ts` are tried on. */
import type { ComposedFunctions, Samples } from "../support/samples.ts";
import { whole } from "./elementwise.ts";

const integers = () => [whole("i32"), whole("u32")];

export const samples: Samples = {
  bitwiseAnd: integers,
  bitwiseOr: integers,
  bitwiseXor: integers,
  leftShift: integers,
  rightShift: integers,
};

export const composed: ComposedFunctions = { bitwiseNot: { of: ["bitwiseXor"] } };
