/**
 * Dawn, the WebGPU of Chromium, as a second implementation beside Deno's: npm's package webgpu.
 *
 * @module
 */
import { create } from "webgpu";

/** Limits that every adapter has (WebGPU, section 3.6.2), as far as devices ask for more. */
const DEFAULT_LIMITS: Readonly<Record<string, number>> = {
  maxBufferSize: 2 ** 28,
  maxStorageBufferBindingSize: 2 ** 27,
  maxStorageBuffersPerShaderStage: 8,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupSizeY: 256,
  maxComputeWorkgroupStorageSize: 16384,
  minStorageBufferOffsetAlignment: 256,
};

/** Dawn's WebGPU on whatever adapter it finds, for `openDevice({ gpu })`. */
export function dawn(): GPU {
  return create([]) as unknown as GPU;
}

let nothing: ReturnType<typeof create> | undefined;

/**
 * Dawn's WebGPU on an adapter without a GPU: everything is validated as the specification has it,
 * nothing computed. For `openDevice({ gpu })`. Devices get the limits that every adapter has.
 *
 * @param features optional features that the adapter shows
 * @param info what it says of itself in place of Dawn's
 */
export function validatingGpu(
  features: readonly string[],
  info: Partial<GPUAdapterInfo> = {},
): GPU {
  nothing ??= create(["backend=null"]);
  const { wgslLanguageFeatures } = nothing as { wgslLanguageFeatures?: ReadonlySet<string> };
  return {
    wgslLanguageFeatures,
    requestAdapter: async () => {
      const adapter = (await nothing!.requestAdapter())!;
      const own = adapter.info;
      return {
        info: {
          ...{ vendor: own.vendor, architecture: own.architecture, device: own.device },
          description: own.description,
          subgroupMinSize: own.subgroupMinSize,
          subgroupMaxSize: own.subgroupMaxSize,
          ...info,
        },
        features: new Set(features.filter((it) => adapter.features.has(it as GPUFeatureName))),
        limits: DEFAULT_LIMITS,
        requestDevice: (wanted: GPUDeviceDescriptor) => adapter.requestDevice(wanted),
      };
    },
  } as unknown as GPU;
}
