/**
 * A WebGPU device with its memory pool, recorder and capabilities.
 *
 * @module
 */
import { kindOf, needDType, needFitting, needTensorList } from "./arguments.ts";
import {
  type AdapterInfo,
  findAdapter,
  isDenos,
  isSoftware,
  ownGpu,
  readsTextures,
  REQUESTED_LIMITS,
} from "./adapter.ts";
import { AnomalyDetector } from "./anomaly.ts";
import { noteValues } from "./display.ts";
import { type DType, dtypeOf, HAS_F16, type HostArray, hostView, itemSizeOf } from "./dtype.ts";
import {
  DeviceLostError,
  KernelError,
  LifetimeError,
  NoAdapterError,
  OutOfMemoryError,
  ShapeError,
} from "./errors.ts";
import { hostArrayOf, type HostValues } from "./host_values.ts";
import { accumulate, denseCopy, fill } from "./launch/copy.ts";
import type { FirstRuns, KernelWatch } from "./first_runs.ts";
import { type ImageLayout, Images, TEXEL_BYTES } from "./images.ts";
import type { Pace } from "./pace.ts";
import { type Kernel, type Pipeline, pipelineFor } from "./kernel.ts";
import { BufferPool, formatBytes, type MemoryCounters } from "./memory.ts";
import { type CopiedParts, Readback } from "./readback.ts";
import {
  type BufferWindow,
  type DispatchObserver,
  EagerRecorder,
  type Groups,
  type Params,
  type Recorder,
  type RecorderCounters,
} from "./recorder.ts";
import { needShape, type Shape, show, sizeOf } from "./shape.ts";
import type { Constants } from "./template.ts";
import { untrack } from "./scope_stack.ts";
import { Storage, Tensor } from "./tensor.ts";
import { Tuning } from "./tune.ts";

/** How to choose and limit a device. */
export interface DeviceOptions {
  /** Where adapters come from; default `navigator.gpu`. In Node, what `create` of webgpu gives. */
  readonly gpu?: GPU;
  /** `gpu` refuses software adapters, `software` asks for one; default `auto`. */
  readonly adapter?: "auto" | "gpu" | "software";
  /** Most bytes that tensors may hold at once; default unlimited. */
  readonly memoryLimit?: number;
  /** Largest storage binding in bytes, for tests; default what the adapter allows. */
  readonly bindingLimit?: number;
  /**
   * Coarser alignment of storage offsets in bytes than the adapter needs, for tests; a power of two
   * up to 256.
   */
  readonly offsetAlignment?: number;
  /** Take mapped memory without awaiting it; default: on runtimes where that is known to work. */
  readonly fastReadback?: boolean;
  /** Use subgroup operations where the adapter has them; default true. */
  readonly subgroups?: boolean;
  /** Use 16-bit floats where the adapter has them; default true. */
  readonly f16?: boolean;
  /** Variants to use wherever they fit, by name of the kernel: `{ gemm: "register-8x8" }`. */
  readonly variants?: Readonly<Record<string, string>>;
  /**
   * Ignore measurements when choosing kernel variants: every machine with this adapter runs the
   * same ones.
   */
  readonly deterministic?: boolean;
  /** Warn about tensors that were collected without being disposed, with where they were made. */
  readonly leakWarnings?: boolean;
  /**
   * Fill memory with NaN when it is handed out, and that of a plan before every replay: what an op
   * leaves unwritten shows. Slow, for tests.
   */
  readonly poisonMemory?: boolean;
  /** Start in anomaly mode; see {@link Device.detectAnomalies}. */
  readonly detectAnomalies?: boolean;
}

/** Optional capabilities that were granted. */
export interface DeviceFeatures {
  /** Subgroup operations in WGSL. */
  readonly subgroups: boolean;
  /** 16-bit floats in WGSL. */
  readonly f16: boolean;
  /** Timestamp queries on passes. */
  readonly timestamps: boolean;
  /** Read-only storage textures in WGSL. */
  readonly textures: boolean;
}

/**
 * Keeps what devices come from: Dawn ends with the object that `create` gives, and crashes where
 * devices of it are left.
 */
const implementations = new Set<GPU>();

/** How long after a failed call the loss of the device may take to be announced. */
const LOSS_NOTICE_MS = 200;

