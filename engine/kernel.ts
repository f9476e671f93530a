/**
 * Kernels: a `.wgsl` body plus constants becomes a cached compute pipeline.
 *
 * A body declares `struct Params { … }` of scalar u32, i32 and f32 fields at binding 0 and storage
 * buffers, or storage textures that are read, at bindings 1, 2, …; both are read from the text, so
 * nothing is written twice.
 *
 * @module
 */
import { fragments } from "../kernels/include/mod.ts";
import { KernelError } from "./errors.ts";
import { partsOf } from "./pipeline_parts.ts";
import { type Constants, expand } from "./template.ts";

/** Type of a field of `Params`. */
export type FieldType = "u32" | "i32" | "f32";

/** One storage buffer of a kernel, as declared in its text. */
export interface StorageBinding {
  /** WGSL variable name. */
  readonly name: string;
  /** Whether the kernel writes it. */
  readonly writes: boolean;
  /** Whether it is read through a texture (images.ts). */
  readonly image: boolean;
}

/** One launch of a kernel, as profiles and limits see it. */
export interface Launch {
  /** What was compiled in. */
  readonly constants: Constants;
  /** Values of `Params`. */
  readonly params: Readonly<Record<string, number>>;
  /** Workgroups along x, y and z. */
  readonly grid: readonly [number, number, number];
}

/** What a kernel can tell about a launch. */
export interface KernelInsight {
  /**
   * Rounds of all loops together that the busiest invocation takes, one more for each time that a
   * loop ends; never too few. Every kernel with a loop tells (kernels/README.md, Loops end), and a
   * launch of more than {@link MOST_ROUNDS} is refused.
   */
  rounds?(launch: Launch): number;
  /** For profiles: floating-point operations, a fused multiply-add counting as two. */
  flops?(launch: Launch): number;
  /** For profiles: what tells launches apart, such as sizes; default: the constants. */
  label?(launch: Launch): string;
}

/** A kernel body and what its text declares. */
export interface Kernel {
  /** Name for messages and profiles. */
  readonly name: string;
  /** Unexpanded WGSL. */
  readonly source: string;
  /** Pipelines by constants. */
  readonly pipelines: WeakMap<GPUDevice, Map<string, Pipeline>>;
  /** What it tells about launches. */
  readonly insight?: KernelInsight;
}

/** A compiled kernel. */
export interface Pipeline {
  /** Number unique in the process; part of bind-group keys. */
  readonly id: number;
  /** Kernel name. */
  readonly name: string;
  /** What was compiled. */
  readonly kernel: Kernel;
  /** What was compiled in. */
  readonly constants: Constants;
  /** The raw pipeline; compiled here where that is still under way beside other work. */
  readonly gpu: GPUComputePipeline;
  /** Layout for bind groups: binding 0 is the parameter block with a dynamic offset. */
  readonly layout: GPUBindGroupLayout;
  /** Fields of `Params` in order. */
  readonly fields: readonly { readonly name: string; readonly type: FieldType }[];
  /** Size of the parameter block in bytes, a multiple of 16. */
  readonly paramBytes: number;
  /** Storage buffers from binding 1 on. */
  readonly storage: readonly StorageBinding[];
  /** The WGSL that was compiled. */
  readonly wgsl: string;
  /** Whether every storage buffer is bound for writing; see {@link pipelineFor}. */
  readonly aliasing: boolean;
}

/**
 * Rounds of loops that a launch may take per invocation. lavapipe ends all loops of an invocation
 * without a word after 65,535 together; the rest is a margin.
 */
export const MOST_ROUNDS = 64_000;

/**
 * @throws {KernelError} if the kernel's loops are too long for a launch: some drivers would end
 * them early, and the result would be wrong.
 */
export function checkRounds({ name, insight }: Kernel, launch: Launch): void {
  const rounds = insight?.rounds?.(launch) ?? 0;
  if (rounds <= MOST_ROUNDS) return;
  const sizes = Object.entries(launch.params).map(([field, value]) => `${field} ${value}`);
  throw new KernelError(
    `kernel ${name}: ${rounds} rounds of loops per invocation, where ${MOST_ROUNDS} are sure to ` +
      `be done, for ${sizes.join(", ")}`,
  );
}

