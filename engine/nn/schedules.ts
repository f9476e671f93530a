/**
 * Schedules: values that change from update to update, such as learning rates. Updates count from
 * 0; update u uses value(u). Each refuses what is no finite number by a `ShapeError`.
 *
 * @module
 */

import { needNumber, needWhole } from "../arguments.ts";

/** A value for every update, counted from 0. */
export type Schedule = (update: number) => number;

/** Share of `total` updates that are done, from 0 to 1; of none, all are. */
const progress = (update: number, total: number): number =>
  total > 0 ? Math.min(1, update / total) : 1;

/** The same value at all times. */
export function constantRate(rate: number): Schedule {
  needNumber("constantRate", "the rate", rate);
  return () => rate;
}

/**
 * Linear from `start` to `end`, which stays.
 *
 * @param total updates until the end; 0 is `end` from the first update on
 */
export function linearRamp(start: number, end: number, total: number): Schedule {
  needNumber("linearRamp", "the start", start);
  needNumber("linearRamp", "the end", end);
  needNumber("linearRamp", "the total", total);
  // Exact at the end, where averages decay by almost 1 and digits of the difference count.
  return (update) => end - (end - start) * (1 - progress(update, total));
}

/**
 * Linear warm-up from 0 to `peak`, then half a cosine down to `floor`, which stays (Loshchilov and
 * Hutter, 2017, without restarts). The first update has rate 0 when there is a warm-up.
 *
 * @param warmup updates until the peak
 * @param total updates until the floor
 */
export function warmupCosine(peak: number, warmup: number, total: number, floor = 0): Schedule {
  for (const [name, value] of Object.entries({ peak, warmup, total, floor })) {
    needNumber("warmupCosine", `the ${name}`, value);
  }
  return (update) => {
    if (update < warmup) return peak * update / warmup;
    const done = progress(update - warmup, Math.max(1, total - warmup));
    return floor + 0.5 * (peak - floor) * (1 + Math.cos(Math.PI * done));
  };
}

/** `start factor^u`. */
export function exponentialDecay(start: number, factor: number): Schedule {
  needNumber("exponentialDecay", "the start", start);
  needNumber("exponentialDecay", "the factor", factor);
  return (update) => start * factor ** update;
}

/** A rate that is multiplied by `factor` after every `every` updates. */
export function stepDecay(rate: number, every: number, factor = 0.1): Schedule {
  needNumber("stepDecay", "the rate", rate);
  needWhole("stepDecay", "the count of updates", every, 1);
  needNumber("stepDecay", "the factor", factor);
  return (update) => rate * factor ** Math.floor(update / every);
}
