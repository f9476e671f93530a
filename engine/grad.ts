/**
 * Gradients as tensors, and as graphs that can be differentiated again.
 *
 * Where a graph is asked for, the gradient of each op is made of ops: by the op's `derivative`
 * (op.ts), for ops of the engine by the tables of `derivatives/`. These read what the op saved, as
 * tensors on the tape ({@link attached}).
 *
 * @module
 */
import { kindOf, needOptions, needTensorList, needTogether } from "./arguments.ts";
import { attached, renewed } from "./derivatives/attach.ts";
import { derivativeOf } from "./derivatives/table.ts";
import { isFloat } from "./dtype.ts";
import { ShapeError } from "./errors.ts";
import { denseCopy, sumOf } from "./launch/copy.ts";
import type { DerivativeContext, Op } from "./op.ts";
import { cast } from "./ops/cast.ts";
import { add } from "./ops/elementwise.ts";
import { sum } from "./ops/reduce.ts";
import { reshape } from "./ops/view.ts";
import { composite, scope } from "./scope.ts";
import { sameShape, type Shape, show } from "./shape.ts";
import {
  type Edge,
  edgeOf,
  graphBehind,
  needSeed,
  Node,
  noGrad,
  retain,
  type Rule,
  seedOf,
  withRecording,
} from "./tape.ts";
import { Tensor } from "./tensor.ts";

/** Options of {@link grad}. */
export interface GradOptions {
  /** Gradient of the output, of its shape and type; default 1 for a scalar. */
  readonly seed?: Tensor;
  /**
   * Whether the gradients stay on the tape, so that a function of them can be differentiated again;
   * torch's `create_graph`. Default false.
   */
  readonly createGraph?: boolean;
  /** Whether the graph stays for another pass; default as `createGraph`. */
  readonly retainGraph?: boolean;
  /** Whether inputs that the output does not depend on have zeros, instead of an error. */
  readonly allowUnused?: boolean;
}

/** Sum of a gradient over the axes that broadcasting added or stretched. */
function fitted(grad: Tensor, shape: Shape): Tensor {
  if (sameShape(grad.shape, shape)) return grad;
  const added = grad.shape.length - shape.length;
  const axes = [...grad.shape.keys()].filter((axis) =>
    axis < added || shape[axis - added] !== grad.shape[axis]
  );
  return reshape(sum(grad, { axes, keepDims: true }), shape);
}

type Grads = readonly (Tensor | undefined)[];

const wide = (x: Tensor): Tensor => x.dtype === "f16" ? cast(x, "f32") : x;

/**
 * Gradients by an op's own kernels, as results of an op that is linear in the gradients it is made
 * of, and whose gradient is what `rule` says.
 */
function adjointOf(
  node: Node,
  rule: Extract<Rule, "linear" | { adjoint: unknown }>,
  grads: Grads,
  needs: readonly boolean[],
): Grads {
  const { device, shapes, dtypes, call, saved } = node;
  const { op, attrs } = call!;
  const operands = rule === "linear" ? shapes.length - saved.length : rule.operands ?? Infinity;
  const constant = needs.findIndex((need, i) => need && i >= operands);
  if (constant !== -1) {
    throw new ShapeError(
      `grad: the gradient of "${node.name}" by its input ${constant} has no graph`,
    );
  }
  const results = noGrad(() => node.compute(grads, needs));
  const given = [...grads.keys()].filter((i) => grads[i]);
  const edges = given.map((i) => edgeOf(grads[i]!));
  if (!edges.some((edge) => edge)) return results;
  const made = [...results.keys()].filter((i) => results[i]);
  // Both of them: the gradient of the gradient, and a graph of it.
  const back = (parts: Grads, constants: readonly Tensor[]): Grads => {
    const of = shapes.map((shape, i) =>
      parts[made.indexOf(i)] ?? device.zeros(shape, isFloat(dtypes[i]) ? dtypes[i] : "f32")
    );
    const outputs = rule === "linear"
      ? op.apply([...of.slice(0, operands), ...constants], attrs)
      : rule.adjoint(of, { op, saved: constants }, attrs);
    return given.map((i) => outputs[i]);
  };
  const adjoint = new Node({
    name: node.name,
    run: ({ grads, saved }) => back(grads, saved),
    strided: true,
    device,
    shapes: given.map((i) => grads[i]!.shape),
    dtypes: given.map((i) => grads[i]!.dtype),
    edges,
    saved: saved.map(retain),
    outputs: made.length,
    derivative: { graph: ({ saved }, grads) => back(grads, saved) },
  });
  made.forEach((i, k) => {
    results[i]!.node = adjoint;
    results[i]!.nodeOutput = k;
  });
  return results;
}

/** Gradients as those of the same made of ops, of operands that lead back to the inputs. */
function gradientsOf(
  node: Node,
  rule: { forward(operands: readonly Tensor[], attrs: unknown): readonly Tensor[] },
  operands: readonly Tensor[],
  grads: Grads,
  needs: readonly boolean[],
): Grads {
  const outputs = rule.forward(operands, node.call!.attrs);
  const roots = grads.flatMap((seed, i) => seed ? [{ output: outputs[i], seed: wide(seed) }] : []);
  const needed = operands.filter((_, i) => needs[i]);
  const found = pass(roots, needed.map(edgeOf), true);
  return needs.map((need) => need ? found.shift() : undefined);
}

