/**
 * Where dispatches go. Ops never submit: they ask the recorder for output memory and hand it
 * dispatches. The eager recorder below collects them in one command encoder and submits at a flush.
 * A captured plan can take its place: everything an op does to the GPU passes through {@link
 * Recorder}.
 *
 * @module
 */
import type { HostArray } from "./dtype.ts";
import { KernelError } from "./errors.ts";
import { FirstRuns } from "./first_runs.ts";
import { BUFFER_USAGE } from "./gpu_flags.ts";
import { Pace } from "./pace.ts";
import { checkRounds, type Launch, type Pipeline } from "./kernel.ts";
import type { ImageLayout, Images } from "./images.ts";
import type { MapLaunch } from "./launch/elementwise.ts";
import type { BufferPool, PoolBuffer } from "./memory.ts";
import type { GradientSlot, Tensor } from "./tensor.ts";

/** A window of a buffer that a kernel sees as one storage binding. */
export interface BufferWindow {
  /** The buffer. */
  readonly buffer: PoolBuffer;
  /** First byte; a multiple of the adapter's storage offset alignment. */
  readonly offset: number;
  /** Length in bytes, a multiple of 4. */
  readonly bytes: number;
  /** Where the kernel reads it through a texture: what it is copied into before the dispatch. */
  readonly image?: ImageLayout;
}

/** Values for the fields of a kernel's `Params`. */
export type Params = Readonly<Record<string, number>>;

/**
 * Number of workgroups; a single number is folded into two dimensions when it exceeds the adapter's
 * limit.
 */
export type Groups = number | readonly [number, number, number];

/**
 * What a plan that is being recorded knows of gradients. Whether a leaf has one already is known
 * when the plan is replayed: until the recorded function fills or empties a slot, it is open.
 */
export interface GradientLog {
  /** Whether the slot is filled at this point of the recording; undefined where that is open. */
  known(slot: GradientSlot): boolean | undefined;
  /** The same, and where it is open, replays must find the slot as it is now. */
  require(slot: GradientSlot): boolean;
  /** Notes that the slot is filled or empty from here on. */
  note(slot: GradientSlot, filled: boolean): void;
  /** Records work for an open slot twice, for the case that it is filled and that it is not. */
  either(slot: GradientSlot, record: (filled: boolean) => void): void;
  /** Whether every replay has a tensor of its own: it is made inside, or an input. */
  isInner(tensor: Tensor): boolean;
}

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
  /**
   * Takes an elementwise launch as it is, so that it can be joined with others; where there is
   * none, it is dispatched.
   */
  map?(launch: MapLaunch): void;
  /** Copies bytes between two different buffers, in order with dispatches. */
  copy(from: BufferWindow, to: BufferWindow): void;
  /** Overwrites bytes of a buffer from the host, in order with dispatches. */
  write(to: BufferWindow, data: HostArray): void;
  /** Submits what was recorded. */
  flush(): void;
  /**
   * Whether results share memory with operands, so that kernels must bind all of them for writing.
   */
  readonly aliasing: boolean;
  /** Fills memory with NaN, on a device that was opened so. */
  poison(buffer: PoolBuffer): void;
  /** Only where work is recorded for a plan. */
  readonly gradients?: GradientLog;
  /** Only where kernels are compiled beside other work: receives when one is done. */
  readonly compile?: (done: Promise<void>) => void;
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

/** The three views of the bytes that parameter blocks are packed into. */
export interface ParameterBytes {
  /** For u32 fields. */
  readonly u32: Uint32Array<ArrayBuffer>;
  /** For i32 fields. */
  readonly i32: Int32Array<ArrayBuffer>;
  /** For f32 fields. */
  readonly f32: Float32Array<ArrayBuffer>;
}

/** Views of `count` bytes for {@link packParams}. */
export function parameterBytes(count: number): ParameterBytes {
  const bytes = new ArrayBuffer(count);
  return { u32: new Uint32Array(bytes), i32: new Int32Array(bytes), f32: new Float32Array(bytes) };
}

/**
 * Writes a kernel's parameters at 32-bit word `word`.
 *
 * @throws {KernelError} if a field was not given.
 */
export function packParams(
  { name, fields }: Pipeline,
  params: Params,
  { u32, i32, f32 }: ParameterBytes,
  word: number,
): void {
  for (let i = 0; i < fields.length; i++) {
    const field = fields[i];
    const value = params[field.name];
    if (value === undefined) {
      throw new KernelError(`kernel ${name}: parameter ${field.name} was not given`);
    }
    if (field.type === "f32") f32[word + i] = value;
    else if (field.type === "u32") u32[word + i] = value;
    else i32[word + i] = value;
  }
}

/**
 * The grid of a dispatch, a single number folded into two dimensions above `most`; undefined when
 * it is empty.
 *
 * @throws {KernelError} if the count of windows is not the kernel's, a dimension is above `most`,
 * or the kernel's loops would take too many rounds.
 */
