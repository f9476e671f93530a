/**
 * `defineOp` is the one place that says what an op is: its forward and backward on the GPU and
 * the same in plain float64 TypeScript. Tests go through the registry
 * (engine/README.md, Adding an op).
 *
 * @module
 */
import { needTensors } from "./arguments.ts";
import { callSite } from "./anomaly.ts";
import { isFloat } from "./dtype.ts";
import { LifetimeError, ShapeError } from "./errors.ts";
import { converted, materialize } from "./launch/copy.ts";
import { scopeOf } from "./scope.ts";
import { type Shape, show } from "./shape.ts";
import {
  type BackwardContext,
  type Call,
  edgeOf,
  isRecording,
  Node,
  noteReads,
  retain,
} from "./tape.ts";
import { Tensor } from "./tensor.ts";

/** A dense float64 array: what references compute with. */
export interface RefArray {
  /** Sizes of the axes. */
  readonly shape: Shape;
  /** Values, row-major. */
  readonly data: Float64Array;
}

/** Plain float64 version of an op. */
export interface Reference<A> {
  /** Outputs for the inputs. */
  forward(inputs: readonly RefArray[], attrs: A): readonly RefArray[];
  /** Gradients of the inputs, for gradients of the outputs. */
  backward?(
    inputs: readonly RefArray[],
    attrs: A,
    grads: readonly RefArray[],
  ): readonly (RefArray | undefined)[];
}

/** What a {@link Derivative} is given: tensors on the tape, f16 widened to f32. */
export interface DerivativeContext {
  /** Gradients of the outputs; undefined where nothing depends on an output. */
  readonly grads: readonly (Tensor | undefined)[];
  /** Inputs that `forward` saved, by index; no others are there. */
  readonly inputs: readonly Tensor[];
  /** Outputs that `forward` saved, by index. */
  readonly outputs: readonly Tensor[];
  /** All that `forward` saved, in order, as values without a gradient. */
  readonly saved: readonly Tensor[];
  /** Shapes of the inputs. */
  readonly shapes: readonly Shape[];
  /** Which inputs want a gradient. */
  readonly needs: readonly boolean[];
  /** The op. */
  readonly op: Op<never>;
}

/**
 * The gradient of an op made of ops, so that it has a graph itself (`grad` with `createGraph`):
 *
 * - a function that gives for each input what makes its gradient, of the input's shape or of one
 *   that it broadcasts to; undefined where none flows;
 * - `"linear"` for an op that is linear in its first operands and saves the others: the gradient of
 *   its gradient is the op itself;
 * - `adjoint` for one that is linear in its first `operands` (default all of them), given what it
 *   saved: what it makes of others;
 * - `forward` for the op made of others, of all its operands: those that it saved, or what
 *   `operands` makes of that. One that was not saved, as a bias, is zeros.
 */
export type Derivative<A = unknown> =
  | ((context: DerivativeContext, attrs: A) => readonly ((() => Tensor) | undefined)[])
  | "linear"
  | {
    readonly operands?: number;
    adjoint(
      operands: readonly Tensor[],
      context: { readonly saved: readonly Tensor[]; readonly op: Op<A> },
      attrs: A,
    ): readonly Tensor[];
  }
  | {
    operands?(saved: readonly Tensor[]): readonly Tensor[];
    forward(operands: readonly Tensor[], attrs: A): readonly Tensor[];
  };

/** What an op is. */
export interface OpSpec<A> {
  /** Name in messages and tables. */
  readonly name: string;
  /**
   * Whether forward and backward take strided views; otherwise inputs and gradients arrive dense.
   */
  readonly strided?: boolean;
  /**
   * Element types of the operands: f32 throughout, or f16 throughout, unless said otherwise; `same`
   * takes any one type, `any` leaves the check to the op.
   */
  readonly dtypes?: "same" | "any";
  /**
   * Whether forward and backward take f16 operands, results then being f16 as well; otherwise f16
   * operands are widened to f32 before them and f32 results and gradients narrowed after.
   */
  readonly half?: boolean;
  /** Outputs that carry no gradient, by index. */
  readonly auxiliary?: readonly number[];
  /**
   * For each saved tensor, the inputs whose gradients need its values; default all. Where none of
   * them wants a gradient, the tensor may be overwritten before the backward pass.
   */
  readonly savedFor?: readonly (readonly number[])[];
  /** Checks shapes and computes the outputs. `save` keeps a tensor for backward. */
  forward(inputs: readonly Tensor[], attrs: A, save: (tensor: Tensor) => void): readonly Tensor[];
  /** Gradients of the inputs. */
  backward?(context: BackwardContext, attrs: A): readonly (Tensor | undefined)[];
  /** The gradients made of ops; without it a graph of them is refused. */
  readonly derivative?: Derivative<A>;
  /** The same in float64. */
  readonly reference: Reference<A>;
}

/** A defined op. */
export interface Op<A> extends OpSpec<A> {
  /**
   * Runs the op and records it when an input wants gradients.
   *
   * @throws {LifetimeError} if inputs live on different devices or were disposed.
   * @throws {ShapeError} if shapes or attributes do not fit.
   */
  apply(inputs: readonly Tensor[], attrs: A): readonly Tensor[];
}

const ops = new Map<string, Op<never>>();

