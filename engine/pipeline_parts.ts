/**
 * What WebGPU makes a pipeline from, apart from how its text came about, so that a thread that only
 * compiles needs to load nothing else.
 *
 * @module
 */
import { COMPUTE_STAGE } from "./gpu_flags.ts";
import type { Pipeline } from "./kernel.ts";

/** What is compiled, whatever it was made of: another thread can do it. */
export type PipelineText = Pick<
  Pipeline,
  "name" | "wgsl" | "storage" | "paramBytes" | "aliasing"
>;

/** What a pipeline is made from. */
export function partsOf(
  gpu: GPUDevice,
  { name, wgsl, storage, paramBytes, aliasing }: PipelineText,
): {
  module: GPUShaderModule;
  layout: GPUBindGroupLayout;
  descriptor: GPUComputePipelineDescriptor;
} {
  const module = gpu.createShaderModule({ code: wgsl, label: name });
  const layout = gpu.createBindGroupLayout({
    entries: [
      {
        binding: 0,
        visibility: COMPUTE_STAGE,
        buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: paramBytes },
      },
      ...storage.map((binding, i): GPUBindGroupLayoutEntry => ({
        binding: i + 1,
        visibility: COMPUTE_STAGE,
        ...(binding.image
          ? { storageTexture: { access: "read-only", format: "rgba32float" } }
          : { buffer: { type: aliasing || binding.writes ? "storage" : "read-only-storage" } }),
      })),
    ],
  });
  const descriptor: GPUComputePipelineDescriptor = {
    label: name,
    layout: gpu.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module, entryPoint: "main" },
  };
  return { module, layout, descriptor };
}
