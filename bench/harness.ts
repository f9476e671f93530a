/**
 * Timing on a device whose work runs behind the script's back.
 *
 * @module
 */
import type { Device } from "../engine/mod.ts";

/** A measured time. */
export interface Timing {
  /** Median, ms. */
  readonly ms: number;
  /** Half the distance between the quartiles over the median. */
  readonly spread: number;
}

/** Repetitions of one measurement, the first of which warms up. */
export interface Repeats {
  /** Measurements taken. */
  readonly count: number;
  /** Each lasts at least this long; short work is repeated within one. */
  readonly minimumMs: number;
}

/**
 * Median time of `work`, which records dispatches without waiting for them.
 *
 * @param work called many times; must free what it makes
 */
export async function time(
  device: Device,
  work: () => void,
  { count, minimumMs }: Repeats,
): Promise<Timing> {
  const once = async (rounds: number): Promise<number> => {
    const start = performance.now();
    for (let i = 0; i < rounds; i++) work();
    await device.sync();
    return performance.now() - start;
  };
  await once(1);
  // Waiting for the device takes about 11 ms on Deno, so that it is measured and taken off.
  const idle = await once(0);
  const first = Math.max(0.05, await once(1) - idle);
  const rounds = Math.max(1, Math.ceil(minimumMs / first));
  const times: number[] = [];
  for (let i = 0; i < count; i++) times.push(Math.max(1e-4, await once(rounds) - idle) / rounds);
  times.sort((a, b) => a - b);
  const at = (q: number) => times[Math.round(q * (times.length - 1))];
  return { ms: at(0.5), spread: (at(0.75) - at(0.25)) / 2 / at(0.5) };
}

/** Adds up the time spent in one method of an object until it is disposed. */
export function stopwatch<K extends string>(
  target: Record<K, unknown> | object,
  method: K,
): { ms: number } & Disposable {
  const owner = target as Record<string, (...words: unknown[]) => unknown>;
  const watch = {
    ms: 0,
    [Symbol.dispose]: () => {
      delete owner[method];
    },
  };
  const original = owner[method].bind(target);
  owner[method] = (...words) => {
    const start = performance.now();
    try {
      return original(...words);
    } finally {
      watch.ms += performance.now() - start;
    }
  };
  return watch;
}