/** Declares a kernel from the text of its `.wgsl` file. Compiles nothing yet. */
export function defineKernel(name: string, source: string, insight?: KernelInsight): Kernel {
  const kernel: Kernel = { name, source, pipelines: new WeakMap(), insight };
  kernels.set(name, kernel);
  return kernel;
}

/** All kernels that were declared, by name. */
const kernels = new Map<string, Kernel>();

/** All kernels that the modules loaded so far declare, by name. */
export function declaredKernels(): ReadonlyMap<string, Kernel> {
  return kernels;
}

/**
 * A digest of the text of every kernel that was declared: what measurements of kernels depend on.
 */
export async function kernelDigest(): Promise<string> {
  const texts = [...kernels].map(([name, { source }]) => [name, source]);
  const text = [...Object.entries(fragments), ...texts].sort(([a], [b]) => a < b ? -1 : 1).flat()
    .join("\n");
  return await sha256(text);
}

/** The SHA-256 of a text in hexadecimal digits. */
export async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  // `toHex` is in no Node before 25.
  return Array.from(new Uint8Array(digest), (it) => it.toString(16).padStart(2, "0")).join("");
}

function header(constants: Constants): string {
  return Object.entries(constants)
    .filter(([, value]) => typeof value !== "string")
    .map(([name, value]) =>
      typeof value === "boolean"
        ? `const ${name}: bool = ${value};`
        : `const ${name}: ${Number.isInteger(value) ? "u32" : "f32"} = ${value}${
          Number.isInteger(value) ? "u" : "f"
        };`
    )
    .join("\n");
}

/** What needs a line `enable NAME;`. */
const EXTENSIONS = { f16: /\bf16\b/, subgroups: /\b(subgroup|quad(Broadcast|Swap))/ } as const;

/**
 * The WGSL of a kernel for these constants: `enable` lines, generated constants, expanded body.
 *
 * @param enableSubgroups whether subgroup operations need a line of their own, as WGSL has it;
 * Deno's naga knows them without it, and refuses the line
 */
export function generate(
  kernel: Kernel,
  constants: Constants,
  enableSubgroups = false,
): string {
  const body = expand(kernel.source, constants, (name) => {
    const text = fragments[name];
    if (text === undefined) {
      throw new KernelError(`${kernel.name}: no fragment "${name}" to include`);
    }
    return text;
  });
  const text = `${header(constants)}\n${body}`;
  const code = text.replace(/\/\/.*/g, "");
  const enabled = Object.entries(EXTENSIONS)
    .filter(([name, pattern]) => pattern.test(code) && (name === "f16" || enableSubgroups))
    .map(([name]) => `enable ${name};\n`);
  return enabled.join("") + text;
}

function parseFields(name: string, wgsl: string): { name: string; type: FieldType }[] {
  const body = /struct Params \{([^}]*)\}/.exec(wgsl)?.[1];
  if (body === undefined) {
    throw new KernelError(`${name}: the kernel declares no "struct Params { … }"`);
  }
  return [...body.replace(/\/\/.*$/gm, "").matchAll(/(\w+)\s*:\s*(\w+)/g)].map(
    ([, field, type]) => {
      if (type !== "u32" && type !== "i32" && type !== "f32") {
        throw new KernelError(
          `${name}: parameter ${field} is ${type}; only u32, i32 and f32 are supported`,
        );
      }
      return { name: field, type };
    },
  );
}

function parseStorage(wgsl: string): StorageBinding[] {
  const pattern =
    /@binding\((\d+)\)\s*var(?:<storage,\s*(read_write|read)>)?\s*(\w+)(:\s*texture_storage_2d)?/g;
  return [...wgsl.matchAll(pattern)]
    .filter(([, , access, , image]) => access || image)
    .sort((a, b) => Number(a[1]) - Number(b[1]))
    .map(([, , access, name, image]) => ({
      name,
      writes: access === "read_write",
      image: image !== undefined,
    }));
}

/** Lines that compile errors show before and behind a fault. */
const LINES_AROUND = 4;

/**
 * WGSL with line numbers, as compile errors show it: the lines around `faults` (from 1), which are
 * marked, or all where none is known.
 */
