/**
 * Where dispatches go. Ops never submit: they ask the recorder for output memory and hand it dispatches.
 * The eager recorder below collects them in one command encoder and submits at a flush. A captured plan can
 * take its place: everything an op does to the GPU passes through {@link Recorder}.
 *
 * @module
 */
import { KernelError } from "./errors.ts";
import type { Pipeline } from "./kernel.ts";
import type { BufferPool, PoolBuffer } from "./memory.ts";

/** A window of a buffer that a kernel sees as one storage binding. */
export interface BufferWindow {
  /** The buffer. */
  readonly buffer: PoolBuffer;
  /** First byte; a multiple of the adapter's storage offset alignment. */
  readonly offset: number;
  /** Length in bytes, a multiple of 4. */
  readonly bytes: number;
}

/** Values for the fields of a kernel's `Params`. */
export type Params = Readonly<Record<string, number>>;

/** Number of workgroups; a single number is folded into two dimensions when it exceeds the adapter's limit. */
export type Groups = number | readonly [number, number, number];

/** What ops need from the device to run kernels. */
export interface Recorder {
  /** Memory for an op's result. */
  allocate(bytes: number): PoolBuffer;
  /** Hands memory back. */
  release(buffer: PoolBuffer): void;
  /** Runs a pipeline over the given windows, in order with all other dispatches. */
  dispatch(
    pipeline: Pipeline,
    windows: readonly BufferWindow[],
    params: Params,
    groups: Groups,
  ): void;
  /** Copies bytes between two different buffers, in order with dispatches. */
  copy(from: BufferWindow, to: BufferWindow): void;
  /** Submits what was recorded. */
  flush(): void;
}

/** Counters for benches and tests. */
export interface RecorderCounters {
  /** Dispatches recorded so far. */
  readonly dispatches: number;
  /** Bind groups created so far. */
  readonly bindGroupsCreated: number;
  /** Command buffers submitted so far. */
  readonly submits: number;
}

const RING_SLOTS = 2048;
/** Bind groups kept; a training step has a few thousand. */
const MOST_BIND_GROUPS = 32768;

/** Runs dispatches soon: one compute pass collects them until a flush. */
export class EagerRecorder implements Recorder, RecorderCounters {
  dispatches = 0;
  bindGroupsCreated = 0;
  submits = 0;
  readonly #slotBytes: number;
  readonly #ring: GPUBuffer;
  readonly #bytes: ArrayBuffer;
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #f32: Float32Array;
  readonly #maxGroups: number;
  readonly #offset = [0];
  #used = 0;
  #serial = 0;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #bindGroups = new Map<string, GPUBindGroup>();

  /**
   * @param gpu raw device
   * @param pool memory of the results
   * @param check throws when the device is lost
   */
  constructor(
    private readonly gpu: GPUDevice,
    private readonly pool: BufferPool,
    private readonly check: () => void,
  ) {
    this.#slotBytes = Math.max(256, gpu.limits.minUniformBufferOffsetAlignment);
    this.#ring = gpu.createBuffer({
      label: "params",
      size: RING_SLOTS * this.#slotBytes,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    this.#bytes = new ArrayBuffer(RING_SLOTS * this.#slotBytes);
    this.#u32 = new Uint32Array(this.#bytes);
    this.#i32 = new Int32Array(this.#bytes);
    this.#f32 = new Float32Array(this.#bytes);
    this.#maxGroups = gpu.limits.maxComputeWorkgroupsPerDimension;
    pool.beforeDestroy = () => this.flush();
    // A destroyed buffer's id never comes back, so groups that name it are dead weight.
    pool.onDestroy = () => this.#bindGroups.clear();
  }

  /** Serial of the work being recorded; buffers used since the last flush carry it. */
  get serial(): number {
    return this.#serial;
  }

  allocate(bytes: number): PoolBuffer {
    this.check();
    return this.pool.acquire(bytes);
  }

  release(buffer: PoolBuffer): void {
    this.pool.release(buffer);
  }

