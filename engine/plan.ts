/**
 * Captured plans: a function of tensors is recorded once and replayed without making buffers, bind
 * groups, pipelines or parameter blocks. All lifetimes are known then, so intermediate results
 * share one planned arena.
 *
 * @module
 */
import type { Device } from "./device.ts";
import type { HostArray } from "./dtype.ts";
import { KernelError, LifetimeError, OutOfMemoryError, ShapeError } from "./errors.ts";
import type { Pipeline } from "./kernel.ts";
import { formatBytes, type PoolBuffer } from "./memory.ts";
import {
  type BufferWindow,
  gridOf,
  type Groups,
  packParams,
  parameterBytes,
  parameterStride,
  type Params,
  type Recorder,
} from "./recorder.ts";
import { scope, tensorsIn } from "./scope.ts";
import { sameShape, show } from "./shape.ts";
import { Tensor } from "./tensor.ts";

const ALIGNMENT = 256;

/** Memory of a value inside a plan: a place in the arena, or a buffer of its own. */
class PlanBuffer implements PoolBuffer {
  lastUse = -1;
  /** First and last event that touches it. */
  first = Infinity;
  last = -1;
  /** Where it lies in the arena, once planned. */
  place = 0;
  /**
   * Values that the host gave while recording; such a buffer is uploaded once and lies outside the
   * arena.
   */
  constant: HostArray | undefined;
  /** A real buffer, for results and constants. */
  own: PoolBuffer | undefined;

  constructor(readonly id: number, readonly bytes: number) {}

  get gpu(): GPUBuffer {
    if (!this.own) {
      throw new LifetimeError(
        "a tensor made inside a captured function has no memory outside it; return it to keep it",
      );
    }
    return this.own.gpu;
  }
}

interface DispatchEvent {
  readonly pipeline: Pipeline;
  readonly windows: readonly BufferWindow[];
  readonly params: Params;
  readonly grid: readonly [number, number, number];
}

interface CopyEvent {
  readonly from: BufferWindow;
  readonly to: BufferWindow;
}

type PlanEvent = DispatchEvent | CopyEvent;

const isCopy = (event: PlanEvent): event is CopyEvent => "from" in event;

/** Records what ops do instead of doing it. */
class PlanRecorder implements Recorder {
  readonly aliasing = true;
  readonly events: PlanEvent[] = [];
  readonly buffers: PlanBuffer[] = [];
  readonly #maxGroups: number;

  constructor(device: Device) {
    this.#maxGroups = device.gpu.limits.maxComputeWorkgroupsPerDimension;
  }

  allocate(bytes: number): PoolBuffer {
    const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
    // Negative, so that no real buffer has the same.
    const buffer = new PlanBuffer(-1 - this.buffers.length, size);
    this.buffers.push(buffer);
    return buffer;
  }

  release(): void {
    // Lifetimes follow from the events.
  }

  #touch(windows: readonly BufferWindow[]): void {
    for (const { buffer } of windows) {
      if (!(buffer instanceof PlanBuffer)) continue;
      buffer.first = Math.min(buffer.first, this.events.length);
      buffer.last = this.events.length;
    }
  }

  dispatch(
    pipeline: Pipeline,
    windows: readonly BufferWindow[],
    params: Params,
    groups: Groups,
  ): void {
    const grid = gridOf(pipeline, windows, params, groups, this.#maxGroups);
    if (!grid) return;
    this.#touch(windows);
    this.events.push({ pipeline, windows, params: { ...params }, grid });
  }

  copy(from: BufferWindow, to: BufferWindow): void {
    this.#touch([from, to]);
    this.events.push({ from, to });
  }

  write({ buffer, offset }: BufferWindow, data: HostArray): void {
    if (!(buffer instanceof PlanBuffer) || buffer.first !== Infinity || offset !== 0) {
      throw new KernelError(
        "a captured function may not overwrite tensors from the host: it would happen once, " +
          "not at every replay; pass the values as an input",
      );
    }
    buffer.constant = data.slice();
  }

  flush(): void {
    throw new KernelError("a captured function may not read or wait: there is nothing to read yet");
  }
}

/** Memory of a plan, in bytes. */
export interface PlanMemory {
  /** Size of the arena that all intermediate results share. */
  readonly arena: number;
  /** Largest sum of intermediate results that are alive at once: no plan can need less. */
  readonly lowerBound: number;
  /** Inputs, results and constants, which have buffers of their own. */
  readonly persistent: number;
}

