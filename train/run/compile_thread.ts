/**
 * A thread that compiles kernels which the main thread will run: a software driver compiles when a
 * kernel first runs, one after the other, and keeps the result in a cache on disk that all devices
 * share. compile_ahead.ts imports this module for its address.
 *
 * @module
 */
import { findAdapter } from "../../engine/adapter.ts";
import { partsOf, type PipelineText } from "../../engine/pipeline_parts.ts";
import { BUFFER_USAGE, TEXTURE_USAGE } from "../../engine/gpu_flags.ts";

/** Where this module is. */
export const COMPILE_URL: string = import.meta.url;
/** What a thread is called that shall work. */
export const COMPILE_NAME = "tessera compiler";

/** Who has a kernel in hand. */
export const STATE = { free: 0, thread: 1, compiled: 2, main: 3 } as const;

/** A kernel with the parameters of its first launch: the driver may compile it for them. */
export interface CompileTask extends PipelineText {
  readonly params: Uint32Array<ArrayBuffer>;
}

/** What a thread gets. */
export interface CompileOrder {
  /** Features and limits of the main thread's device. */
  readonly device: GPUDeviceDescriptor;
  readonly tasks: readonly CompileTask[];
  /** {@link STATE} of each task, 1 if compiling is of no use, and how many threads are at work. */
  readonly states: Int32Array;
}

/** What Deno's threads have beside what its main thread has. */
interface Thread {
  readonly name?: string;
  onmessage: (event: MessageEvent<CompileOrder>) => void;
  close(): void;
}

const thread = globalThis as unknown as Thread;
if (thread.name === COMPILE_NAME) {
  thread.onmessage = async ({ data }) => {
    const { states, tasks } = data;
    const working = tasks.length + 1;
    Atomics.add(states, working, 1);
    await compileAll(data).catch(() => giveUp(data));
    Atomics.sub(states, working, 1);
    Atomics.notify(states, working);
    thread.close();
  };
}

/** A kernel that takes so long tells whether the driver keeps what it compiles, ms … */
const TELLING = 250;
/** … and does not take this share of it when it comes from there. */
const MOST_OF_IT = 0.7;
/** Where this many kernels take no longer than that, ms, all are in the cache already. */
const SAMPLE = 8;
const CACHED = 25;
/** Until what was compiled is on the disk, ms. */
const SETTLED = 20;
/** Of every kind of binding; nothing is read or written. */
const BINDING_BYTES = 1 << 16;

async function compileAll(order: CompileOrder): Promise<void> {
  const { tasks, states } = order;
  const isOver = () => Atomics.load(states, tasks.length) !== 0;
  if (isOver()) return;
  const gpu = await (await findAdapter("software")).requestDevice(order.device);
  // The main thread tells of what does not compile.
  gpu.addEventListener("uncapturederror", (event) => event.preventDefault());
  let known = false;
  let done = 0;
  let longest = 0;
  for (const [i, task] of tasks.entries()) {
    if (isOver()) return;
    if (done === SAMPLE && longest < CACHED) return giveUp(order);
    if (Atomics.compareExchange(states, i, STATE.free, STATE.thread) !== STATE.free) continue;
    done++;
    const first = await compile(gpu, task);
    longest = Math.max(longest, first);
    if (first > CACHED) await new Promise((resolve) => setTimeout(resolve, SETTLED));
    Atomics.store(states, i, STATE.compiled);
    Atomics.notify(states, i);
    if (known || first < TELLING) continue;
    known = true;
    if (await compile(gpu, task) > first * MOST_OF_IT) return giveUp(order);
  }
}

function giveUp({ tasks, states }: CompileOrder): void {
  Atomics.store(states, tasks.length, 1);
  for (const i of tasks.keys()) {
    Atomics.compareExchange(states, i, STATE.thread, STATE.compiled);
    Atomics.notify(states, i);
  }
}

/** Compiles a kernel by launching no workgroup of it; returns the milliseconds that took. */
async function compile(gpu: GPUDevice, task: CompileTask): Promise<number> {
  const { layout, descriptor } = partsOf(gpu, task);
  const { UNIFORM, STORAGE, COPY_DST } = BUFFER_USAGE;
  const params = gpu.createBuffer({ size: task.paramBytes, usage: UNIFORM | COPY_DST });
  gpu.queue.writeBuffer(params, 0, task.params);
  const buffers = task.storage.map(() => gpu.createBuffer({ size: BINDING_BYTES, usage: STORAGE }));
  // As those of engine/images.ts, neither width nor height a power of two.
  const texture = gpu.createTexture({
    size: [12, 96],
    format: "rgba32float",
    usage: TEXTURE_USAGE.STORAGE_BINDING,
  });
  const group = gpu.createBindGroup({
    layout,
    entries: [
      { buffer: params },
      ...task.storage.map(({ image }, i) => image ? texture.createView() : { buffer: buffers[i] }),
    ].map((resource, binding) => ({ binding, resource })),
  });
  const pipeline = gpu.createComputePipeline(descriptor);
  const encoder = gpu.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group, [0]);
  pass.dispatchWorkgroups(0);
  pass.end();
  const start = performance.now();
  gpu.queue.submit([encoder.finish()]);
  await gpu.queue.onSubmittedWorkDone();
  const took = performance.now() - start;
  for (const it of [params, texture, ...buffers]) it.destroy();
  return took;
}
