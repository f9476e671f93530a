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
import type { Derivative, Op } from "./op.ts";
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
  /**
   * What has arrived so far of the gradient that input `i` gets from all that was made of it;
   * dense, of the input's type. Who asks for it and gets it returns the sum of it and of the own
   * gradient, which saves a pass over both.
   */
  arrived(i: number): Tensor | undefined;
}

/** The function behind a node: gradients of the inputs, undefined where none flows. */
export type BackwardFunction = (context: BackwardContext) => readonly (Tensor | undefined)[];

/** What an op was called with, from which a graph of its gradient is made. */
export interface Call {
  /** The op. */
  readonly op: Op<unknown>;
  /** Its attributes. */
  readonly attrs: unknown;
  /** For each input, which of the saved tensors it is; -1 where it was not saved. */
  readonly savedInputs: readonly number[];
  /** The same for each output. */
  readonly savedOutputs: readonly number[];
}

/** What a {@link Node} is made from. */
export interface NodeParts {
  /** Op name for messages. */
  readonly name: string;
  /** Gradients of the inputs. */
  readonly run: BackwardFunction;
  /** Whether {@link run} takes gradients that are not dense. */
  readonly strided?: boolean;
  /** Where it ran. */
  readonly device: Device;
  /** Shapes of the inputs. */
  readonly shapes: readonly Shape[];
  /** Element types of the inputs. */
  readonly dtypes: readonly DType[];
  /** Where gradients go. */
  readonly edges: readonly Edge[];
  /** Handles that keep what backward needs alive; disposed after use. */
  readonly saved: readonly Tensor[];
  /** How many results there are. */
  readonly outputs: number;
  /** Which of the saved tensors must keep their values until then; default all. */
  readonly isNeeded?: (saved: number) => boolean;
  /** Other memory that must keep its values, with what they are known by. */
  readonly others?: ReadonlyMap<Storage, number>;
  /** Where the op was called, in anomaly mode. */
  readonly site?: Error;
  /** The call behind it. */
  readonly call?: Call;
  /** What makes a graph of the gradient, other than by the op's name. */
  readonly derivative?: Rule;
}

/** What makes a graph of a node's gradient. */
export type Rule = Derivative | {
  /** Gradients of the inputs, on the tape. */
  graph(
    node: Node,
    grads: readonly (Tensor | undefined)[],
    needs: readonly boolean[],
  ): readonly (Tensor | undefined)[];
};

/** Where the gradients of a pass go that does not add them to leaves. */
export interface Pass {
  /** Whether gradients that arrive there are asked for. */
  wants(edge: Edge): boolean;
  /** Takes a gradient that arrived at a leaf. */
  put(leaf: Tensor, grad: Tensor): void;
  /** Whether the graph stays for another pass. */
  readonly retain: boolean;
}

/** What made a tensor, or the leaf it is. */
export function edgeOf(input: Tensor): Edge {
  if (input.node) return { node: input.node, output: input.nodeOutput };
  return input.requiresGrad ? { leaf: input } : undefined;
}

/** One recorded op. */
export class Node {
  static #next = 0;
  /** Creation order; inputs come before outputs. */
  readonly id: number = Node.#next++;
  /** Op name for messages. */
  readonly name: string;
  /** Where it ran. */
  readonly device: Device;
  /** Shapes of the inputs. */
  readonly shapes: readonly Shape[];
  /** Element types of the inputs. */
  readonly dtypes: readonly DType[];
  /** Where gradients go. */
  readonly edges: readonly Edge[];
  /** Handles that keep what backward needs alive; disposed after use. */
  readonly saved: readonly Tensor[];
  /** The call behind it. */
  readonly call: Call | undefined;
  /** What makes a graph of the gradient, other than by the op's name. */
  readonly derivative: Rule | undefined;
  /** Gradients collected so far, by output. */
  readonly grads: (Tensor | undefined)[];
  readonly #run: BackwardFunction;
  readonly #strided: boolean;
  /** What the values of saved tensors are known by. */
  readonly #versions: readonly number[];
  /** Which of them a gradient without a graph needs. */
  readonly #needed: readonly boolean[];
  readonly #others: ReadonlyMap<Storage, number> | undefined;
  readonly #site: Error | undefined;
  readonly #recorder: Recorder;
  /** Whether a backward pass has been here. */
  freed = false;