/** A recorded function. */
export interface Plan<Output> extends Disposable {
  /** What the function returned; its tensors are overwritten by every replay. */
  readonly outputs: Output;
  /** Dispatches per replay. */
  readonly dispatches: number;
  /** How much memory the plan holds. */
  readonly memory: PlanMemory;
  /**
   * Runs the recorded work on new inputs.
   *
   * @param inputs tensors or host values, in the order of the recording
   * @param onKernel is called after the first dispatch of each kernel; that waits for each, because
   * drivers compile when a kernel first runs, and is meant for the first replay. The bits are the
   * same
   * @throws {ShapeError} if an input has another shape or dtype than at the recording.
   * @throws {LifetimeError} after dispose.
   */
  replay(inputs: readonly (Tensor | HostArray)[], onKernel?: KernelCount): Output;
}

/** Hears how many kernels have run for the first time, of how many. */
export type KernelCount = (done: number, total: number) => void;

/**
 * Records `body` and returns it as a plan. Nothing runs until the first replay, which gives the
 * same bits as running the ops eagerly.
 *
 * Tensors that `body` uses besides its inputs (parameters, states) are bound as they are: they must
 * outlive the plan.
 *
 * @param inputs give shapes and dtypes; the plan has copies of its own
 * @param body synchronous; returns tensors, alone or in arrays and plain objects
 * @throws {KernelError} if `body` reads values, waits, or overwrites tensors from the host.
 * @throws {OutOfMemoryError} if the arena is above the adapter's largest buffer.
 */
export function capture<Output>(
  device: Device,
  inputs: readonly Tensor[],
  body: (...inputs: Tensor[]) => Output,
): Plan<Output> {
  const copies = inputs.map(({ shape, dtype }) => device.empty(shape, dtype));
  const recorder = new PlanRecorder(device);
  try {
    const outputs = device.recordInto(recorder, () => scope(() => body(...copies)));
    return new CapturedPlan(device, recorder, copies, outputs);
  } catch (error) {
    for (const tensor of copies) tensor.dispose();
    for (const { own } of recorder.buffers) if (own) device.recorder.release(own);
    throw error;
  }
}

/** What {@link measure} found, in bytes. */
export interface MeasuredMemory {
  /** What `build` keeps. */
  readonly state: number;
  /** Arenas of what the functions make on the way. */
  readonly arena: number;
  /** What they return. */
  readonly outputs: number;
  /** Largest single buffer among them. */
  readonly largest: number;
}

/** Records what ops do, and forgets values. */
class MeasuringRecorder extends PlanRecorder {
  override write(): void {
    // Sizes do not depend on values.
  }
}

/**
 * Finds out how much memory captured functions and their state would take, without taking any: they
 * run against a recorder, and nothing they make may be used afterwards. Kernels are compiled as a
 * side effect.
 *
 * @param build makes what outlives the functions, such as parameters and optimizer; disposed at the
 * end
 * @param bodies the functions to be captured, each on its own
 * @throws {RangeError} if a tensor is beyond what the adapter can bind
 */
export function measure<State extends Disposable>(
  device: Device,
  build: () => State,
  ...bodies: readonly ((state: State) => unknown)[]
): MeasuredMemory {
  const building = new MeasuringRecorder(device);
  return scope(() => {
    using state = device.recordInto(building, build);
    const bytes = (buffers: readonly PlanBuffer[]) => buffers.reduce((n, b) => n + b.bytes, 0);
    const measured = bodies.map((body) => {
      const recorder = new MeasuringRecorder(device);
      const results = new Set(
        tensorsIn(device.recordInto(recorder, () => scope(() => body(state))))
          .map(({ storage }) => storage.buffer),
      );
      const used = recorder.buffers.filter((buffer) => buffer.last >= 0);
      return {
        // Even an empty arena is a buffer.
        arena: Math.max(ALIGNMENT, planArena(used.filter((buffer) => !results.has(buffer)))),
        outputs: bytes(used.filter((buffer) => results.has(buffer))),
      };
    });
    const arenas = measured.map(({ arena }) => arena);
    return {
      state: bytes(building.buffers),
      arena: arenas.reduce((sum, arena) => sum + arena, 0),
      outputs: measured.reduce((sum, { outputs }) => sum + outputs, 0),
      largest: Math.max(...arenas, ...building.buffers.map((buffer) => buffer.bytes)),
    };
  });
}