/**
 * Opens a device on the best adapter.
 *
 * @throws {NoAdapterError} when nothing fits; the message says what to install.
 */
export async function openDevice(options: DeviceOptions = {}): Promise<Device> {
  await collected();
  const adapter = await findAdapter(options.adapter ?? "auto", options.gpu);
  const requiredLimits: Record<string, number> = {};
  for (const name of REQUESTED_LIMITS) requiredLimits[name] = adapter.limits[name];
  if (options.offsetAlignment) {
    requiredLimits.minStorageBufferOffsetAlignment = options.offsetAlignment;
  }
  const asked = [
    ...HAS_F16 && options.f16 !== false ? ["shader-f16"] : [],
    ...options.subgroups !== false ? ["subgroups"] : [],
    "timestamp-query",
  ];
  const optional = asked.filter((name) => adapter.features.has(name as GPUFeatureName));
  // Deno grants subgroups where the adapter has them although adapter.features hides that.
  const hidden = isDenos(options.gpu) && asked.includes("subgroups") &&
    !optional.includes("subgroups");
  const attempts = [...hidden ? [[...optional, "subgroups"]] : [], optional, []];
  let failure: unknown;
  for (const requiredFeatures of attempts) {
    try {
      const gpu = await adapter.requestDevice({
        requiredFeatures: requiredFeatures as GPUFeatureName[],
        requiredLimits,
      });
      if (options.gpu) implementations.add(options.gpu);
      return new Device(gpu, adapter, new Set(requiredFeatures), options);
    } catch (error) {
      failure = error;
    }
  }
  throw new NoAdapterError(`the adapter "${adapter.info.description}" gives no device: ${failure}`);
}

/** Where the elements of a dense tensor lie. */
function bytesOf(tensor: Tensor): BufferWindow {
  const { storage, offset, size, itemSize } = tensor;
  return { buffer: storage.buffer, offset: offset * itemSize, bytes: size * itemSize };
}

/** Whether copies and writes, which go in words of 4 bytes, can move the window. */
function isWhole({ offset, bytes }: BufferWindow): boolean {
  return offset % 4 === 0 && bytes % 4 === 0;
}

/** Values on their way to the host; see {@link Device.readLater}. */
export interface PendingRead {
  /**
   * Waits for the values; further calls give the same ones.
   *
   * @throws {DeviceLostError | OutOfMemoryError | KernelError} if work before the copy failed.
   */
  values(): Promise<HostArray[]>;
}

/** A window of a tensor for a kernel: the whole tensor, or `count` elements from `start`. */
export interface TensorWindow {
  /** A dense tensor. */
  readonly tensor: Tensor;
  /** First element, relative to the tensor. */
  readonly start: number;
  /** Number of elements. */
  readonly count: number;
  /** Where the kernel reads it through a texture: how. */
  readonly image?: ImageLayout;
}

/** A GPU (or software adapter) with its memory and its queue of work. */
export class Device implements Disposable {
  /** What the adapter is. */
  readonly info: AdapterInfo;
  /** Which optional capabilities were granted. */
  readonly features: DeviceFeatures;
  /** Largest storage binding in bytes. */
  readonly bindingLimit: number;
  /** Storage offsets must be multiples of this many bytes. */
  readonly offsetAlignment: number;
  /** Most workgroups along one dimension of a launch. */
  readonly workgroupLimit: number;
  /** Settles when the device is lost; the error says why. */
  readonly lost: Promise<DeviceLostError>;
  /** Which kernel variants run. */
  readonly tuning: Tuning;
  /** Kernels compiled so far; constant once a loop has warmed up. */
  pipelinesCreated = 0;
  /** Textures through which kernels read operands. Internal to recorders. */
  readonly images: Images;
  readonly #pool: BufferPool;
  readonly #readback: Readback;
  readonly #recorder: EagerRecorder;
  #active: Recorder;
  #anomalies: AnomalyDetector | undefined;
  #failure: Error | undefined;
  /** What WebGPU refused; where a kernel does not compile that is its use, and may come first. */
  #invalid: Error | undefined;
  #reports: Promise<void>[] = [];
  readonly #leaks: FinalizationRegistry<string> | undefined;
  readonly #enableSubgroups: boolean;
  /** Whether asking when work is done waits for it. */
  readonly #blocks: boolean;

