/**
 * Captured functions of any shape: a plan for each set of shapes, made at its first call.
 *
 * @module
 */
import { needDevice, needFunction, needOptions, needTensors, needWhole } from "./arguments.ts";
import type { Device } from "./device.ts";
import { LifetimeError } from "./errors.ts";
import { denseCopy } from "./launch/copy.ts";
import { capture, type Plan } from "./plan.ts";
import { scope } from "./scope.ts";
import { show } from "./shape.ts";
import { Tensor } from "./tensor.ts";

/** Settings of {@link jit}. */
export interface JitOptions {
  /** Most plans to keep; default 8, as PyTorch's `torch.compile`. Each has memory of its own. */
  readonly limit?: number;
}

/** A function that {@link jit} made. */
export interface Jitted<Inputs extends readonly Tensor[], Output> extends Disposable {
  (...inputs: Inputs): Output;
  /** Plans made so far, one for each set of shapes and element types. */
  readonly plans: number;
}

/**
 * `body` as a function that is captured at its first call with tensors of new shapes or element
 * types, and replayed at all others; JAX's `jax.jit`, PyTorch's `torch.compile`. Results are
 * tensors of the caller's own. Everything that {@link capture} says of `body` holds: it reads and
 * waits for nothing, numbers that it takes from outside are those of the first call, and tensors
 * that it uses besides its inputs must outlive the result.
 *
 * Beyond the limit, other shapes run op by op, which gives the same bits, and a warning on the
 * console says so once. Inside a function that is being captured, `body` becomes part of that.
 *
 * @param body synchronous; returns tensors, alone or in arrays and plain objects
 * @throws {KernelError} at a call that {@link capture} refuses.
 * @throws {LifetimeError} at a call after it was disposed.
 */
export function jit<Inputs extends readonly Tensor[], Output>(
  device: Device,
  body: (...inputs: Inputs) => Output,
  options: JitOptions = {},
): Jitted<Inputs, Output> {
  needDevice("jit", device);
  needFunction("jit", "the body", body);
  needOptions("jit", options, ["limit"]);
  const { limit = 8 } = options;
  needWhole("jit", "limit", limit, 1);
  const plans = new Map<string, Plan<Output>>();
  let warned = false;
  let disposed = false;

  // What is given is not what is returned: a plan's inputs are its own.
  const run = (...own: Tensor[]): Output =>
    mapTensors(body(...own as unknown as Inputs), (it) => own.includes(it) ? denseCopy(it) : it);

  const call = (...inputs: Inputs): Output => {
    needTensors("jit", Object.fromEntries(inputs.map((it, i) => [`input ${i}`, it])));
    if (disposed) throw new LifetimeError("jit: the function was called after it was disposed");
    if (device.capturing) return body(...inputs);
    const key = inputs.map(({ shape, dtype }) => `${show(shape)} of ${dtype}`).join(", ");
    let plan = plans.get(key);
    if (!plan && plans.size === limit) {
      if (!warned) {
        console.warn(
          `jit: ${limit} plans are kept, and for ${key} there is none: it runs op by op. Pass a ` +
            "larger limit, or pad inputs to a few shapes",
        );
      }
      warned = true;
      return scope(() => run(...inputs));
    }
    if (!plan) plans.set(key, plan = capture(device, inputs, run));
    // What was made outside, such as a parameter, is returned as it is.
    return mapTensors(
      plan.replay(inputs),
      (it) => it.isMadeBy(device.recorder) ? it : denseCopy(it),
    );
  };
  return Object.defineProperties(call, {
    plans: { get: () => plans.size },
    [Symbol.dispose]: {
      value() {
        disposed = true;
        for (const plan of plans.values()) plan[Symbol.dispose]();
        plans.clear();
      },
    },
  }) as Jitted<Inputs, Output>;
}

/** A value with other tensors, in arrays and plain objects as deep as scopes look. */
function mapTensors<T>(value: T, change: (tensor: Tensor) => Tensor, depth = 0): T {
  if (value instanceof Tensor) return change(value) as T;
  const leaf = value === null || typeof value !== "object" || ArrayBuffer.isView(value);
  if (leaf || depth > 3) return value;
  const entries = Object.entries(value).map(([name, it]) => [
    name,
    mapTensors(it, change, depth + 1),
  ]);
  return (Array.isArray(value) ? entries.map(([, it]) => it) : Object.fromEntries(entries)) as T;
}