export function numbered(wgsl: string, faults: readonly number[] = []): string {
  const lines = wgsl.split("\n");
  let last = -1;
  return lines.flatMap((line, i) => {
    const near = faults.some((fault) => Math.abs(fault - 1 - i) <= LINES_AROUND);
    if (faults.length > 0 && !near) return [];
    const gap = last >= 0 && last < i - 1 ? ["     ..."] : [];
    last = i;
    return [...gap, `${faults.includes(i + 1) ? ">" : " "}${String(i + 1).padStart(4)} | ${line}`];
  }).join("\n");
}

/** What is wrong with a pipeline that did not compile. */
async function compileError(
  { name }: Kernel,
  wgsl: string,
  module: GPUShaderModule,
  { message }: { readonly message: string },
): Promise<KernelError> {
  const info = await module.getCompilationInfo().catch(() => undefined);
  const errors = (info?.messages ?? []).filter(({ type }) => type === "error");
  const faults = errors.map(({ lineNum }) => lineNum).filter((it) => it > 0);
  // Some implementations say no more than that the module is invalid.
  const more = errors.map((it) => it.message.trim()).filter((it) => !message.includes(it));
  return new KernelError(
    `kernel ${name} does not compile: ${[message.trim(), ...more].join("\n")}\n${
      numbered(wgsl, faults)
    }`,
  );
}

let nextPipelineId = 1;

/** Keys of constants that cannot change. */
const frozenKeys = new WeakMap<Constants, string>();

/** The constants as one text, made once of those that are frozen. */
function keyOf(constants: Constants): string {
  const frozen = Object.isFrozen(constants);
  let key = frozen ? frozenKeys.get(constants) : undefined;
  if (key === undefined) {
    key = "";
    for (const name in constants) key += `${name}=${constants[name]},`;
    if (frozen) frozenKeys.set(constants, key);
  }
  return key;
}

/**
 * The pipeline of a kernel for these constants, compiled on first use.
 *
 * @param aliasing bind every storage buffer for writing, as WebGPU demands when operands and
 * results are parts of one buffer
 * @param enableSubgroups see {@link generate}
 * @param report receives a compile error, which WebGPU delivers late
 * @param beside where it is to be compiled beside other work: receives when that is done
 * @throws {KernelError} if the template or its declarations are wrong.
 */
export function pipelineFor(
  gpu: GPUDevice,
  kernel: Kernel,
  constants: Constants,
  { aliasing, enableSubgroups }: { aliasing: boolean; enableSubgroups: boolean },
  report: (error: Promise<Error | undefined>) => void,
  beside?: (done: Promise<void>) => void,
): Pipeline {
  let byConstants = kernel.pipelines.get(gpu);
  if (!byConstants) kernel.pipelines.set(gpu, byConstants = new Map());
  const key = (aliasing ? "aliasing," : "") + keyOf(constants);
  const known = byConstants.get(key);
  if (known) return known;

  const plain = generate(kernel, constants, enableSubgroups);
  const wgsl = aliasing
    ? plain.replaceAll("var<storage, read>", "var<storage, read_write>")
    : plain;
  const fields = parseFields(kernel.name, wgsl);
  const storage = parseStorage(plain);
  const paramBytes = Math.max(16, Math.ceil(fields.length / 4) * 16);
  gpu.pushErrorScope("validation");
  const text = { name: kernel.name, wgsl, storage, paramBytes, aliasing };
  const { module, layout, descriptor } = partsOf(gpu, text);
  let compiled = beside ? undefined : gpu.createComputePipeline(descriptor);
  const pipeline: Pipeline = {
    id: nextPipelineId++,
    name: kernel.name,
    kernel,
    constants,
    get gpu() {
      return compiled ??= gpu.createComputePipeline(descriptor);
    },
    layout,
    fields,
    paramBytes,
    storage,
    wgsl,
    aliasing,
  };
  let failure: Promise<{ readonly message: string } | null> = gpu.popErrorScope();
  if (beside) {
    const done = gpu.createComputePipelineAsync(descriptor).then((it) => {
      compiled ??= it;
      return null;
    }, (error: GPUPipelineError) => error);
    failure = Promise.all([failure, done]).then(([module, pipeline]) => module ?? pipeline);
    beside(done.then(() => {}));
  }
  report(failure.then((error) => error ? compileError(kernel, wgsl, module, error) : undefined));
  byConstants.set(key, pipeline);
  return pipeline;
}
