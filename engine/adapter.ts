/**
 * Finding a WebGPU adapter and saying what it is.
 *
 * @module
 */
import { INSTALL_COMMAND, NoAdapterError } from "./errors.ts";

/** What the adapter is. */
export interface AdapterInfo {
  /** Vendor name or number. */
  readonly vendor: string;
  /** Architecture of the GPU, where the driver tells. */
  readonly architecture: string;
  /** Device name or number. */
  readonly device: string;
  /** The driver's text for a person. */
  readonly description: string;
  /** Whether it runs on the CPU. */
  readonly software: boolean;
  /** Lanes per subgroup where they are fixed, else 0. */
  readonly subgroupSize: number;
}

/** Whether an adapter computes on the CPU. */
export function isSoftware(info: GPUAdapterInfo): boolean {
  return info.isFallbackAdapter === true ||
    /llvmpipe|lavapipe|swiftshader|basic render/i.test(`${info.description} ${info.device}`);
}

/** The WebGPU of the runtime; undefined where it has none. */
export function ownGpu(): GPU | undefined {
  return (globalThis.navigator as Navigator | undefined)?.gpu;
}

/** Whether WGSL has storage textures that are read, an extension of the language. */
export function readsTextures(gpu: GPU | undefined): boolean {
  // Deno's types do not know it.
  const { wgslLanguageFeatures: known } = (gpu ?? {}) as {
    readonly wgslLanguageFeatures?: ReadonlySet<string>;
  };
  return known?.has("readonly_and_readwrite_storage_textures") ?? false;
}

/** What tells runtimes apart; bundles for browsers have neither, and what hangs on them goes. */
type Runtime = {
  readonly Deno?: unknown;
  readonly process?: { readonly versions?: { readonly node?: string } };
};

/** Whether what devices come from, default the runtime's own, is Deno's WebGPU. */
export const isDenos = (gpu: GPU | undefined): boolean =>
  (globalThis as Runtime).Deno !== undefined && (gpu === undefined || gpu === ownGpu());

/** Why there is no WebGPU, and what to do about it where this program runs. */
function noWebGpu(): string {
  if ((globalThis as Runtime).Deno) {
    return "this runtime has no WebGPU (navigator.gpu is missing); use Deno 2.9 or newer, or the " +
      "package webgpu: openDevice({ gpu: create([]) })";
  }
  if ((globalThis as Runtime).process?.versions?.node) {
    return "Node has no WebGPU of its own; install the package webgpu, and give " +
      "openDevice({ gpu: create([]) })";
  }
  const { isSecureContext } = globalThis as { readonly isSecureContext?: boolean };
  return "this browser has no WebGPU (navigator.gpu is missing); " +
    (isSecureContext === false
      ? "it is only there on pages from https or localhost"
      : "use a current Chrome, Edge, Firefox or Safari");
}

/** What to do where WebGPU, this program's own or what it was given, finds no adapter. */
const noAdapter = (own: boolean): string =>
  !own
    ? "no WebGPU adapter where the program has its WebGPU from; Dawn (npm's webgpu) needs the " +
      "driver of a GPU, or Mesa 25 or newer for its software adapter"
    : !(globalThis as Runtime).Deno && !(globalThis as Runtime).process?.versions?.node
    ? "this browser finds no WebGPU adapter; switch its hardware acceleration on, or update the " +
      "GPU's driver"
    : "no WebGPU adapter (looked for Vulkan, Metal and Direct3D 12 drivers); " +
      `install a software one with: ${INSTALL_COMMAND}`;

/**
 * The best adapter of a kind.
 *
 * @param gpu default `navigator.gpu`
 * @throws {NoAdapterError} when nothing fits; the message says what to do about it.
 */
export async function findAdapter(
  kind: "auto" | "gpu" | "software",
  gpu: GPU | undefined = ownGpu(),
): Promise<GPUAdapter> {
  if (!gpu) throw new NoAdapterError(noWebGpu());
  const adapter = await gpu.requestAdapter(
    kind === "software" ? { forceFallbackAdapter: true } : { powerPreference: "high-performance" },
  );
  if (!adapter) throw new NoAdapterError(noAdapter(gpu === ownGpu()));
  if (kind === "gpu" && isSoftware(adapter.info)) {
    throw new NoAdapterError(
      `only the software adapter "${adapter.info.description}" was found, but a GPU was asked ` +
        `for; install the GPU's driver or allow software adapters`,
    );
  }
  return adapter;
}

let knownCores: number | undefined;

/** Processor cores, 1 where the runtime does not say. */
export function cores(): number {
  // Asked for every launch, and slow to answer.
  return knownCores ??= (globalThis.navigator as Navigator | undefined)?.hardwareConcurrency ?? 1;
}

/** Limits of which a device is given as much as the adapter has. */
export const REQUESTED_LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupStorageSize",
  "minStorageBufferOffsetAlignment",
] as const;
