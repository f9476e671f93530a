/**
 * What ops are tried on: the tables of `tests/samples/`, by name of op.
 *
 * @module
 */
import { type Op, type RefArray, registry } from "../../engine/op.ts";

/** Inputs to try an op on. */
export interface Sample {
  /** What is special about it. */
  readonly label: string;
  /** Float inputs are checked for gradients unless named in {@link constant}. */
  readonly inputs: readonly RefArray[];
  /** Dtype of inputs that are not f32, by index. */
  readonly integer?: Readonly<Record<number, "u32" | "i32">>;
  /** Indices of inputs that get no gradient check. */
  readonly constant?: readonly number[];
  /** Attributes. */
  readonly attrs: unknown;
  /**
   * Largest error relative to the largest reference value, with the reason; default 2e-6 (a few f32
   * ulp).
   */
  readonly tolerance?: number;
  /**
   * The same with f16 operands, with the reason; default 2^-10, twice the rounding of a result (and
   * of what is saved for backward).
   */
  readonly halfTolerance?: number;
  /** Skip finite differences where the function has kinks or the values are extreme. */
  readonly skipDifferences?: boolean;
  /** Whether the quick tier takes it, which takes one where no sample of an op says so. */
  readonly quick?: boolean;
}

/** Samples of ops by name: odd sizes, 1, primes, extremes. */
export type Samples = Readonly<Record<string, () => readonly Sample[]>>;

/** An op and what it is tried on. */
export interface SampledOp {
  readonly op: Op<unknown>;
  readonly samples: readonly Sample[];
}

/**
 * The samples of the quick tier: those that say so, or else the second, the first being the
 * smallest.
 */
export function quickSamples(samples: readonly Sample[]): readonly Sample[] {
  const quick = samples.filter((sample) => sample.quick);
  return quick.length > 0 ? quick : samples.slice(0, 2).slice(-1);
}

/** Imports every module of a folder, in the order of the files' names. */
async function modulesOf(folder: URL): Promise<Record<string, unknown>[]> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  return await Promise.all(names.map((name) => import(new URL(name, folder).href)));
}

/**
 * All ops that `engine/ops/` defines, with their samples: none where `tests/samples/` has none.
 *
 * @throws {Error} if samples stand under a name that no op has.
 */
export async function sampledOps(): Promise<SampledOp[]> {
  await modulesOf(new URL("../../engine/ops/", import.meta.url));
  const tables = await modulesOf(new URL("../samples/", import.meta.url));
  const all = new Map(tables.flatMap(({ samples }) => Object.entries(samples as Samples)));
  for (const name of all.keys()) {
    if (!registry().has(name)) throw new Error(`tests/samples/: no op has the name "${name}"`);
  }
  return [...registry().values()].map((op) => ({ op, samples: all.get(op.name)?.() ?? [] }));
}
