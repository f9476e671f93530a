/**
 * How gradients are made of ops, by name of op.
 *
 * @module
 */
import type { Derivative } from "../op.ts";
import { elementwiseRule } from "./elementwise.ts";
import { FUSED } from "./fused.ts";
import { PRODUCTS } from "./products.ts";
import { REDUCTIONS } from "./reductions.ts";
import type { Entry } from "./rules.ts";
import { SHAPES } from "./shapes.ts";

/** The rule for an op of the engine, undefined where there is none. */
export function derivativeOf(name: string, attrs: unknown): Derivative | undefined {
  const table = [SHAPES, PRODUCTS, REDUCTIONS, FUSED].find((it) => Object.hasOwn(it, name));
  const entry: Entry | undefined = table?.[name] ?? elementwiseRule(name);
  const chosen = typeof entry === "object" && "choose" in entry
    ? entry.choose(attrs as never)
    : entry;
  return chosen as Derivative | undefined;
}
