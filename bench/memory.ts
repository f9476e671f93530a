/**
 * Kernels that are bound by memory, counted in bytes that have to be moved.
 *
 * @module
 */
import { prepared } from "./case.ts";
import type { Benchmark } from "./harness.ts";
import type { Entry } from "./memory_entry.ts";
import {
  adamEntry,
  castEntry,
  emaEntry,
  geluEntry,
  gradientNormEntry,
  reduceEntry,
  tokensEntry,
  varianceBackward,
} from "./memory_flat.ts";
import {
  cosineEntry,
  crossEntropyEntry,
  layerNormBackward,
  layerNormForward,
  normalizeEntry,
  residualNormBackward,
  residualNormForward,
  softmaxEntry,
} from "./memory_rows.ts";

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
  reduceEntry("sum", 0, [1072, 768], "quick"),
  reduceEntry("sum", 0, [16384, 768], "full"),
  reduceEntry("sum", 1, [16384, 768], "quick"),
  reduceEntry("sum", 1, [8, 1900, 768], "quick"),
  reduceEntry("max", 1, [8, 1900, 768], "full"),
  reduceEntry("variance", 0, [16384, 768], "quick"),
  reduceEntry("variance", 1, [16384, 768], "quick"),
  varianceBackward(16384, 768, "quick"),
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
