/**
 * Reverse-mode differentiation. Ops record nodes; {@link backward} visits them from the newest to
 * the oldest and frees what they saved as it goes.
 *
 * @module
 */
import { kindOf, needFunction, needTensors } from "./arguments.ts";
import { type DType, isFloat } from "./dtype.ts";
import { KernelError, LifetimeError, ShapeError } from "./errors.ts";
import { scope } from "./scope.ts";
import { sameShape, type Shape, show } from "./shape.ts";
import type { Device } from "./device.ts";
import type { Recorder } from "./recorder.ts";
import { type GradientSlot, Storage, type Tensor } from "./tensor.ts";
import { accumulate, denseCopy, isBindable, materialize, sumOf } from "./launch/copy.ts";

/**
 * What a node knows of one input: what made it, or the leaf it is, or nothing when no gradient goes
 * there.
 */
export type Edge =
  | { readonly node: Node; readonly output: number }
  | { readonly leaf: Tensor }
  | undefined;

/** What an op's backward function is given. */
export interface BackwardContext {
  /**
   * Gradients of the outputs; undefined where nothing depends on an output. Dense unless the op is
   * strided.
   */
  readonly grads: readonly (Tensor | undefined)[];
  /** Tensors that the forward function saved, in order. */
  readonly saved: readonly Tensor[];
  /** Shapes of the inputs. */
  readonly shapes: readonly Shape[];
  /** Element types of the inputs. */
  readonly dtypes: readonly DType[];
  /** Which inputs want a gradient. */
  readonly needs: readonly boolean[];
  /**
   * Where the gradient of input `i` may be written directly: the leaf's own gradient memory when it
   * is empty. Returning that very tensor saves a copy.
   */
  into(i: number): Tensor | undefined;
}

/** The function behind a node: gradients of the inputs, undefined where none flows. */
export type BackwardFunction = (context: BackwardContext) => readonly (Tensor | undefined)[];

/** One recorded op. */
export class Node {
  static #next = 0;
  /** Creation order; inputs come before outputs. */
  readonly id: number = Node.#next++;
  /** Gradients collected so far, by output. */
  readonly grads: (Tensor | undefined)[];
  /** Where gradients go. */
  readonly edges: readonly Edge[];
  readonly #dtypes: readonly DType[];
  /** What the values of saved tensors are known by; undefined where none is needed. */
  readonly #versions: readonly (number | undefined)[];
  readonly #device: Device;
  readonly #recorder: Recorder;
  /** Whether a backward pass has been here. */
  freed = false;

  /** Made by ops. */
  constructor(
    /** Op name for messages. */
    readonly name: string,
    private readonly run: BackwardFunction,
    private readonly strided: boolean,
    /** Shapes of the inputs. */
    readonly shapes: readonly Shape[],
    inputs: readonly Tensor[],
    /** Handles that keep what backward needs alive; disposed after use. */
    readonly saved: readonly Tensor[],
    /** How many results there are. */
    outputs: number,
    /** Which of the saved tensors must keep their values until then; default all. */
    isNeeded: (saved: number) => boolean = () => true,
    /** Other memory that must keep its values, with what they are known by. */
    private readonly others: ReadonlyMap<Storage, number> = new Map(),
    /** Where the op was called, in anomaly mode. */
    readonly site?: Error,
  ) {
    this.grads = new Array(outputs).fill(undefined);
    this.#dtypes = inputs.map(({ dtype }) => dtype);
    this.#versions = saved.map((it, i) => isNeeded(i) ? it.storage.version : undefined);
    this.#device = inputs[0].device;
    this.#recorder = this.#device.recorder;
    this.edges = inputs.map((input) =>
      input.node
        ? { node: input.node, output: input.nodeOutput }
        : input.requiresGrad
        ? { leaf: input }
        : undefined
    );
  }

  /**
   * Throws where a backward pass would be wrong.
   *
   * @throws {LifetimeError} if values that the forward pass used were overwritten.
   * @throws {KernelError} if a plan is being recorded and the forward pass was outside.
   */
  verify(): void {
    const changed = this.saved.find((it, i) =>
      this.#versions[i] !== undefined && it.storage.version !== this.#versions[i]
    );
    const other = [...this.others].some(([storage, version]) => storage.version !== version);
    if (changed || other) {
      throw new LifetimeError(
        `backward: "${this.name}" needs the values that ${
          changed ? `a tensor ${show(changed.shape)}` : "the tensors of its body"
        } had in the forward pass, but they were overwritten since (by an optimizer's step, ` +
          "assign, fill, write, copy or a replay); go back before, or compute the loss after it",
      );
    }
    if (this.#device.recorder !== this.#recorder) {
      throw new KernelError(
        `backward: "${this.name}" ran before the function that is captured; a replay could not ` +
          "repeat it: compute the loss inside",
      );
    }
  }