/**
 * Gives every buffer a place in one arena, largest first, lowest free place; returns the arena's
 * size.
 */
function planArena(buffers: readonly PlanBuffer[]): number {
  const placed: PlanBuffer[] = [];
  let size = 0;
  for (const buffer of [...buffers].sort((a, b) => b.bytes - a.bytes || a.first - b.first)) {
    const neighbours = placed
      .filter((other) => other.first <= buffer.last && buffer.first <= other.last)
      .sort((a, b) => a.place - b.place);
    let place = 0;
    for (const other of neighbours) {
      if (place + buffer.bytes <= other.place) break;
      place = Math.max(place, other.place + other.bytes);
    }
    buffer.place = place;
    placed.push(buffer);
    size = Math.max(size, place + buffer.bytes);
  }
  return size;
}

/** Largest sum of sizes of buffers that are alive at one event. */
function largestLiveSum(buffers: readonly PlanBuffer[], events: number): number {
  const change = new Float64Array(events + 1);
  for (const { first, last, bytes } of buffers) {
    change[first] += bytes;
    change[last + 1] -= bytes;
  }
  let live = 0;
  return change.reduce((most, delta) => Math.max(most, live += delta), 0);
}

interface Step {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly offset: number[];
  readonly grid: readonly [number, number, number];
}

class CapturedPlan<Output> implements Plan<Output> {
  readonly dispatches: number;
  readonly memory: PlanMemory;
  readonly #steps: (Step | CopyEvent)[] = [];
  readonly #events: readonly PlanEvent[];
  readonly #arena: PoolBuffer;
  readonly #params: GPUBuffer;
  readonly #own: PlanBuffer[];
  #disposed = false;