export function gridOf(
  { name, kernel, constants, storage }: Pipeline,
  windows: readonly BufferWindow[],
  params: Params,
  groups: Groups,
  most: number,
): [number, number, number] | undefined {
  if (windows.length !== storage.length) {
    throw new KernelError(
      `kernel ${name} has ${storage.length} storage buffers, ${windows.length} were given`,
    );
  }
  let [x, y, z] = typeof groups === "number" ? [groups, 1, 1] : groups;
  if (x === 0 || y === 0 || z === 0) return undefined;
  if (typeof groups === "number" && x > most) {
    y = Math.ceil(x / most);
    x = Math.ceil(x / y);
  }
  if (Math.max(x, y, z) > most) {
    throw new KernelError(`kernel ${name}: grid ${x} x ${y} x ${z} is above the adapter's limit`);
  }
  checkRounds(kernel, { constants, params, grid: [x, y, z] });
  return [x, y, z];
}

/** What a bind group holds for window `i` of a dispatch. */
export function resourceOf(
  { buffer, offset, bytes, image }: BufferWindow,
  i: number,
  images: Images,
): GPUBindingResource {
  return image ? images.at(i, image).view : { buffer: buffer.gpu, offset, size: bytes };
}

/** Bytes from one parameter block to the next. */
export function parameterStride(gpu: GPUDevice): number {
  return Math.max(256, gpu.limits.minUniformBufferOffsetAlignment);
}

/** Strides that a kernel's parameters take: more than one where many axes have theirs. */
export function parameterSlots({ paramBytes }: Pipeline, stride: number): number {
  return Math.ceil(paramBytes / stride);
}

/** Watches dispatches while a profile is taken. */
export interface DispatchObserver {
  /** Comes before a dispatch; describes the compute pass that holds it alone. */
  beforeDispatch(
    pipeline: Pipeline,
    windows: readonly BufferWindow[],
    launch: Launch,
  ): GPUComputePassDescriptor | undefined;
  /** Comes after a dispatch was recorded. */
  afterDispatch(): void;
  /** Comes after a submission. */
  submitted(): void;
}

const RING_SLOTS = 2048;
/** A word that is NaN as f32 and as two f16, and no index as an integer. */
const NAN_WORD = 0x7fc07fc0;
/** Bytes of NaN from which memory is filled. */
const NAN_BYTES = 1 << 18;
/** Bind groups kept; a training step has a few thousand. */
const MOST_BIND_GROUPS = 32768;

/** Runs dispatches soon: one compute pass collects them until a flush. */
export class EagerRecorder implements Recorder, RecorderCounters {
  dispatches = 0;
  bindGroupsCreated = 0;
  submits = 0;
  readonly #slotBytes: number;
  readonly #ring: GPUBuffer;
  readonly #bytes: ParameterBytes;
  readonly #maxGroups: number;
  readonly #offset = [0];
  readonly aliasing = false;
  /** Set while a profile is taken. */
  observer: DispatchObserver | undefined;
  /** Kernels that have not run yet. */
  readonly firstRuns: FirstRuns;
  /** Dispatches between two questions whether to go on. */
  readonly pace: Pace;
  #used = 0;
  #serial = 0;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  /** What the pass is set to. */
  #pipeline: Pipeline | undefined;
  #bindGroups = new Map<string, GPUBindGroup>();
  #nan: GPUBuffer | undefined;