  /** Runs the op's backward function and hands its results to the inputs. */
  propagate(): void {
    // Earlier nodes of this pass may have written into a gradient that this one saved.
    this.verify();
    const slots = this.edges.map((edge) =>
      edge && "leaf" in edge ? edge.leaf.gradientSlot() : undefined
    );
    const grads = this.grads.map((g) => g && !this.strided ? materialize(g) : g);
    const inPlace = new Set<number>();
    const results = scope(() => {
      const returned = this.run({
        grads,
        saved: this.saved,
        shapes: this.shapes,
        dtypes: this.#dtypes,
        needs: this.edges.map((edge) => edge !== undefined),
        // A leaf that is an input twice is written by its first edge only; later ones are added to
        // that.
        into: (i) =>
          slots[i]?.known === false && slots.indexOf(slots[i]) === i && isBindable(slots[i].tensor)
            ? slots[i].tensor
            : undefined,
      });
      if (this.site) this.#check(grads, returned, this.site);
      // A result may be the incoming gradient itself or appear twice; each edge gets a handle of
      // its own.
      return returned.map((grad, i) => {
        if (grad === undefined || this.edges[i] === undefined) return undefined;
        if (grad === slots[i]?.tensor && slots.indexOf(slots[i]) === i) {
          inPlace.add(i);
          return undefined;
        }
        // What lies in a slot changes when more is added there.
        return slots.some((slot) => slot?.tensor.storage === grad.storage)
          ? denseCopy(grad)
          : grad.view(grad.shape, grad.strides);
      });
    });
    this.edges.forEach((edge, i) => {
      const slot = slots[i];
      const grad = results[i];
      if (slot && inPlace.has(i)) slot.note(true);
      else if (grad && slot) fillSlot(slot, grad);
      else if (grad && edge && "node" in edge) addGrad(edge.node, edge.output, grad);
    });
    grads.forEach((grad, i) => grad !== this.grads[i] && grad?.dispose());
    this.free();
  }

  #check(
    grads: readonly (Tensor | undefined)[],
    results: readonly (Tensor | undefined)[],
    site: Error,
  ): void {
    const passed = results.map((result, i) => this.edges[i] && result);
    const { device } = grads.find((grad) => grad !== undefined)!;
    device.anomalies?.check(this.name, "backward", grads, passed, site);
  }

  /** Frees gradients and saved tensors. */
  free(): void {
    for (const tensor of [...this.grads, ...this.saved]) tensor?.dispose();
    this.grads.length = 0;
    this.freed = true;
  }
}

function fillSlot(slot: GradientSlot, grad: Tensor): void {
  slot.put((filled) => accumulate(slot.tensor, grad, filled));
  grad.dispose();
}

function addGrad(node: Node, output: number, grad: Tensor): void {
  const before = node.grads[output];
  if (!before) {
    node.grads[output] = grad;
    return;
  }
  node.grads[output] = sumOf(before, grad);
  before.dispose();
  grad.dispose();
}

let recording = true;

/** Memory that ops read while the body of {@link recompute} runs. */
let reads: Set<Storage> | undefined;

/** Notes what an op reads. Internal to ops. */
export function noteReads(inputs: readonly Tensor[]): void {
  if (reads) { for (const { storage } of inputs) reads.add(storage); }
}

/** Runs `body`; what it read of memory that was there before, with what the values are known by. */
function readsOf<T>(body: () => T): { result: T; outer: Map<Storage, number> } {
  const surrounding = reads;
  const { made } = Storage;
  reads = new Set();
  try {
    const result = body();
    const outer = [...reads].filter(({ serial }) => serial < made);
    return { result, outer: new Map(outer.map((it) => [it, it.version])) };
  } finally {
    reads = surrounding;
  }
}

/** Whether ops record nodes now. */
export function isRecording(): boolean {
  return recording;
}

/**
 * Runs `body` without recording: its results carry no gradient.
 *
 * @param body synchronous: what runs after an `await` would be recorded again
 * @throws {TypeError} if `body` returns a promise.
 */
export function noGrad<T>(body: () => T): T {
  needFunction("noGrad", "the body", body);
  return withRecording(false, body);
}

function withRecording<T>(on: boolean, body: () => T): T {
  const before = recording;
  recording = on;
  try {
    const result = body();
    if (result instanceof Promise) {
      // Nobody will wait for it.
      result.catch(() => {});
      throw new TypeError(
        "noGrad: the body must be synchronous; what runs after an await would be recorded",
      );
    }
    return result;
  } finally {
    recording = before;
  }
}

