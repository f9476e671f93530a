/**
 * What ops saved as plain values, on the tape again, so that what is made of it has a gradient.
 *
 * @module
 */
import type { DType } from "../dtype.ts";
import { converted } from "../launch/copy.ts";
import { cast } from "../ops/cast.ts";
import { type Edge, Node } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/**
 * A saved value as what came in by an edge.
 *
 * @param dtype element type of what came in, of which the value may be a widened copy
 */
export function attached(value: Tensor, edge: Edge, dtype: DType): Tensor {
  if (edge && "leaf" in edge && !edge.leaf.disposed && edge.leaf.storage === value.storage) {
    return edge.leaf;
  }
  if (!edge || "leaf" in edge || value.dtype !== dtype) return renewed(value, edge, dtype);
  const handle = value.view(value.shape, value.strides);
  handle.node = edge.node;
  handle.nodeOutput = edge.output;
  return handle;
}

/** The same as the result of a node of its own, which nothing else has. */
export function renewed(value: Tensor, edge: Edge, dtype: DType): Tensor {
  const handle = value.view(value.shape, value.strides);
  if (!edge) return handle;
  const to = value.dtype;
  handle.node = new Node({
    name: "cast",
    run: ({ grads: [dy] }) => [dtype === to ? dy : converted(dy!, dtype)],
    strided: true,
    device: value.device,
    shapes: [value.shape],
    dtypes: [dtype],
    edges: [edge],
    saved: [],
    outputs: 1,
    derivative: { graph: (_, [dy]) => [dtype === to ? dy : cast(dy!, dtype)] },
  });
  return handle;
}