/** Gradients of a node's inputs, on the tape. */
function derive(node: Node, rule: Rule, grads: Grads, needs: readonly boolean[]): Grads {
  const { call, edges, dtypes, shapes, saved } = node;
  if (rule === "linear" || "adjoint" in rule) return adjointOf(node, rule, grads, needs);
  if ("graph" in rule) return rule.graph(node, grads, needs);
  const { op, attrs, savedInputs, savedOutputs } = call!;
  const half = dtypes.includes("f16");
  const narrow = (grad: Tensor | undefined, i: number) =>
    grad && (dtypes[i] === "f16" ? cast(grad, "f16") : grad);
  if ("forward" in rule) {
    const values = rule.operands?.(saved) ??
      savedInputs.map((k, i) => saved[k] ?? node.device.zeros(shapes[i]));
    const operands = values.map((value, i) => wide(renewed(value, edges[i], dtypes[i])));
    return gradientsOf(node, rule, operands, grads, needs).map(narrow);
  }
  const missing = undefined as unknown as Tensor;
  const context: DerivativeContext = {
    grads: grads.map((grad) => grad && wide(grad)),
    inputs: savedInputs.map((k, i) =>
      k < 0 ? missing : wide(attached(saved[k], edges[i], dtypes[i]))
    ),
    outputs: savedOutputs.map((k, output) =>
      k < 0 ? missing : wide(attached(
        saved[k],
        op.auxiliary?.includes(output) ? undefined : { node, output },
        half && !op.half ? "f16" : saved[k].dtype,
      ))
    ),
    saved: saved.map(wide),
    shapes,
    needs,
    op: op as Op<never>,
  };
  return rule(context, attrs).map((make, i) =>
    needs[i] && make ? narrow(fitted(make(), shapes[i]), i) : undefined
  );
}

const isEdge = (a: Edge, b: Edge): boolean =>
  a !== undefined && b !== undefined &&
  ("leaf" in a
    ? "leaf" in b && a.leaf === b.leaf
    : "node" in b && a.node === b.node && a.output === b.output);

/** Which nodes lead to targets; `nodes` has the newest first. */
function leadingTo(nodes: readonly Node[], targets: readonly Edge[]) {
  const wanted = new Set<Node>();
  const wants = (edge: Edge): boolean =>
    edge !== undefined &&
    ("node" in edge && wanted.has(edge.node) || targets.some((it) => isEdge(it, edge)));
  for (const node of nodes.toReversed()) if (node.edges.some(wants)) wanted.add(node);
  return { wanted, wants };
}

const ruleOf = (node: Node): Rule | undefined =>
  node.derivative ?? (node.call && derivativeOf(node.name, node.call.attrs));

/**
 * A pass that makes a graph: gradients of targets, undefined where none arrives.
 *
 * @param closed whether no target is behind another
 */
function pass(
  roots: readonly { readonly output: Tensor; readonly seed: Tensor }[],
  targets: readonly Edge[],
  closed = false,
): (Tensor | undefined)[] {
  const ends = closed ? targets.flatMap((it) => it && "node" in it ? [it.node] : []) : [];
  const outputs = roots.map(({ output }) => output);
  const nodes = graphBehind("grad", outputs, { all: true, until: new Set(ends) });
  const { wanted, wants } = leadingTo(nodes, targets);
  for (const node of wanted) {
    if (ruleOf(node)) continue;
    throw new ShapeError(
      `grad: the gradient of "${node.name}" has no graph: its kernels cannot be differentiated; ` +
        "make it of other ops, or go without createGraph",
    );
  }
  const found: (Tensor | undefined)[] = targets.map(() => undefined);
  const arrived = new Map<Node, (Tensor | undefined)[]>();
  const sumUp = (before: Tensor | undefined, grad: Tensor) => before ? add(before, grad) : grad;
  const arrive = (edge: Edge, grad: Tensor) => {
    if (edge && "node" in edge) {
      const grads = arrived.get(edge.node) ?? edge.node.grads.map(() => undefined);
      grads[edge.output] = sumUp(grads[edge.output], grad);
      arrived.set(edge.node, grads);
    } else targets.forEach((it, i) => isEdge(it, edge) && (found[i] = sumUp(found[i], grad)));
  };
  for (const { output, seed } of roots) arrive(edgeOf(output), seed);
  for (const node of nodes) {
    const grads = arrived.get(node);
    if (!grads) continue;
    targets.forEach((it, i) =>
      it && "node" in it && it.node === node && (found[i] = grads[it.output])
    );
    if (!wanted.has(node)) continue;
    const needs = node.edges.map(wants);
    derive(node, ruleOf(node)!, grads, needs).forEach((grad, i) =>
      grad && needs[i] && arrive(node.edges[i], grad)
    );
  }
  return found;
}