  /** Use {@link openDevice}. */
  constructor(
    /** The raw WebGPU device. */
    readonly gpu: GPUDevice,
    { info, features }: Pick<GPUAdapter, "info" | "features">,
    granted: ReadonlySet<string>,
    options: DeviceOptions,
  ) {
    this.#blocks = isDenos(options.gpu);
    this.#enableSubgroups = features.has("subgroups" as GPUFeatureName);
    const fixed = info.subgroupMinSize === info.subgroupMaxSize ? info.subgroupMaxSize : 0;
    this.features = {
      subgroups: granted.has("subgroups"),
      f16: granted.has("shader-f16"),
      timestamps: granted.has("timestamp-query"),
      textures: readsTextures(options.gpu ?? ownGpu()),
    };
    this.info = {
      vendor: info.vendor,
      architecture: info.architecture,
      device: info.device,
      description: info.description,
      software: isSoftware(info),
      subgroupSize: this.features.subgroups ? fixed ?? 0 : 0,
    };
    this.bindingLimit = Math.min(
      options.bindingLimit ?? Infinity,
      gpu.limits.maxStorageBufferBindingSize,
    );
    this.offsetAlignment = gpu.limits.minStorageBufferOffsetAlignment;
    this.workgroupLimit = gpu.limits.maxComputeWorkgroupsPerDimension;
    this.tuning = new Tuning(options.variants ?? {}, options.deterministic ?? false);
    this.#pool = new BufferPool(gpu, options.memoryLimit ?? Infinity);
    this.images = new Images(gpu, this.#pool, this.info.software && this.features.textures);
    this.#readback = new Readback(gpu, options.fastReadback);
    this.#active = this.#recorder = new EagerRecorder(
      gpu,
      this.#pool,
      this.images,
      () => this.check(),
      options.poisonMemory,
    );
    this.lost = gpu.lost.then((reason) => {
      const error = new DeviceLostError(
        `the GPU device was lost (${reason.reason}): ${reason.message || "no reason given"}`,
      );
      this.#failure ??= error;
      return error;
    });
    gpu.addEventListener("uncapturederror", (event) => {
      const { error } = event as GPUUncapturedErrorEvent;
      event.preventDefault();
      if (error.constructor.name === "GPUOutOfMemoryError") {
        this.#failure ??= new OutOfMemoryError(
          `the adapter is out of memory with ${formatBytes(this.#pool.liveBytes)} live, ` +
            `${formatBytes(this.#pool.pooledBytes)} pooled and ` +
            `${formatBytes(this.#pool.textureBytes)} in textures: ${error.message}; ` +
            "lower the batch size",
        );
      } else this.#invalid ??= new Error(`WebGPU: ${error.message}`);
    });
    if (options.leakWarnings) {
      this.#leaks = new FinalizationRegistry((site) =>
        console.warn(`a tensor was collected without being disposed; it was made at\n${site}`)
      );
    }
    if (options.detectAnomalies) this.detectAnomalies(true);
  }

  /** Memory counters. */
  get memory(): MemoryCounters {
    return this.#pool;
  }

  /** Dispatch counters. */
  get counters(): RecorderCounters {
    return this.#recorder;
  }

  /** Where ops send their work. */
  get recorder(): Recorder {
    return this.#active;
  }

  /** Whether work is recorded for a plan instead of being done. */
  get capturing(): boolean {
    return this.#active !== this.#recorder;
  }

  /**
   * Shows every dispatch to `observer` until it is called with undefined; profiles are taken so.
   */
  observe(observer: DispatchObserver | undefined): void {
    this.#recorder.observer = observer;
  }

  /**
   * Shows every kernel that has run for the first time to `watch`, until it is called with
   * undefined. Each is submitted on its own and waited for; the bits are the same.
   */
  watchKernels(watch: KernelWatch | undefined): void {
    this.firstRuns.watch = watch;
  }

  /**
   * Asks `watch` now and then, when all work up to there is done, until it is called with
   * undefined. What it throws ends the call under way, such as a replay, with part of its work left
   * out. The bits are the same.
   *
   * @param interval milliseconds of work between two questions, about
   */
  watchWork(watch: (() => void) | undefined, interval = 250): void {
    this.pace.start(watch, interval);
  }

  /**
   * Runs or records `body`, whose work is done whole: who watches the device's work is not asked
   * before all of it is submitted.
   */
  uninterrupted<T>(body: () => T): T {
    return this.pace.hold(body);
  }

  /** Questions to who watches; plans have theirs. */
  get pace(): Pace {
    return this.#recorder.pace;
  }

  /** Kernels that have not run yet; plans ask. */
  get firstRuns(): FirstRuns {
    return this.#recorder.firstRuns;
  }

  /** Who watches dispatches. */
  get observer(): DispatchObserver | undefined {
    return this.#recorder.observer;
  }

  /**
   * Switches anomaly mode: while it is on, the next {@link read} or {@link sync} throws an
   * `AnomalyError` that names the first op whose output or gradient holds a NaN or an infinity. It
   * looks through every value once more, so it is slow. Captured functions are not looked into.
   */
  detectAnomalies(on: boolean): void {
    if (on === (this.#anomalies !== undefined)) return;
    this.#anomalies?.[Symbol.dispose]();
    this.#anomalies = on ? new AnomalyDetector(this) : undefined;
  }

  /** Checks ops in anomaly mode; undefined when it is off. Internal to ops and tape. */
  get anomalies(): AnomalyDetector | undefined {
    return this.#anomalies;
  }

  /** Runs `body` with its work going to `recorder`; plans are recorded so. */
  recordInto<T>(recorder: Recorder, body: () => T): T {
    const before = this.#active;
    this.#active = recorder;
    try {
      return body();
    } finally {
      this.#active = before;
    }
  }

  /**
   * Submits recorded work together with the `dispatches` that `record` adds; plans are replayed so.
   */
  submitWith(record: (encoder: GPUCommandEncoder) => void, dispatches: number): void {
    this.#recorder.submitWith(record, dispatches);
  }

  /**
   * Throws the failure that made the device unusable, if there is one.
   *
   * @throws {DeviceLostError | OutOfMemoryError | KernelError}
   */
  check(): void {
    const failure = this.#failure ?? this.#invalid;
    if (failure) throw failure;
  }

  /** Watches a tensor for {@link DeviceOptions.leakWarnings}. */
  watch(tensor: Tensor): void {
    this.#leaks?.register(
      tensor,
      new Error().stack?.split("\n").slice(4, 8).join("\n") ?? "",
      tensor,
    );
  }

  /** Ends {@link watch}. */
  unwatch(tensor: Tensor): void {
    this.#leaks?.unregister(tensor);
  }

  /**
   * An uninitialised dense tensor.
   *
   * @throws {ShapeError} if a size is no whole number, or for f16 on an adapter without it ({@link
   * features}).
   */
  empty(shape: Shape, dtype: DType = "f32"): Tensor {
    needShape("empty", shape);
    needDType("empty", dtype);
    if (dtype === "f16" && !this.features.f16) {
      throw new ShapeError(
        `the adapter "${this.info.description}" has no 16-bit floats (shader-f16): ${
          show(shape)
        } cannot be f16`,
      );
    }
    const buffer = this.#active.allocate(sizeOf(shape) * itemSizeOf(dtype));
    return new Tensor(this, new Storage(this.#active, buffer), shape, dtype);
  }

  /**
   * A tensor with the given values, row-major.
   *
   * @param data plain numbers and those of a Float64Array become f32, smaller integers u32 or i32
   * by their sign, 64-bit ones as well where they fit
   * @param shape default: that of nested arrays, else one axis
   * @throws {ShapeError} if the count of values is not that of the shape; if values are no numbers,
   * beyond the range of the element type, or nested in rows of several lengths.
   */
  tensor(data: HostValues, shape?: Shape): Tensor {
    const { array, shape: own } = hostArrayOf(data);
    const result = this.empty(shape ?? own, dtypeOf(array));
    try {
      this.write(result, array);
    } catch (error) {
      result.dispose();
      throw error;
    }
    return result;
  }

  /**
   * A dense tensor of one value.
   *
   * @throws {ShapeError} as {@link empty}, or if elements of integers cannot hold the value.
   */
  full(shape: Shape, value: number, dtype: DType = "f32"): Tensor {
    needDType("full", dtype);
    needFitting("full", value, dtype);
    const result = this.empty(shape, dtype);
    fill(result, value);
    return result;
  }

  /**
   * A tensor without axes that takes no memory as long as only elementwise launches read it; they
   * compile to one kernel for all values. Not to be written to. Internal to ops.
   */
  constant(value: number, dtype: DType): Tensor {
    const owner = this.#active;
    const inMemory = () =>
      this.recordInto(owner, () => {
        const tensor = this.full([], value, dtype);
        untrack(tensor);
        this.unwatch(tensor);
        return tensor.storage.buffer;
      });
    // As through a parameter of full's kernel, which is f32.
    const rounded = dtype === "f16" ? Math.f16round(Math.fround(value)) : value;
    return new Tensor(this, new Storage(owner, { value: rounded, inMemory }), [], dtype);
  }

  /** A dense tensor of zeros. */
  zeros(shape: Shape, dtype: DType = "f32"): Tensor {
    return this.full(shape, 0, dtype);
  }

  /**
   * Overwrites a dense tensor, in order with all recorded work.
   *
   * @throws {ShapeError} if the count of values differs from the tensor's or the tensor is a
   * strided view.
   */
  write(tensor: Tensor, data: HostArray): void {
    this.#own("write", [tensor]);
    const dtype = dtypeOf(data);
    if (!dtype) {
      throw new ShapeError(
        `write: ${kindOf(data)} for a tensor ${show(tensor.shape)} of ${tensor.dtype}; a typed ` +
          "array of its element type is needed",
      );
    }
    if (data.length !== tensor.size || !tensor.dense) {
      throw new ShapeError(
        `write: ${data.length} values do not fit ${tensor.dense ? "" : "the strided view "}${
          show(tensor.shape)
        }`,
      );
    }
    if (dtype !== tensor.dtype) {
      throw new ShapeError(`write: ${dtype} values for a tensor of ${tensor.dtype}`);
    }
    if (data.length === 0) return;
    const to = bytesOf(tensor);
    if (isWhole(to)) {
      this.recorder.write(to, data);
      noteValues(tensor, data, to.buffer.version);
      return;
    }
    // A buffer of its own is larger than the last pair of bytes, so that it can be written in
    // words.
    const padded = new Float16Array(data.length + 1);
    padded.set(data);
    const words = this.empty([padded.length], "f16");
    this.recorder.write(bytesOf(words), padded);
    const values = words.view(tensor.shape);
    accumulate(tensor, values, false);
    values.dispose();
    words.dispose();
  }

  /** Copies one dense tensor onto another of the same size; they must lie in different buffers. */
  copy(from: Tensor, to: Tensor): void {
    this.#own("copy", [from, to]);
    if (from.size !== to.size || !from.dense || !to.dense) {
      throw new ShapeError(
        `copy: ${show(from.shape)} does not fit ${show(to.shape)} (both must be dense)`,
      );
    }
    if (from.dtype !== to.dtype) {
      throw new ShapeError(`copy: ${from.dtype} ${show(from.shape)} onto ${to.dtype}`);
    }
    const [source, target] = [bytesOf(from), bytesOf(to)];
    if (isWhole(source) && isWhole(target)) this.#active.copy(source, target);
    else if (from.size > 0) {
      const values = from.view(to.shape);
      accumulate(to, values, false);
      values.dispose();
    }
  }

  /**
   * Reads tensors back to the host in one transfer, row-major.
   *
   * @throws {DeviceLostError | OutOfMemoryError | KernelError} if recorded work failed.
   */
  async read(tensors: readonly Tensor[]): Promise<HostArray[]> {
    return await this.readLater(tensors).values();
  }

  /**
   * Takes a copy of tensors on the device, in order with all recorded work, for the host to fetch
   * later: what overwrites the tensors in between is not seen. Waits for nothing.
   *
   * @throws {DeviceLostError | OutOfMemoryError | KernelError} if recorded work failed.
   */
  readLater(tensors: readonly Tensor[]): PendingRead {
    this.#own("read", tensors);
    this.#refuseWaiting();
    this.check();
    // Copies go in words of 4 bytes; half a word at either end is taken off again below.
    const copies = tensors.map((t) => t.dense ? t : denseCopy(t));
    const parts = copies.map((t) => {
      const { buffer, offset, bytes } = bytesOf(t);
      const skip = offset % 4;
      return {
        buffer: buffer.gpu,
        offset: offset - skip,
        bytes: Math.ceil((skip + bytes) / 4) * 4,
        skip,
        length: bytes,
        dtype: t.dtype,
      };
    });
    this.#recorder.flush();
    let copy: () => CopiedParts;
    try {
      const copied = this.#readback.copy(parts);
      copy = () => copied;
    } catch (error) {
      // On a device that was just lost; fetching finds out and says so.
      copy = () => {
        throw error;
      };
    }
    copies.forEach((t, i) => t !== tensors[i] && t.dispose());
    const versions = tensors.map(({ storage }) => storage.buffer.version);
    const fetch = async (): Promise<HostArray[]> => {
      let all = new ArrayBuffer(0);
      const work = async () => {
        all = await this.#readback.fetch(copy(), (mapped) => this.#settle(mapped));
        this.pace.rest();
      };
      await this.#settle(work());
      if (this.#anomalies) await this.#anomalies.verify();
      let at = 0;
      return parts.map(({ dtype, bytes, skip, length }, i) => {
        const first = at + skip;
        at += bytes;
        const values = hostView(dtype, all.slice(first, first + length));
        const tensor = tensors[i];
        if (tensor.dense && !tensor.disposed) noteValues(tensor, values, versions[i]);
        return values;
      });
    };
    let fetched: Promise<HostArray[]> | undefined;
    return { values: () => fetched ??= fetch() };
  }

  #refuseWaiting(): void {
    if (this.capturing) this.#active.flush();
  }

  #own(what: string, tensors: readonly Tensor[]): void {
    if (!Array.isArray(tensors) || tensors.length > 0) needTensorList(what, tensors);
    for (const { device, shape } of tensors) {
      if (device !== this) {
        throw new LifetimeError(`${what}: the tensor ${show(shape)} lives on another device`);
      }
    }
  }

  /** The compiled kernel for these constants. */
  pipeline(kernel: Kernel, constants: Constants): Pipeline {
    const dialect = {
      aliasing: this.#active.aliasing,
      enableSubgroups: this.#enableSubgroups,
    };
    const report = (error: Promise<Error | undefined>) => {
      this.pipelinesCreated++;
      this.#reports.push(error.then((it) => {
        if (it) this.#failure ??= it;
      }));
    };
    return pipelineFor(this.gpu, kernel, constants, dialect, report, this.#active.compile);
  }

  /**
   * Runs a kernel over dense tensors or windows of them.
   *
   * @throws {LifetimeError} for a disposed tensor, one of another device, or a misaligned window.
   */
  run(
    kernel: Kernel,
    constants: Constants,
    operands: readonly (Tensor | TensorWindow)[],
    params: Params,
    groups: Groups,
  ): void {
    // Nothing to do; bindings of nothing would be too small for the kernel.
    if (groups === 0 || typeof groups === "object" && groups.includes(0)) return;
    const pipeline = this.pipeline(kernel, constants);
    const windows = operands.map((operand) => this.#window(kernel.name, operand));
    const copies = this.#active.aliasing ? this.#setApart(pipeline, operands, windows) : [];
    this.#active.dispatch(pipeline, windows, params, groups);
    copies.forEach((copy) => copy.dispose());
  }

  /**
   * Where all is bound for writing, WebGPU lets no two bindings overlap: operands that do, such as
   * both of a product of a tensor with itself, are copied and their `windows` replaced. Kernels
   * that meet such operands often bind them once (launch/elementwise.ts, launch/attention.ts).
   */
  #setApart(
    { name, storage }: Pipeline,
    operands: readonly (Tensor | TensorWindow)[],
    windows: BufferWindow[],
  ): Tensor[] {
    const copies: Tensor[] = [];
    const overlaps = (i: number, j: number) => {
      const [a, b] = [windows[i], windows[j]];
      // What is copied into a texture is not bound itself.
      return !a.image && !b.image && a.buffer === b.buffer && a.offset < b.offset + b.bytes &&
        b.offset < a.offset + a.bytes;
    };
    for (let i = 1; i < windows.length; i++) {
      for (let j = 0; j < i; j++) {
        if (!overlaps(i, j)) continue;
        const read = [i, j].find((it) => !storage[it].writes);
        if (read === undefined) {
          throw new KernelError(
            `kernel ${name}: ${storage[j].name} and ${storage[i].name} are written and overlap`,
          );
        }
        const operand = operands[read];
        const { tensor, start, count } = operand instanceof Tensor
          ? { tensor: operand, start: 0, count: operand.size }
          : operand;
        const copy = denseCopy(tensor.view([count], [1], tensor.offset + start));
        copies.push(copy);
        windows[read] = this.#window(name, copy);
      }
    }
    return copies;
  }

  #window(kernel: string, operand: Tensor | TensorWindow): BufferWindow {
    const { tensor, start, count, image }: TensorWindow = operand instanceof Tensor
      ? { tensor: operand, start: 0, count: operand.size }
      : operand;
    if (tensor.device !== this) {
      throw new LifetimeError(`${kernel}: an operand lives on another device`);
    }
    const offset = (tensor.offset + start) * tensor.itemSize;
    const bytes = Math.ceil(Math.max(count, 1) * tensor.itemSize / 4) * 4;
    const alignment = image ? TEXEL_BYTES : this.offsetAlignment;
    if (offset % alignment !== 0 || bytes > this.bindingLimit) {
      throw new LifetimeError(
        `${kernel}: a window of ${formatBytes(bytes)} at byte ${offset} of ${
          show(tensor.shape)
        } cannot be bound ` +
          `(alignment ${alignment} B, limit ${formatBytes(this.bindingLimit)})`,
      );
    }
    return { buffer: tensor.storage.buffer, offset, bytes, image };
  }

  /** Submits recorded work without waiting for it. */
  flush(): void {
    this.#recorder.flush();
  }

  /** Waits until all recorded work is done. */
  async sync(): Promise<void> {
    this.#refuseWaiting();
    this.#recorder.flush();
    await this.#settle(this.gpu.queue.onSubmittedWorkDone());
    this.pace.rest();
    if (this.#anomalies) await this.#anomalies.verify();
  }

  /**
   * Waits for `work` and for compile reports; a failure of the device is thrown rather than what it
   * broke.
   */
  async #settle(work: Promise<unknown>): Promise<void> {
    // Deno's thread may sleep although Dawn has something to tell it.
    const awake = "Deno" in globalThis && !this.#blocks ? setInterval(() => {}, 1) : undefined;
    try {
      await Promise.all([work, ...this.#reports.splice(0)]);
    } catch (error) {
      // On a lost device calls fail with errors of their own before `lost` has settled.
      await Promise.race([this.lost, new Promise((done) => setTimeout(done, LOSS_NOTICE_MS))]);
      this.check();
      throw error;
    } finally {
      clearInterval(awake);
    }
    this.check();
  }

  /** Destroys idle buffers, and textures that no plan reads. */
  trim(): void {
    this.#pool.trim();
    this.images.trim(() => this.#recorder.forgetImages());
  }

  /** Destroys the device; everything on it becomes unusable. */
  [Symbol.dispose](): void {
    this.#recorder.flush();
    // wgpu ends the process when a queue goes with more than 9 s of work before it; Deno waits
    // inside this call. Dawn ends it when the program ends before the call does.
    if (!this.#failure && this.#blocks) this.gpu.queue.onSubmittedWorkDone().catch(() => {});
    this.#failure ??= new DeviceLostError("the device was disposed");
    this.gpu.destroy();
    hintCollector();
  }
}

/** Large enough to make the collector run. */
const HINT_BYTES = 2 ** 26;
let hinted = false;

/**
 * Makes a collection due. Deno frees a destroyed device, about 4 MiB of the host's memory, only
 * when its object is collected, and V8, which knows nothing of that memory, sees no reason to; an
 * array that nobody holds is one. One that could be resized is mapped, not taken from malloc's
 * heap, and costs address space alone.
 */
function hintCollector(): void {
  if (!("Deno" in globalThis)) return;
  new ArrayBuffer(HINT_BYTES, { maxByteLength: HINT_BYTES });
  hinted = true;
}

/** Lets the collector run that was asked to, as it does between tasks. */
async function collected(): Promise<void> {
  if (!hinted) return;
  hinted = false;
  await new Promise((done) => setTimeout(done));
}