  #open(): GPUComputePassEncoder {
    if (!this.#pass) {
      this.check();
      this.#encoder ??= this.gpu.createCommandEncoder();
      this.#pass = this.#encoder.beginComputePass();
    }
    return this.#pass;
  }

  #bindGroup(pipeline: Pipeline, windows: readonly BufferWindow[]): GPUBindGroup {
    let key = `${pipeline.id}`;
    for (const w of windows) key += `|${w.buffer.id},${w.offset},${w.bytes}`;
    let group = this.#bindGroups.get(key);
    if (!group) {
      group = this.gpu.createBindGroup({
        layout: pipeline.layout,
        entries: [
          { binding: 0, resource: { buffer: this.#ring, offset: 0, size: pipeline.paramBytes } },
          ...windows.map((w, i) => ({
            binding: i + 1,
            resource: { buffer: w.buffer.gpu, offset: w.offset, size: w.bytes },
          })),
        ],
      });
      this.bindGroupsCreated++;
      if (this.#bindGroups.size === MOST_BIND_GROUPS) this.#bindGroups.clear();
      this.#bindGroups.set(key, group);
    }
    return group;
  }

  dispatch(
    pipeline: Pipeline,
    windows: readonly BufferWindow[],
    params: Params,
    groups: Groups,
  ): void {
    if (windows.length !== pipeline.storage.length) {
      throw new KernelError(
        `kernel ${pipeline.name} has ${pipeline.storage.length} storage buffers, ${windows.length} were given`,
      );
    }
    let [x, y, z] = typeof groups === "number" ? [groups, 1, 1] : groups;
    if (x === 0 || y === 0 || z === 0) return;
    if (typeof groups === "number" && x > this.#maxGroups) {
      y = Math.ceil(x / this.#maxGroups);
      x = Math.ceil(x / y);
    }
    if (Math.max(x, y, z) > this.#maxGroups) {
      throw new KernelError(
        `kernel ${pipeline.name}: grid ${x} x ${y} x ${z} is above the adapter's limit`,
      );
    }
    if (this.#used === RING_SLOTS) this.flush();
    const pass = this.#open();
    const word = this.#used * this.#slotBytes / 4;
    const fields = pipeline.fields;
    for (let i = 0; i < fields.length; i++) {
      const field = fields[i];
      const value = params[field.name];
      if (value === undefined) {
        throw new KernelError(`kernel ${pipeline.name}: parameter ${field.name} was not given`);
      }
      if (field.type === "f32") this.#f32[word + i] = value;
      else if (field.type === "u32") this.#u32[word + i] = value;
      else this.#i32[word + i] = value;
    }
    for (const w of windows) w.buffer.lastUse = this.#serial;
    this.#offset[0] = this.#used++ * this.#slotBytes;
    pass.setPipeline(pipeline.gpu);
    pass.setBindGroup(0, this.#bindGroup(pipeline, windows), this.#offset);
    pass.dispatchWorkgroups(x, y, z);
    this.dispatches++;
  }

  copy(from: BufferWindow, to: BufferWindow): void {
    this.check();
    this.#pass?.end();
    this.#pass = undefined;
    this.#encoder ??= this.gpu.createCommandEncoder();
    this.#encoder.copyBufferToBuffer(
      from.buffer.gpu,
      from.offset,
      to.buffer.gpu,
      to.offset,
      from.bytes,
    );
    from.buffer.lastUse = to.buffer.lastUse = this.#serial;
  }

  flush(): void {
    if (!this.#encoder) return;
    this.#pass?.end();
    const commands = this.#encoder.finish();
    this.#pass = this.#encoder = undefined;
    if (this.#used > 0) {
      this.gpu.queue.writeBuffer(this.#ring, 0, this.#bytes, 0, this.#used * this.#slotBytes);
    }
    this.gpu.queue.submit([commands]);
    this.#used = 0;
    this.#serial++;
    this.submits++;
  }
}
