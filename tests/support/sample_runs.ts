/**
 * Running ops on their samples, eagerly and captured.
 *
 * @module
 */
import type { Device } from "../../engine/device.ts";
import type { DType, HostArray } from "../../engine/dtype.ts";
import type { Op, RefArray } from "../../engine/op.ts";
import { cast } from "../../engine/ops/cast.ts";
import { add, mul } from "../../engine/ops/elementwise.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { capture, type Plan } from "../../engine/plan.ts";
import { scope } from "../../engine/scope.ts";
import { denseStrides } from "../../engine/shape.ts";
import { backward } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { refRandom } from "./random.ts";
import type { Sample } from "./samples.ts";

/** An op, whatever its attributes are. */
export type AnyOp = Op<unknown>;
/** Brings values to a device in a certain layout. */
export type Upload = (device: Device, data: HostArray, shape: readonly number[]) => Tensor;

/** Whether an input is of floats. */
export const isFloat = (sample: Sample, i: number): boolean => sample.integer?.[i] === undefined;
/** Whether an input is checked for its gradient. */
export const wantsGradient = (op: AnyOp, sample: Sample, i: number): boolean =>
  op.backward !== undefined && isFloat(sample, i) && !sample.constant?.includes(i);

/** Row-major in memory. */
export const dense: Upload = (device, data, shape) => device.tensor(data, shape);

/** First axis fastest, a gap behind each run of it, at an odd offset: neither dense nor aligned. */
export const strided: Upload = (device, data, shape) => {
  let step = shape.length === 1 ? 2 : 1;
  const strides = shape.map((size) => {
    const stride = step;
    step = step * size + 1;
    return stride;
  });
  const offset = 5;
  const host = data.slice(0, 0).constructor as new (n: number) => HostArray;
  const gapped = new host(offset + step + 1).fill(7);
  const order = denseStrides(shape);
  data.forEach((value, i) => {
    let at = offset;
    order.forEach((stride, axis) => at += Math.floor(i / stride) % shape[axis] * strides[axis]);
    gapped[at] = value;
  });
  return device.tensor(gapped).view(shape, strides, offset);
};

/** Reference values in an element type. */
export function hostArray(array: RefArray, dtype: DType): HostArray {
  if (dtype === "f32") return Float32Array.from(array.data);
  if (dtype === "f16") return Float16Array.from(array.data);
  return dtype === "u32" ? Uint32Array.from(array.data) : Int32Array.from(array.data);
}

/** Random gradients of the outputs that carry one. */
export function seedsFor(op: AnyOp, outputs: readonly RefArray[]): (RefArray | undefined)[] {
  return outputs.map((y, i) => op.auxiliary?.includes(i) ? undefined : refRandom(y.shape, 700 + i));
}

/** A sample's inputs on a device. */
export function uploaded(
  device: Device,
  sample: Sample,
  upload: Upload,
  float: "f32" | "f16",
): Tensor[] {
  return sample.inputs.map((array, i) =>
    upload(device, hostArray(array, sample.integer?.[i] ?? float), array.shape)
  );
}

/** What running a sample gave. */
export interface LaunchedSample {
  readonly outputs: readonly Tensor[];
  /** Of the inputs; undefined where none was asked for. */
  readonly grads: readonly (Tensor | undefined)[];
}

/** Runs one sample forward and backward through the tape; the tensors to read. */
export function launch(
  device: Device,
  op: AnyOp,
  sample: Sample,
  upload: Upload,
  seeds: readonly (RefArray | undefined)[],
  float: "f32" | "f16",
  given?: readonly Tensor[],
): LaunchedSample {
  return scope(() => {
    const inputs = (given ?? uploaded(device, sample, upload, float)).map((tensor, i) =>
      wantsGradient(op, sample, i) ? tensor.trainable() : tensor
    );
    const outputs = op.apply(inputs, sample.attrs);
    if (inputs.some((input) => input.requiresGrad)) {
      const seeded = outputs.flatMap((y, i) => {
        const seed = seeds[i];
        return seed && y.node
          ? [{ y, seed: upload(device, hostArray(seed, y.dtype), seed.shape) }]
          : [];
      });
      if (seeded.length === 1) backward(seeded[0].y, seeded[0].seed);
      else {
        // Summed in f32: the loss itself may be out of the range of f16.
        backward(
          seeded.map(({ y, seed }) => sum(cast(mul(y, seed), "f32"))).reduce((a, b) => add(a, b)),
        );
      }
    }
    const tight = (t: Tensor) => t.dense ? t.view(t.shape) : sumFree(t);
    return {
      outputs: outputs.map(tight),
      grads: inputs.map((input) => input.grad && input.grad.view(input.grad.shape)),
    };
  });
}

/** A dense copy of a view, without recording. */
function sumFree(view: Tensor): Tensor {
  return add(view.view(view.shape, view.strides), 0);
}

/** A sample's inputs on a device, and a plan of its launch. */
export function capturedSample(
  device: Device,
  op: AnyOp,
  sample: Sample,
  seeds: readonly (RefArray | undefined)[],
  float: "f32" | "f16" = "f32",
): { readonly inputs: readonly Tensor[]; readonly plan: Plan<LaunchedSample> } {
  const inputs = uploaded(device, sample, dense, float);
  const plan = capture(
    device,
    inputs,
    (...copies) => launch(device, op, sample, dense, seeds, float, copies),
  );
  return { inputs, plan };
}