  /** Made by ops. */
  constructor(parts: NodeParts) {
    const { isNeeded = () => true } = parts;
    this.name = parts.name;
    this.device = parts.device;
    this.shapes = parts.shapes;
    this.dtypes = parts.dtypes;
    this.edges = parts.edges;
    this.saved = parts.saved;
    this.call = parts.call;
    this.derivative = parts.derivative;
    this.grads = new Array(parts.outputs).fill(undefined);
    this.#run = parts.run;
    this.#strided = parts.strided ?? false;
    this.#versions = parts.saved.map(({ storage }) => storage.version);
    this.#needed = parts.saved.map((_, i) => isNeeded(i));
    this.#others = parts.others;
    this.#site = parts.site;
    this.#recorder = parts.device.recorder;
  }

  /**
   * Throws where a backward pass would be wrong.
   *
   * @param by what goes back
   * @param all whether it needs all that was saved, as a graph of the gradient may
   * @throws {LifetimeError} if values that the forward pass used were overwritten.
   * @throws {KernelError} if a plan is being recorded and the forward pass was outside.
   */
  verify(by = "backward", all = false): void {
    const changed = this.saved.find((it, i) =>
      (all || this.#needed[i]) && it.storage.version !== this.#versions[i]
    );
    const others = this.#others ?? [];
    const other = [...others].some(([storage, version]) => storage.version !== version);
    if (changed || other) {
      throw new LifetimeError(
        `${by}: "${this.name}" needs the values that ${
          changed ? `a tensor ${show(changed.shape)}` : "the tensors of its body"
        } had in the forward pass, but they were overwritten since (by an optimizer's step, ` +
          "assign, fill, write, copy or a replay); go back before, or compute the loss after it",
      );
    }
    if (this.device.recorder !== this.#recorder) {
      throw new KernelError(
        `${by}: "${this.name}" ran before the function that is captured; a replay could not ` +
          "repeat it: compute the loss inside",
      );
    }
  }

  /**
   * Gradients of the inputs by the op's own kernels, each as a handle of its own. Records nothing.
   *
   * @param given gradients of the outputs
   * @param needs which gradients are asked for
   * @param slots memory of leaves that may be written directly
   * @param inPlace takes the inputs whose gradient was
   * @param arrived gradients that inputs have so far
   * @param included takes the inputs whose result has them in it
   */
  compute(
    given: readonly (Tensor | undefined)[],
    needs: readonly boolean[],
    slots: readonly (GradientSlot | undefined)[] = [],
    inPlace: Set<number> = new Set(),
    arrived: readonly (Tensor | undefined)[] = [],
    included: Set<number> = new Set(),
  ): (Tensor | undefined)[] {
    const grads = given.map((g) => g && !this.#strided ? materialize(g) : g);
    const results = scope(() => {
      const returned = this.#run({
        grads,
        saved: this.saved,
        shapes: this.shapes,
        dtypes: this.dtypes,
        needs,
        // A leaf that is an input twice is written by its first edge only; later ones are added to
        // that.
        into: (i) =>
          slots[i]?.known === false && slots.indexOf(slots[i]) === i && isBindable(slots[i].tensor)
            ? slots[i].tensor
            : undefined,
        // Likewise; what comes of the other edge is added to the sum.
        arrived: (i) => {
          const before = arrived[i];
          if (!before || !needs[i] || arrived.indexOf(before) !== i) return undefined;
          included.add(i);
          return materialize(before);
        },
      });
      if (this.#site) this.#check(grads, returned, this.#site);
      // A result may be the incoming gradient itself or appear twice; each edge gets a handle of
      // its own.
      return returned.map((grad, i) => {
        if (grad === undefined || !needs[i]) return undefined;
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
    grads.forEach((grad, i) => grad !== given[i] && grad?.dispose());
    return results;
  }

  /** Runs the op's backward function and hands its results to the inputs. */
  propagate(pass?: Pass): void {
    // Earlier nodes of this pass may have written into a gradient that this one saved.
    this.verify();
    const slots = this.edges.map((edge) =>
      edge && "leaf" in edge && !pass ? edge.leaf.gradientSlot() : undefined
    );
    const needs = this.edges.map((edge) => edge !== undefined && (!pass || pass.wants(edge)));
    const inPlace = new Set<number>();
    const arrived = this.edges.map((edge, i) =>
      edge && "node" in edge
        ? edge.node.grads[edge.output]
        : slots[i]?.known
        ? slots[i].tensor
        : undefined
    );
    const included = new Set<number>();
    const results = this.compute(this.grads, needs, slots, inPlace, arrived, included);
    this.edges.forEach((edge, i) => {
      const slot = slots[i];
      const grad = results[i];
      if (slot && inPlace.has(i)) slot.note(true);
      else if (!grad || !edge) return;
      else if (slot) fillSlot(slot, grad, included.has(i));
      else if ("node" in edge) addGrad(edge.node, edge.output, grad, included.has(i));
      else pass!.put(edge.leaf, grad);
    });
    if (pass?.retain) this.rest();
    else this.free();
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

  /** Frees gradients. */
  rest(): void {
    for (const grad of this.grads) grad?.dispose();
    this.grads.fill(undefined);
  }

  /** Frees gradients and saved tensors. */
  free(): void {
    for (const tensor of [...this.grads, ...this.saved]) tensor?.dispose();
    this.grads.length = 0;
    this.freed = true;
  }
}

/** Adds to the gradient of a leaf, unless what it was is `included`. */
function fillSlot(slot: GradientSlot, grad: Tensor, included = false): void {
  slot.put((filled) => accumulate(slot.tensor, grad, filled && !included));
  grad.dispose();
}

/** Adds to the gradient of an output, unless what it was is `included`. Records nothing. */
function addGrad(node: Node, output: number, grad: Tensor, included: boolean): void {
  const before = node.grads[output];
  node.grads[output] = before && !included ? sumOf(before, grad) : grad;
  if (!before) return;
  before.dispose();
  if (!included) grad.dispose();
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

/** Runs `body` with recording on or off. Internal to the engine. */
export function withRecording<T>(on: boolean, body: () => T): T {
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
  const { result, outer } = readsOf(() => noGrad(() => scope(() => body(...inputs))));
  if (!isFloat(result.dtype)) return result;
  // What was there before has a place of its own in the graph.
  const y = inputs.includes(result) || result.node || result.requiresGrad
    ? result.view(result.shape, result.strides)
    : result;
  y.node = new Node({
    name,
    run({ grads, saved, needs }) {
      const leaves = saved.map((input) => {
        const leaf = input.view(input.shape, input.strides);
        return isFloat(input.dtype) ? leaf.trainable() : leaf;
      });
      const again = withRecording(true, () => body(...leaves));
      // Else no gradient passes the body.
      if (again.node || again.requiresGrad) withRecording(true, () => backward(again, grads[0]));
      return leaves.map((leaf, i) => needs[i] ? leaf.grad : undefined);
    },
    device: y.device,
    shapes: inputs.map(({ shape }) => shape),
    dtypes: inputs.map(({ dtype }) => dtype),
    edges: inputs.map(edgeOf),
    saved: inputs.map(retain),
    outputs: 1,
    others: outer,
  });
  y.nodeOutput = 0;
  return y;
}

/**
 * Adds d `loss` / d leaf to the gradient of every leaf that `loss` depends on, and frees the
 * recorded graph.
 *
 * @param loss a scalar, unless `seed` is given; of a leaf it is the leaf's own gradient
 * @param seed gradient of `loss`, of its shape; default 1
 * @throws {ShapeError} if `loss` is no scalar and has no seed, does not depend on any trainable
 * tensor, or the seed has another shape or element type.
 * @throws {LifetimeError} if another backward pass has already freed part of the graph, or values
 * that an op saved were overwritten since; then no gradient has changed.
 */
export function backward(loss: Tensor, seed?: Tensor): void {
  needTensors("backward", { loss }, { seed });
  const isLeaf = !loss.node && loss.requiresGrad;
  needSeed("backward", loss, seed, isLeaf);
  if (isLeaf) {
    noGrad(() => scope(() => fillSlot(loss.gradientSlot(), seedOf(loss, seed))));
    return;
  }
  const nodes = graphBehind("backward", [loss]);
  noGrad(() =>
    scope(() => {
      loss.node!.grads[loss.nodeOutput] = seedOf(loss, seed);
      for (const node of nodes) {
        if (node.grads.some((g) => g)) node.propagate();
        else node.free();
      }
    })
  );
  loss.node = undefined;
}

/** @throws {ShapeError} if a seed does not fit, or there is none and the loss is no scalar. */
export function needSeed(
  by: string,
  loss: Tensor,
  seed: Tensor | undefined,
  isLeaf = false,
): void {
  if (seed && (!sameShape(seed.shape, loss.shape) || seed.dtype !== loss.dtype)) {
    throw new ShapeError(
      `${by}: the seed is ${kindOf(seed)}, the loss ${kindOf(loss)}; they must agree`,
    );
  }
  if (!loss.node && !isLeaf) {
    throw new ShapeError(
      `${by}: the loss depends on no trainable tensor (or its graph was freed)`,
    );
  }
  if (!seed && loss.size !== 1) {
    throw new ShapeError(
      `${by}: the loss has shape ${show(loss.shape)}; reduce it to a scalar or pass a seed`,
    );
  }
}

/** A handle of the seed, or ones. */
export function seedOf(loss: Tensor, seed: Tensor | undefined): Tensor {
  if (seed) return seed.view(seed.shape, seed.strides);
  return loss.device.full(loss.shape, 1, loss.dtype);
}

/** How {@link graphBehind} looks. */
interface Look {
  /** Whether all that was saved must be as it was, as {@link Node.verify} has it. */
  readonly all?: boolean;
  /** Nodes to stop at. */
  readonly until?: ReadonlySet<Node>;
}

/**
 * The nodes behind tensors, the newest first, each of which can be gone through.
 *
 * @throws {LifetimeError} if one was freed, or values that it needs were overwritten.
 */
export function graphBehind(by: string, outputs: readonly Tensor[], look: Look = {}): Node[] {
  const reachable = new Set<Node>();
  const todo = outputs.flatMap(({ node }) => node ? [node] : []);
  for (let node; (node = todo.pop()) !== undefined;) {
    if (reachable.has(node)) continue;
    if (node.freed) {
      throw new LifetimeError(
        `${by}: another backward pass has freed the graph behind "${node.name}"; add the losses ` +
          "and go back once, or pass retainGraph to grad",
      );
    }
    node.verify(by, look.all);
    reachable.add(node);
    if (look.until?.has(node)) continue;
    for (const edge of node.edges) if (edge && "node" in edge) todo.push(edge.node);
  }
  return [...reachable].sort((a, b) => b.id - a.id);
}

/** Keeps `tensor` alive for a backward pass, whatever its maker does with its own handle. */
export function retain(tensor: Tensor): Tensor {
  const handle = tensor.view(tensor.shape, tensor.strides);
  handle.saved = true;
  return handle;
}
