/**
 * What ops are tried on: the tables of `tests/samples/`, by name of op.
 *
 * @module
 */
import * as engine from "../../engine/mod.ts";
import { type Op, type RefArray, registry } from "../../engine/op.ts";
import { refFrom } from "../../engine/reference.ts";
import type { Tensor } from "../../engine/tensor.ts";

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
  /**
   * Whether the quick tier takes it, which takes one where no sample of an op says so. `false` for
   * all samples of an op is for rows of a table that another quick test takes all at once.
   */
  readonly quick?: boolean;
}

/** Samples of ops by name: odd sizes, 1, primes, extremes. */
export type Samples = Readonly<Record<string, () => readonly Sample[]>>;

/** A function that is made of ops, without a backward of its own. */
export interface Composed {
  /** The ops that it is made of; its row of the table of ops is what they have in common. */
  readonly of: readonly string[];
  /** Whether it takes floats alone, although these ops take integers as well. */
  readonly floats?: true;
  /** What it is tried on, where its ops' own samples leave something open. */
  readonly trial?: Trial;
}

/** A composed function on samples, whose attributes are whatever the two functions agree on. */
export interface Trial {
  /** The function. */
  apply(inputs: readonly Tensor[], attrs: unknown): Tensor | readonly Tensor[];
  /** The same in float64; gradients are held against its central differences. */
  reference(inputs: readonly RefArray[], attrs: unknown): RefArray | readonly RefArray[];
  readonly samples: () => readonly Sample[];
}

/** A trial of one attribute type. */
export function trial<A>(
  apply: (inputs: readonly Tensor[], attrs: A) => Tensor | readonly Tensor[],
  reference: (inputs: readonly RefArray[], attrs: A) => RefArray | readonly RefArray[],
  samples: () => readonly (Sample & { readonly attrs: A })[],
): Trial {
  return { apply, reference, samples } as Trial;
}

/** Composed functions by name. */
export type ComposedFunctions = Readonly<Record<string, Composed>>;

/** An op, or a function that is made of ops, and what it is tried on. */
export interface SampledOp {
  readonly op: Op<unknown>;
  readonly samples: readonly Sample[];
  /** What it is made of, if it is no op of its own. */
  readonly of?: readonly string[];
  /** As {@link Composed} has it. */
  readonly floats?: true;
}

/**
 * The samples of the quick tier: those that say so, or else the second, the first being the
 * smallest.
 */
export function quickSamples(samples: readonly Sample[]): readonly Sample[] {
  const quick = samples.filter((sample) => sample.quick);
  const none = samples.length > 0 && samples.every((sample) => sample.quick === false);
  return quick.length > 0 || none ? quick : samples.slice(0, 2).slice(-1);
}

const OPS = new URL("../../engine/ops/", import.meta.url);
const TABLES = new URL("../samples/", import.meta.url);

/** Imports every module of a folder, in the order of the files' names. */
async function modulesOf(folder: URL): Promise<Record<string, unknown>[]> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  return await Promise.all(names.map((name) => import(new URL(name, folder).href)));
}

const listOf = <T>(value: T | readonly T[]): readonly T[] =>
  Array.isArray(value) ? value : [value as T];

/** Gradients of a function's inputs by central differences, in float64. */
function differences(
  forward: (inputs: readonly RefArray[]) => readonly RefArray[],
  inputs: readonly RefArray[],
  grads: readonly RefArray[],
): RefArray[] {
  const h = 1e-5;
  const loss = (i: number, k: number, by: number) =>
    forward(
      inputs.map((x, j) => j === i ? refFrom(x.shape, (n) => x.data[n] + by * +(n === k)) : x),
    )
      .reduce((sum, y, o) => sum + y.data.reduce((s, v, n) => s + v * grads[o].data[n], 0), 0);
  return inputs.map((x, i) => refFrom(x.shape, (k) => (loss(i, k, h) - loss(i, k, -h)) / (2 * h)));
}

/** A composed function as ops are, so that the same tests hold it. */
export function asOp(name: string, { of, floats, trial }: Composed): SampledOp {
  const parts = of.map((part) => {
    const op = registry().get(part);
    if (!op) throw new Error(`tests/samples/: ${name} is made of "${part}", which is no op`);
    return op;
  });
  const forward = (inputs: readonly RefArray[], attrs: unknown) =>
    listOf(trial!.reference(inputs, attrs));
  const op: Op<unknown> = {
    name,
    half: parts.every(({ half }) => half),
    apply: (inputs, attrs) => listOf(trial!.apply(inputs, attrs)),
    forward: (inputs, attrs) => listOf(trial!.apply(inputs, attrs)),
    backward: parts.every(({ backward }) => backward) ? () => [] : undefined,
    reference: {
      forward,
      backward: (inputs, attrs, grads) => differences((x) => forward(x, attrs), inputs, grads),
    },
  };
  const samples = trial?.samples().map((it) => ({ ...it, skipDifferences: true })) ?? [];
  return { op, samples, of, floats };
}

/**
 * All ops that `engine/ops/` defines, with their samples: none where `tests/samples/` has none.
 *
 * @throws {Error} if samples stand under a name that no op has.
 */
export async function sampledOps(): Promise<SampledOp[]> {
  await modulesOf(OPS);
  const tables = await modulesOf(TABLES);
  const all = new Map(tables.flatMap(({ samples }) => Object.entries((samples ?? {}) as Samples)));
  for (const name of all.keys()) {
    if (!registry().has(name)) throw new Error(`tests/samples/: no op has the name "${name}"`);
  }
  return [...registry().values()].map((op) => ({ op, samples: all.get(op.name)?.() ?? [] }));
}

/**
 * The functions of `engine/ops/` that are made of ops, as `composed` of the files of
 * `tests/samples/` names them.
 *
 * @throws {Error} if `engine/mod.ts` exports a function of `engine/ops/` that is neither there nor
 * an op: it would have no row in the table of ops.
 */
export async function composedOps(): Promise<SampledOp[]> {
  const exported = new Set((await modulesOf(OPS)).flatMap((it) => Object.values(it)));
  const composed = (await modulesOf(TABLES)).flatMap((it) =>
    Object.entries((it.composed ?? {}) as ComposedFunctions)
  );
  const listed = new Set([...registry().keys(), ...composed.map(([name]) => name)]);
  const missing = Object.entries(engine).find(([name, value]) =>
    typeof value === "function" && exported.has(value) && !listed.has(name)
  );
  if (missing) {
    throw new Error(
      `${missing[0]} has no row in the table of ops: name the ops that it is made of in ` +
        "`composed` of the file of tests/samples/ that belongs to its own",
    );
  }
  return composed.map(([name, it]) => asOp(name, it));
}