  constructor(
    private readonly device: Device,
    recorder: PlanRecorder,
    private readonly inputs: readonly Tensor[],
    readonly outputs: Output,
  ) {
    const results = new Set(tensorsIn(outputs).map((tensor) => tensor.storage.buffer));
    const used = recorder.buffers.filter((buffer) => buffer.last >= 0 || results.has(buffer));
    this.#own = used.filter((buffer) => buffer.constant !== undefined || results.has(buffer));
    const shared = used.filter((buffer) => !this.#own.includes(buffer));
    for (const buffer of this.#own) {
      const real = device.recorder.allocate(buffer.bytes);
      buffer.own = real;
      if (buffer.constant) {
        device.recorder.write({ buffer: real, offset: 0, bytes: buffer.bytes }, buffer.constant);
      }
    }
    const size = planArena(shared);
    this.memory = {
      arena: size,
      lowerBound: largestLiveSum(shared, recorder.events.length),
      persistent: [...this.#own, ...inputs.map((t) => t.storage.buffer)]
        .reduce((sum, { bytes }) => sum + bytes, 0),
    };
    const { maxBufferSize } = device.gpu.limits;
    if (size > maxBufferSize) {
      throw new OutOfMemoryError(
        `the captured function needs ${
          formatBytes(size)
        } for intermediate results, but this adapter's largest ` +
          `buffer is ${formatBytes(maxBufferSize)}; lower the batch size`,
      );
    }
    this.#arena = device.recorder.allocate(size);
    this.dispatches = recorder.events.filter((event) => !isCopy(event)).length;
    this.#params = device.gpu.createBuffer({
      size: Math.max(1, this.dispatches) * parameterStride(device.gpu),
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    this.#events = recorder.events;
    this.#build(recorder.events);
  }

  /** Where a window of the recording lies now. */
  #resolve({ buffer, offset, bytes }: BufferWindow): BufferWindow {
    return buffer instanceof PlanBuffer && !buffer.own
      ? { buffer: this.#arena, offset: buffer.place + offset, bytes }
      : { buffer, offset, bytes };
  }

  /** Makes parameter block and bind groups of all events. */
  #build(events: readonly PlanEvent[]): void {
    const { gpu } = this.device;
    const stride = parameterStride(gpu);
    const bytes = parameterBytes(this.#params.size);
    let slot = 0;
    for (const event of events) {
      if (isCopy(event)) {
        const [from, to] = [this.#resolve(event.from), this.#resolve(event.to)];
        if (from.buffer.gpu === to.buffer.gpu) {
          throw new KernelError(
            "a captured function copies between two of its intermediate results; use an op instead",
          );
        }
        this.#steps.push({ from, to });
        continue;
      }
      const { pipeline, windows, params, grid } = event;
      packParams(pipeline, params, bytes, slot * stride / 4);
      this.#steps.push({
        pipeline: pipeline.gpu,
        group: gpu.createBindGroup({
          layout: pipeline.layout,
          entries: [
            {
              binding: 0,
              resource: { buffer: this.#params, offset: 0, size: pipeline.paramBytes },
            },
            ...windows.map((window, i) => {
              const { buffer, offset, bytes } = this.#resolve(window);
              return { binding: i + 1, resource: { buffer: buffer.gpu, offset, size: bytes } };
            }),
          ],
        }),
        offset: [slot++ * stride],
        grid,
      });
    }
    gpu.queue.writeBuffer(this.#params, 0, bytes.u32);
  }

  replay(inputs: readonly (Tensor | HostArray)[], onKernel?: KernelCount): Output {
    if (this.#disposed) throw new LifetimeError("a captured plan was used after it was disposed");
    if (inputs.length !== this.inputs.length) {
      throw new ShapeError(`replay: ${inputs.length} inputs for a plan of ${this.inputs.length}`);
    }
    inputs.forEach((input, i) => {
      const own = this.inputs[i];
      if (!(input instanceof Tensor)) this.device.write(own, input);
      else if (sameShape(input.shape, own.shape) && input.dtype === own.dtype) {
        this.device.copy(input, own);
      } else {
        throw new ShapeError(
          `replay: input ${i} is ${
            show(input.shape)
          } of ${input.dtype}, the plan was recorded for ` +
            `${show(own.shape)} of ${own.dtype}; capture again for another shape`,
        );
      }
    });
    if (this.device.observer) this.#runObserved();
    else if (onKernel) this.#runCounted(onKernel);
    else this.device.submitWith((encoder) => this.#encode(encoder, this.#steps), this.dispatches);
    return this.outputs;
  }

  /** The same work with an end of submission behind the first dispatch of each kernel. */
  #runCounted(onKernel: KernelCount): void {
    const total =
      new Set(this.#steps.flatMap((step) => "from" in step ? [] : [step.pipeline])).size;
    const seen = new Set<GPUComputePipeline>();
    let part: (Step | CopyEvent)[] = [];
    const submit = () => {
      const dispatches = part.filter((step) => !("from" in step)).length;
      this.device.submitWith((encoder) => this.#encode(encoder, part), dispatches);
      part = [];
    };
    for (const step of this.#steps) {
      part.push(step);
      if ("from" in step || seen.has(step.pipeline)) continue;
      seen.add(step.pipeline);
      submit();
      // Deno waits inside this call; where it does not, the count runs ahead of the device.
      this.device.gpu.queue.onSubmittedWorkDone().catch(() => {});
      onKernel(seen.size, total);
    }
    submit();
  }

  /** The same work dispatch by dispatch, as a profile wants to see it. */
  #runObserved(): void {
    const { recorder } = this.device;
    for (const event of this.#events) {
      if (isCopy(event)) {
        recorder.copy(this.#resolve(event.from), this.#resolve(event.to));
        continue;
      }
      const { pipeline, windows, params, grid } = event;
      recorder.dispatch(pipeline, windows.map((w) => this.#resolve(w)), params, grid);
    }
    recorder.flush();
  }

  #encode(encoder: GPUCommandEncoder, steps: readonly (Step | CopyEvent)[]): void {
    let pass: GPUComputePassEncoder | undefined;
    for (const step of steps) {
      if ("from" in step) {
        pass?.end();
        pass = undefined;
        const { from, to } = step;
        encoder.copyBufferToBuffer(
          from.buffer.gpu,
          from.offset,
          to.buffer.gpu,
          to.offset,
          from.bytes,
        );
        continue;
      }
      pass ??= encoder.beginComputePass();
      pass.setPipeline(step.pipeline);
      pass.setBindGroup(0, step.group, step.offset);
      pass.dispatchWorkgroups(...step.grid);
    }
    pass?.end();
  }

  /** Frees the plan's memory; its outputs become unusable. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.device.flush();
    for (const tensor of [...this.inputs, ...tensorsIn(this.outputs)]) tensor.dispose();
    for (const { own } of this.#own) if (own) this.device.recorder.release(own);
    this.device.recorder.release(this.#arena);
    this.#params.destroy();
  }
}
