/**
 * Tessera's engine: tensors, ops with gradients and captured memory on WebGPU.
 *
 * ```ts
 * const device = await openDevice();
 * const x = device.tensor([1, 2, 3]);
 * console.log(await mul(x, x).data()); // Float32Array [1, 4, 9]
 * console.log(await x.mul(x).sum().item()); // 14
 * ```
 *
 * @module
 */
import "./methods.ts";

export * from "./functions.ts";
