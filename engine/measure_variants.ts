/**
 * Measuring kernel variants, which tune.ts chooses among.
 *
 * @module
 */
import type { Device } from "./device.ts";
import { kernelDigest, sha256 } from "./kernel.ts";
import { scope } from "./scope.ts";
import type { Tunable } from "./tune.ts";

/**
 * What measurements depend on: the adapter as the driver describes it, the runtime, and the text of
 * every kernel.
 */
export async function fingerprint(device: Device): Promise<string> {
  const { vendor, architecture, device: name, description, subgroupSize } = device.info;
  const runtime = (globalThis as { Deno?: { version: { deno: string } } }).Deno?.version.deno;
  const { subgroups, f16 } = device.features;
  const parts = [vendor, architecture, name, description, subgroupSize, subgroups, f16, runtime];
  return (await sha256(`${parts.join("|")}|${await kernelDigest()}`)).slice(0, 16);
}

/** How {@link tune} measures. */
export interface TuneOptions {
  /** Rounds over the variants of a problem; default 5. */
  readonly rounds?: number;
  /** Milliseconds that one timed burst of launches should last at least; default 4. */
  readonly burstMs?: number;
  /** Told before each problem. */
  readonly progress?: (done: number, all: number, key: string) => void;
}

/** A variant must be faster by this much to replace the default: less is noise. */
const WORTHWHILE = 0.95;

/**
 * A variant that takes this many times as long as the default in the first round is timed no more.
 */
const HOPELESS = 3;

/**
 * Times every variant of each problem and remembers the fastest in {@link Device.tuning}. Variants
 * take turns, so that a machine that changes its speed does so for all of them; medians decide.
 *
 * @returns how many defaults were replaced
 * @throws {KernelError} if a variant does not compile.
 */
export async function tune(
  device: Device,
  open: readonly Tunable[],
  { rounds = 5, burstMs = 4, progress }: TuneOptions = {},
): Promise<number> {
  let replaced = 0;
  const burst = async (work: () => void, count: number): Promise<number> => {
    const start = performance.now();
    for (let i = 0; i < count; i++) work();
    await device.sync();
    return performance.now() - start;
  };
  for (const [i, { key, variants, run }] of open.entries()) {
    progress?.(i, open.length, key);
    const works = variants.map((variant) => () => scope(() => run(variant)));
    // The first launch compiles.
    for (const work of works) await burst(work, 1);
    // Waiting alone takes milliseconds on some runtimes.
    const idle = await burst(() => {}, 0);
    const time = async (work: () => void, count: number): Promise<number> =>
      Math.max(1e-3, await burst(work, count) - idle);
    const count = Math.max(1, Math.ceil(burstMs / Math.max(0.05, await time(works[0], 1))));
    const times: number[][] = works.map(() => []);
    for (let round = 0; round < rounds; round++) {
      for (const [v, work] of works.entries()) {
        if (round > 0 && times[v][0] > HOPELESS * times[0][0]) continue;
        times[v].push(await time(work, count));
      }
    }
    const medians = times.map((list) => list.sort((a, b) => a - b)[list.length >> 1]);
    const best = medians.indexOf(Math.min(...medians));
    const winner = medians[best] < WORTHWHILE * medians[0] ? best : 0;
    if (winner !== 0) replaced++;
    const ratios = Object.fromEntries(
      variants.map((variant, v) => [variant, Number((medians[v] / medians[0]).toPrecision(3))]),
    );
    device.tuning.load([[key, { variant: variants[winner], ratios }]]);
  }
  return replaced;
}
