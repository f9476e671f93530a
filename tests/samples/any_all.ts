/** What the functions of `engine/ops/any_all.ts` are made of. */
import type { ComposedFunctions } from "../support/samples.ts";

export const composed: ComposedFunctions = {
  any: { of: ["notEqual"] },
  all: { of: ["notEqual"] },
};