/** All ops by name. */
export function registry(): ReadonlyMap<string, Op<unknown>> {
  return ops as unknown as ReadonlyMap<string, Op<unknown>>;
}

function checkOperand(
  { name, dtypes }: { name: string; dtypes?: "same" | "any" },
  input: Tensor,
  inputs: readonly Tensor[],
): void {
  const [first] = inputs;
  if (input.disposed) {
    throw new LifetimeError(
      `${name}: an operand ${show(input.shape)} was used after it was disposed`,
    );
  }
  if (input.device !== first.device) {
    throw new LifetimeError(
      `${name}: operands ${
        inputs.map(({ shape }) => show(shape)).join(", ")
      } live on different devices`,
    );
  }
  const needed = dtypes === "any"
    ? input.dtype
    : dtypes === "same" || isFloat(first.dtype)
    ? first.dtype
    : "f32";
  if (input.dtype !== needed) {
    const given = inputs.map(({ shape, dtype }) => `${show(shape)} of ${dtype}`).join(", ");
    throw new ShapeError(`${name}: operands ${given}: ${needed} is needed throughout`);
  }
}

const widen = (x: Tensor): Tensor => x.dtype === "f16" ? converted(x, "f32") : x;
const narrow = (y: Tensor): Tensor => y.dtype === "f32" ? converted(y, "f16") : y;

/** Calls a launcher for an op; sizes that an adapter cannot do are refused by the op's name. */
function launched<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof RangeError) || /^\w+: /.test(error.message)) throw error;
    throw new RangeError(`${name}: ${error.message}`, { cause: error });
  }
}

/** Backward of an op that computes in f32 only. */
function promotedBackward<A>(
  spec: OpSpec<A>,
  context: BackwardContext,
  attrs: A,
): readonly (Tensor | undefined)[] {
  const { dtypes } = context;
  const results = spec.backward!(
    {
      ...context,
      grads: context.grads.map((grad) => grad && widen(grad)),
      into: (i) => dtypes[i] === "f16" ? undefined : context.into(i),
      arrived: (i) => dtypes[i] === "f16" ? undefined : context.arrived(i),
    },
    attrs,
  );
  return results.map((grad, i) => grad && dtypes[i] === "f16" ? narrow(grad) : grad);
}

/**
 * Defines and registers an op; engine/README.md, Adding an op, shows how.
 *
 * @throws {Error} if there is one of that name.
 */
export function defineOp<A>(spec: OpSpec<A>): Op<A> {
  const op: Op<A> = {
    ...spec,
    apply(inputs: readonly Tensor[], attrs: A): readonly Tensor[] {
      if (!inputs.every((it) => it instanceof Tensor)) {
        needTensors(spec.name, Object.fromEntries(inputs.map((it, i) => [`operand ${i}`, it])));
      }
      const device = inputs[0].device;
      for (const input of inputs) checkOperand(spec, input, inputs);
      noteReads(inputs);
      const anomalies = device.anomalies;
      const site = anomalies && callSite();

      const record = spec.backward !== undefined && isRecording() &&
        inputs.some((input) => input.node !== undefined || input.requiresGrad);
      const promoted = !spec.half && inputs.some(({ dtype }) => dtype === "f16");
      const saved: Tensor[] = [];
      let kept!: Pick<Call, "savedInputs" | "savedOutputs">;
      const outputs = scopeOf(() => {
        const widened = promoted ? inputs.map(widen) : inputs;
        const prepared = spec.strided ? widened : widened.map(materialize);
        const toSave: Tensor[] = [];
        const save = (tensor: Tensor) => void (record && toSave.push(tensor));
        const results = launched(spec.name, () => spec.forward(prepared, attrs, save));
        const outputs = promoted
          ? results.map((y, i) => spec.auxiliary?.includes(i) ? y : narrow(y))
          : results;
        if (record) {
          kept = {
            savedInputs: prepared.map((it) => toSave.indexOf(it)),
            savedOutputs: results.map((it) => toSave.indexOf(it)),
          };
          for (const tensor of toSave) saved.push(retain(tensor));
        }
        return outputs;
      }, (outputs) => record ? [...outputs, ...saved] : outputs);
      if (anomalies) anomalies.check(spec.name, "forward", inputs, outputs, site!);
      if (record) {
        const node = new Node({
          name: spec.name,
          run: (context) =>
            launched(
              spec.name,
              () =>
                promoted ? promotedBackward(spec, context, attrs) : spec.backward!(context, attrs),
            ),
          strided: spec.strided,
          device,
          shapes: inputs.map((input) => input.shape),
          dtypes: inputs.map((input) => input.dtype),
          edges: inputs.map(edgeOf),
          saved,
          outputs: outputs.length,
          isNeeded: (k) =>
            spec.savedFor?.[k]?.some((i) => inputs[i].node || inputs[i].requiresGrad) ?? true,
          site,
          call: { op: op as Op<unknown>, attrs, ...kept },
          derivative: spec.derivative as Derivative | undefined,
        });
        outputs.forEach((output, i) => {
          if (spec.auxiliary?.includes(i)) return;
          output.node = node;
          output.nodeOutput = i;
        });
      }
      return outputs;
    },
  };
  if (ops.has(spec.name)) throw new Error(`the op "${spec.name}" is defined twice`);
  ops.set(spec.name, op as unknown as Op<never>);
  return op;
}