/** A pass by the ops' own kernels: gradients of targets, undefined where none arrives. */
function fastPass(
  output: Tensor,
  seed: Tensor | undefined,
  targets: readonly Edge[],
  nodes: readonly Node[],
  retain: boolean,
): (Tensor | undefined)[] {
  const { wanted, wants } = leadingTo(nodes, targets);
  const leaves = new Map<Tensor, Tensor>();
  const found: (Tensor | undefined)[] = targets.map(() => undefined);
  const put = (leaf: Tensor, grad: Tensor) => {
    const before = leaves.get(leaf);
    leaves.set(leaf, before ? sumOf(before, grad) : grad);
  };
  output.node!.grads[output.nodeOutput] = seedOf(output, seed);
  for (const node of nodes) {
    targets.forEach((it, i) => {
      const grad = it && "node" in it && it.node === node && node.grads[it.output];
      if (grad) found[i] = grad.view(grad.shape, grad.strides);
    });
    if (wanted.has(node) && node.grads.some((g) => g)) node.propagate({ wants, put, retain });
    else if (retain) node.rest();
    else node.free();
  }
  return targets.map((it, i) => it && "leaf" in it ? leaves.get(it.leaf) : found[i]);
}

/**
 * The gradient of a tensor by others, as a new tensor for each; torch's `autograd.grad`. Leaves
 * collect nothing. With `createGraph` a function of the gradients can be differentiated again, and
 * so on: gradients of gradients, as JAX's `grad(grad(f))`.
 *
 * Without `createGraph` or `retainGraph` the graph is freed, as by `backward`. With them it stays
 * until a pass without them, or until the scope in which it was recorded ends.
 *
 * @param output a scalar, unless `seed` is given
 * @param inputs trainable tensors, or what was made of them on the way to the output: one, or a
 * list
 * @returns one gradient, or a list, of the inputs' shapes and types; results of ops whose second
 * derivative is 0 may be constants
 * @throws {ShapeError} if the output is no scalar and has no seed or depends on no trainable
 * tensor, the seed has another shape or type, the output does not depend on an input, or a graph is
 * asked for and an op was defined without `derivative`.
 * @throws {LifetimeError} if another pass has freed part of the graph, or values that an op saved
 * were overwritten since.
 */
export function grad(output: Tensor, inputs: Tensor, options?: GradOptions): Tensor;
/** The same for a list of inputs. */
export function grad(
  output: Tensor,
  inputs: readonly Tensor[],
  options?: GradOptions,
): Tensor[];
export function grad(
  output: Tensor,
  inputs: Tensor | readonly Tensor[],
  options: GradOptions = {},
): Tensor | Tensor[] {
  needOptions("grad", options, ["seed", "createGraph", "retainGraph", "allowUnused"]);
  const { seed, createGraph = false, retainGraph = createGraph, allowUnused = false } = options;
  needTogether("grad", { output }, { seed });
  if (inputs instanceof Tensor) return grad(output, [inputs], options)[0];
  needTensorList("grad", inputs);
  const targets = inputs.map((input, i) => {
    const edge = edgeOf(input);
    if (edge) return edge;
    throw new ShapeError(
      `grad: the input ${i} is ${kindOf(input)} that is neither trainable nor made of what is ` +
        "(what a scope returns has left the tape)",
    );
  });
  if (!output.node && allowUnused) {
    return inputs.map(({ device, shape, dtype }) => device.zeros(shape, dtype));
  }
  needSeed("grad", output, seed);
  const nodes = graphBehind("grad", [output], { all: createGraph });
  const opaque = nodes.find((node) => !node.call && !node.derivative);
  if (opaque) {
    throw new ShapeError(
      `grad: "${opaque.name}" adds gradients to leaves as it goes back; use backward, or do ` +
        "without it",
    );
  }
  const reached = (target: Edge) =>
    nodes.some((node) =>
      isEdge(target, edgeOf(output)) || node.edges.some((edge) => isEdge(target, edge))
    );
  const unused = (i: number): Tensor => {
    const { device, shape, dtype } = inputs[i];
    if (allowUnused) return device.zeros(shape, dtype);
    throw new ShapeError(
      `grad: the output ${show(output.shape)} does not depend on the input ${i} ${show(shape)}; ` +
        "pass allowUnused for zeros",
    );
  };
  if (!allowUnused) targets.forEach((target, i) => reached(target) || unused(i));
  if (!createGraph) {
    return noGrad(() =>
      scope(() => {
        // No two results share memory, nor with the seed.
        const taken = new Set([seed?.storage]);
        return fastPass(output, seed, targets, nodes, retainGraph).map((grad, i) => {
          if (!grad) return unused(i);
          const own = grad.dense && !taken.has(grad.storage) ? grad : denseCopy(grad);
          taken.add(own.storage);
          return own;
        });
      })
    );
  }
  return composite(() =>
    withRecording(true, () => {
      const found = pass([{ output, seed: seed ?? seedOf(output, seed) }], targets);
      return found.map((grad, i) => grad ? reshape(grad, grad.shape) : unused(i));
    })
  );
}