/**
 * `x` as a plain value over the same memory, which no gradient passes; torch's `detach`, JAX's
 * `stop_gradient`.
 */
export function detach(x: Tensor): Tensor {
  needTensors("detach", { x });
  return x.view(x.shape, x.strides);
}

/**
 * `body` as a function that keeps only its inputs for the backward pass, which recomputes `body`:
 * memory for time (Chen et al., 2016); `jax.checkpoint`, torch's `checkpoint`. Gradients have the
 * same bits as without.
 *
 * @param body must compute the same both times; tensors it uses besides its inputs must still be
 * alive in the backward pass
 */
export function checkpoint<Inputs extends readonly Tensor[]>(
  body: (...inputs: Inputs) => Tensor,
): (...inputs: Inputs) => Tensor {
  needFunction("checkpoint", "the body", body);
  return (...inputs) =>
    recomputed("checkpoint", body as unknown as (...inputs: Tensor[]) => Tensor, inputs);
}

/** {@link checkpoint} of a function of one tensor, applied to `x`. */
export function recompute(body: (x: Tensor) => Tensor, x: Tensor): Tensor {
  needFunction("recompute", "the body", body);
  return recomputed("recompute", body, [x]);
}

function recomputed(
  name: string,
  body: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
): Tensor {
  needTensors(name, Object.fromEntries(inputs.map((it, i) => [`input ${i}`, it])));
  if (!recording) return body(...inputs);
  const { result: y, outer } = readsOf(() => noGrad(() => scope(() => body(...inputs))));
  y.node = new Node(
    name,
    ({ grads, saved, needs }) => {
      const leaves = saved.map((input) => {
        const leaf = input.view(input.shape, input.strides);
        return isFloat(input.dtype) ? leaf.trainable() : leaf;
      });
      withRecording(true, () => backward(body(...leaves), grads[0]));
      return leaves.map((leaf, i) => needs[i] ? leaf.grad : undefined);
    },
    false,
    inputs.map(({ shape }) => shape),
    inputs,
    inputs.map(retain),
    1,
    undefined,
    outer,
  );
  y.nodeOutput = 0;
  return y;
}

/**
 * Adds d `loss` / d leaf to the gradient of every leaf that `loss` depends on, and frees the
 * recorded graph.
 *
 * @param loss a scalar, unless `seed` is given
 * @param seed gradient of `loss`, of its shape; default 1
 * @throws {ShapeError} if `loss` is no scalar and has no seed, does not depend on any trainable
 * tensor, or the seed has another shape or element type.
 * @throws {LifetimeError} if another backward pass has already freed part of the graph, or values
 * that an op saved were overwritten since; then no gradient has changed.
 */
export function backward(loss: Tensor, seed?: Tensor): void {
  needTensors("backward", { loss }, { seed });
  if (seed && (!sameShape(seed.shape, loss.shape) || seed.dtype !== loss.dtype)) {
    throw new ShapeError(
      `backward: the seed is ${kindOf(seed)}, the loss ${kindOf(loss)}; they must agree`,
    );
  }
  const root = loss.node;
  if (!root) {
    throw new ShapeError(
      "backward: the loss depends on no trainable tensor (or its graph was freed)",
    );
  }
  if (!seed && loss.size !== 1) {
    throw new ShapeError(
      `backward: the loss has shape ${show(loss.shape)}; reduce it to a scalar or pass a seed`,
    );
  }
  const reachable = new Set<Node>();
  const todo = [root];
  for (let node; (node = todo.pop()) !== undefined;) {
    if (reachable.has(node)) continue;
    if (node.freed) {
      throw new LifetimeError(
        `backward: another backward pass has freed the graph behind "${node.name}"; ` +
          "add the losses and go back once",
      );
    }
    node.verify();
    reachable.add(node);
    for (const edge of node.edges) if (edge && "node" in edge) todo.push(edge.node);
  }
  noGrad(() =>
    scope(() => {
      root.grads[loss.nodeOutput] = seed
        ? seed.view(seed.shape, seed.strides)
        : loss.device.full(loss.shape, 1, loss.dtype);
      for (const node of [...reachable].sort((a, b) => b.id - a.id)) {
        if (node.grads.some((g) => g)) node.propagate();
        else node.free();
      }
    })
  );
  loss.node = undefined;
}

/** Keeps `tensor` alive for a backward pass, whatever its maker does with its own handle. */
export function retain(tensor: Tensor): Tensor {
  const handle = tensor.view(tensor.shape, tensor.strides);
  handle.saved = true;
  return handle;
}
