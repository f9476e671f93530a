/**
 * Everything that is measured, in the order of the report.
 *
 * @module
 */
import type { DeviceFeatures } from "../engine/mod.ts";
import { ATTENTION_BENCHMARKS } from "./attention.ts";
import { EMBED_BENCHMARKS } from "./embed.ts";
import { FRONTEND_BENCHMARKS } from "./frontend.ts";
import { GEMM_BENCHMARKS } from "./gemm.ts";
import type { Benchmark } from "./harness.ts";
import { MEMORY_BENCHMARKS } from "./memory.ts";
import { PRETRAINED_BENCHMARKS } from "./pretrained.ts";
import { SMALL_BENCHMARKS } from "./small.ts";
import { STEP_BENCHMARKS } from "./step.ts";

/** All benchmarks. */
export const BENCHMARKS: readonly Benchmark[] = [
  ...GEMM_BENCHMARKS,
  ...ATTENTION_BENCHMARKS,
  ...MEMORY_BENCHMARKS,
  ...FRONTEND_BENCHMARKS,
  ...SMALL_BENCHMARKS,
  ...STEP_BENCHMARKS,
  ...EMBED_BENCHMARKS,
  ...PRETRAINED_BENCHMARKS,
];

/** What is asked for of {@link BENCHMARKS}. */
export interface Choice {
  readonly pattern: RegExp;
  readonly quick: boolean;
  /** Only what `bench/baseline.json` expects something of; with `quick` the short list alone. */
  readonly check: boolean;
}

/** The benchmarks of a choice that the adapter can run, in order. */
export function choose(
  { pattern, quick, check }: Choice,
  features: DeviceFeatures,
): readonly Benchmark[] {
  return BENCHMARKS.filter(({ name, tier, needs }) =>
    pattern.test(name) && (needs === undefined || features[needs]) &&
    (!quick || tier === "check" || (tier === "quick" && !check))
  );
}
