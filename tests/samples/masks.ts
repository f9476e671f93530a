/** What the functions of `engine/ops/masks.ts` are made of. */
import type { ComposedFunctions } from "../support/samples.ts";

export const composed: ComposedFunctions = {
  maskedFill: { of: ["where"] },
  nonzero: { of: ["notEqual"] },
};