  /**
   * @param gpu raw device
   * @param pool memory of the results
   * @param images textures of operands
   * @param check throws when the device is lost
   * @param poisons whether memory is filled with NaN when it is handed out
   */
  constructor(
    private readonly gpu: GPUDevice,
    private readonly pool: BufferPool,
    private readonly images: Images,
    private readonly check: () => void,
    private readonly poisons = false,
  ) {
    this.firstRuns = new FirstRuns(gpu);
    this.pace = new Pace(gpu);
    this.#slotBytes = parameterStride(gpu);
    this.#ring = gpu.createBuffer({
      label: "params",
      size: RING_SLOTS * this.#slotBytes,
      usage: BUFFER_USAGE.UNIFORM | BUFFER_USAGE.COPY_DST,
    });
    this.#bytes = parameterBytes(RING_SLOTS * this.#slotBytes);
    this.#maxGroups = gpu.limits.maxComputeWorkgroupsPerDimension;
    pool.beforeDestroy = () => this.flush();
    // A destroyed buffer's id never comes back, so groups that name it are dead weight.
    pool.onDestroy = () => this.#bindGroups.clear();
  }

  /** Submits what is recorded and forgets bind groups, before textures are destroyed. */
  forgetImages(): void {
    this.flush();
    this.#bindGroups.clear();
  }

  allocate(bytes: number): PoolBuffer {
    this.check();
    const buffer = this.pool.acquire(bytes);
    this.poison(buffer);
    return buffer;
  }

  poison(buffer: PoolBuffer): void {
    if (!this.poisons) return;
    if (!this.#nan) {
      const usage = BUFFER_USAGE.COPY_SRC;
      this.#nan = this.gpu.createBuffer({ size: NAN_BYTES, usage, mappedAtCreation: true });
      new Uint32Array(this.#nan.getMappedRange()).fill(NAN_WORD);
      this.#nan.unmap();
    }
    const encoder = this.#openForCopies();
    for (let at = 0; at < buffer.bytes; at += NAN_BYTES) {
      const bytes = Math.min(NAN_BYTES, buffer.bytes - at);
      encoder.copyBufferToBuffer(this.#nan, 0, buffer.gpu, at, bytes);
    }
    buffer.lastUse = this.#serial;
  }

  release(buffer: PoolBuffer): void {
    this.pool.release(buffer);
  }

  #open(descriptor?: GPUComputePassDescriptor): GPUComputePassEncoder {
    if (!this.#pass) {
      this.check();
      this.#encoder ??= this.gpu.createCommandEncoder();
      this.#pass = this.#encoder.beginComputePass(descriptor);
      this.#pipeline = undefined;
    }
    return this.#pass;
  }

  #bindGroup(pipeline: Pipeline, windows: readonly BufferWindow[]): GPUBindGroup {
    let key = `${pipeline.id}`;
    for (let i = 0; i < windows.length; i++) {
      const { image, buffer, offset, bytes } = windows[i];
      key += image ? `|${this.images.at(i, image).id}` : `|${buffer.id},${offset},${bytes}`;
    }
    let group = this.#bindGroups.get(key);
    if (!group) {
      group = this.gpu.createBindGroup({
        layout: pipeline.layout,
        entries: [
          { binding: 0, resource: { buffer: this.#ring, offset: 0, size: pipeline.paramBytes } },
          ...windows.map((w, i) => ({ binding: i + 1, resource: resourceOf(w, i, this.images) })),
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
    const grid = gridOf(pipeline, windows, params, groups, this.#maxGroups);
    if (!grid) return;
    const slots = parameterSlots(pipeline, this.#slotBytes);
    const { observer, pace } = this;
    if (pace.isDue && !observer) {
      this.flush();
      pace.ask();
    }
    if (this.#used + slots > RING_SLOTS) this.flush();
    const alone = observer?.beforeDispatch(pipeline, windows, {
      constants: pipeline.constants,
      params,
      grid,
    });
    if (observer) {
      this.#pass?.end();
      this.#pass = undefined;
    }
    windows.forEach((window, i) => {
      const { image } = window;
      if (image) this.images.copy(this.#openForCopies(), window, this.images.at(i, image));
    });
    const pass = this.#open(alone);
    packParams(pipeline, params, this.#bytes, this.#used * this.#slotBytes / 4);
    for (let i = 0; i < windows.length; i++) {
      const { buffer } = windows[i];
      buffer.lastUse = this.#serial;
      if (pipeline.storage[i].writes) buffer.version++;
    }
    this.#offset[0] = this.#used * this.#slotBytes;
    this.#used += slots;
    if (this.#pipeline !== pipeline) pass.setPipeline(pipeline.gpu);
    this.#pipeline = pipeline;
    pass.setBindGroup(0, this.#bindGroup(pipeline, windows), this.#offset);
    pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
    this.dispatches++;
    pace.add();
    observer?.afterDispatch();
    if (!this.firstRuns.isAwaited(pipeline.gpu)) return;
    this.firstRuns.before?.(pipeline.gpu);
    this.flush();
    pace.rest();
    this.firstRuns.wait(pipeline.gpu);
  }

  #openForCopies(): GPUCommandEncoder {
    this.check();
    this.#pass?.end();
    this.#pass = undefined;
    return this.#encoder ??= this.gpu.createCommandEncoder();
  }

  copy(from: BufferWindow, to: BufferWindow): void {
    this.#openForCopies().copyBufferToBuffer(
      from.buffer.gpu,
      from.offset,
      to.buffer.gpu,
      to.offset,
      from.bytes,
    );
    from.buffer.lastUse = to.buffer.lastUse = this.#serial;
    to.buffer.version++;
  }

  write(to: BufferWindow, data: HostArray): void {
    // writeBuffer lands before everything that is recorded but not submitted.
    if (to.buffer.lastUse === this.#serial) this.flush();
    this.check();
    to.buffer.version++;
    this.gpu.queue.writeBuffer(
      to.buffer.gpu,
      to.offset,
      data.buffer as ArrayBuffer,
      data.byteOffset,
      data.byteLength,
    );
  }

  /**
   * Lets `record` add passes and copies of its own behind what is recorded, and submits all of it.
   */
  submitWith(record: (encoder: GPUCommandEncoder) => void, dispatches: number): void {
    record(this.#openForCopies());
    this.dispatches += dispatches;
    this.flush();
  }

  flush(): void {
    if (!this.#encoder) return;
    this.#pass?.end();
    const commands = this.#encoder.finish();
    this.#pass = this.#encoder = undefined;
    if (this.#used > 0) {
      this.gpu.queue.writeBuffer(
        this.#ring,
        0,
        this.#bytes.u32,
        0,
        this.#used * this.#slotBytes / 4,
      );
    }
    this.gpu.queue.submit([commands]);
    this.#used = 0;
    this.#serial++;
    this.submits++;
    this.observer?.submitted();
  }
}
