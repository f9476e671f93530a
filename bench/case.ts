/**
 * From operands and functions to something that the harness can time.
 *
 * @module
 */
import {
  type Device,
  noGrad,
  randomNormal,
  scope,
  type Shape,
  type Tensor,
} from "../engine/mod.ts";
import type { Extra, Prepared, Rival } from "./harness.ts";

/** How something else computes what a benchmark computes. */
export interface RivalSpec {
  /**
   * What is timed: results in the order of {@link CaseSpec.compared}; each may hold only the first
   * part.
   */
  outputs(): readonly Tensor[];
  /** Results to compare where `outputs` works in place; not timed. */
  compared?(): readonly Tensor[];
  /** Share of the work that it does; default 1. */
  readonly share?: number;
  /**
   * Largest difference relative to the largest value; default 1e-5, some f32 roundings in another
   * order.
   */
  readonly tolerance?: number;
}

/** A benchmark with its operands made. */
export interface CaseSpec {
  /** Freed at the end. */
  readonly operands: readonly Tensor[];
  /** What is timed; returns results, which are freed. */
  outputs(): readonly Tensor[];
  /** Whether `outputs` frees what it makes itself; default false. */
  readonly owner?: boolean;
  /** The results as rivals lay them out, where that differs; not timed. */
  compared?(): readonly Tensor[];
  readonly naive?: RivalSpec;
  readonly composed?: RivalSpec;
  extra?(ms: number): Extra;
  /** Frees what is no tensor. */
  close?(): void;
}

/** Makes a benchmark's operands timeable. */
export function prepared(name: string, spec: CaseSpec): Prepared {
  const rival = (label: string, other: RivalSpec | undefined): Rival | undefined =>
    other && {
      run: () => scope(() => void other.outputs()),
      share: other.share ?? 1,
      agree: () =>
        agree(
          `${name}: ${label}`,
          (spec.compared ?? spec.outputs).bind(spec),
          (other.compared ?? other.outputs).bind(other),
          other.tolerance ?? 1e-5,
        ),
    };
  return {
    run: spec.owner ? () => void spec.outputs() : () => scope(() => void spec.outputs()),
    naive: rival("the naive kernel", spec.naive),
    composed: rival("the composition", spec.composed),
    extra: spec.extra?.bind(spec),
    [Symbol.dispose]() {
      for (const operand of spec.operands) {
        // What backward was to read is held by the node of a result.
        operand.node?.free();
        operand.dispose();
      }
      spec.close?.();
    },
  };
}

/**
 * Largest difference of the leading parts of two arrays, relative to the largest value of the
 * first.
 */
export function relativeError(ours: ArrayLike<number>, theirs: ArrayLike<number>): number {
  let [difference, largest] = [0, 0];
  for (let i = 0; i < theirs.length; i++) {
    const apart = Math.abs(ours[i] - theirs[i]);
    if (Number.isNaN(apart)) return Infinity;
    difference = Math.max(difference, apart);
    largest = Math.max(largest, Math.abs(ours[i]));
  }
  return difference === 0 ? 0 : difference / largest;
}

async function agree(
  label: string,
  ours: () => readonly Tensor[],
  theirs: () => readonly Tensor[],
  tolerance: number,
): Promise<void> {
  // Handles of their own: an output may be a gradient that its leaf keeps.
  const read = async (make: () => readonly Tensor[]) => {
    const tensors = scope(() => make().map((it) => it.view(it.shape, it.strides)));
    const values = await tensors[0].device.read(tensors);
    tensors.forEach((it) => it.dispose());
    return values;
  };
  const [a, b] = [await read(ours), await read(theirs)];
  b.forEach((values, i) => {
    const error = relativeError(a[i], values);
    if (!(error <= tolerance)) {
      throw new Error(
        `${label} disagrees with ours: output ${i} is off by ${error.toExponential(1)} of the ` +
          `largest value, ${tolerance.toExponential(1)} is allowed`,
      );
    }
  });
}

let seed = 0;

/** Normally distributed operands, other ones at each call. */
export function random(device: Device, shape: Shape, scale = 1): Tensor {
  return randomNormal(device, shape, ++seed, { deviation: scale });
}

/**
 * The backward function of the op that made `y`, to be run again and again; `y` must stay alive.
 *
 * @param results outputs of one op, each with its gradient
 * @returns gradients of the op's inputs
 */
export function backwardOf(
  ...results: readonly (readonly [y: Tensor, dy: Tensor])[]
): () => readonly Tensor[] {
  const node = results[0][0].node!;
  const grads: Tensor[] = [];
  for (const [y, dy] of results) grads[y.nodeOutput] = dy;
  const needs = node.edges.map((edge) => edge !== undefined);
  return () => noGrad(() => node.compute(grads, needs)).filter((it) => it !== undefined);
}

/**
 * How much of `whole` a slow kernel does on this adapter so that it stays near `affordable`; at
 * least one `step`.
 */
export function affordablePart(device: Device, whole: number, affordable: number): number {
  return device.info.software ? Math.max(1, Math.min(whole, Math.floor(affordable))) : whole;
}
