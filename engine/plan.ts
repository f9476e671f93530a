/**
 * Captured plans: a function of tensors is recorded once and replayed without making buffers, bind
 * groups, pipelines or parameter blocks. All lifetimes are known then, so intermediate results
 * share one planned arena.
 *
 * @module
 */
import { kindOf, needDevice, needFunction, needTensorList } from "./arguments.ts";
import type { Device } from "./device.ts";
import type { HostArray } from "./dtype.ts";
import { KernelError, LifetimeError, OutOfMemoryError, ShapeError } from "./errors.ts";
import type { Pipeline } from "./kernel.ts";
import { fuse, type Work } from "./fusion.ts";
import { BUFFER_USAGE } from "./gpu_flags.ts";
import { accumulate } from "./launch/copy.ts";
import { canBind, dispatchOf, type MapLaunch } from "./launch/elementwise.ts";
import { type Image, imageBytes } from "./images.ts";
import { type Access, hoist, overlaps } from "./milestones.ts";
import { formatBytes, type PoolBuffer } from "./memory.ts";
import {
  type BufferWindow,
  type GradientLog,
  gridOf,
  type Groups,
  packParams,
  parameterBytes,
  parameterSlots,
  parameterStride,
  type Params,
  type Recorder,
  resourceOf,
} from "./recorder.ts";
import { keep, scope, tensorsIn } from "./scope.ts";
import { sameShape, show } from "./shape.ts";
import { type GradientSlot, Tensor } from "./tensor.ts";

const ALIGNMENT = 256;

/** Memory of a value inside a plan: a place in the arena, or a buffer of its own. */
class PlanBuffer implements PoolBuffer {
  static #made = 0;
  /** Negative, so that no real buffer has the same. */
  readonly id: number = -++PlanBuffer.#made;
  lastUse = -1;
  version = 0;
  releases = 0;
  /** Whether anything recorded reads or writes it. */
  touched = false;
  /** First and last event that reads or writes it, once planned. */
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
  /** Whether a real buffer holds values: not before the first replay. */
  ready = false;

  constructor(readonly bytes: number) {}

  get gpu(): GPUBuffer {
    if (!this.own) {
      throw new LifetimeError(
        "a tensor made inside a captured function has no memory outside it; return it to keep it",
      );
    }
    if (!this.ready) {
      throw new LifetimeError("the results of a plan have no values before its first replay");
    }
    return this.own.gpu;
  }
}

/** Which of two recordings an event belongs to: that for a slot that a replay finds so. */
interface Condition {
  readonly slot: GradientSlot;
  readonly filled: boolean;
}

interface DispatchEvent {
  readonly when?: Condition;
  readonly whole?: boolean;
  readonly milestone?: number;
  readonly pipeline: Pipeline;
  readonly windows: readonly BufferWindow[];
  readonly params: Params;
  readonly grid: readonly [number, number, number];
}

interface CopyEvent {
  readonly when?: Condition;
  readonly whole?: boolean;
  /** The milestone that it is work of; see {@link milestone}. */
  readonly milestone?: number;
  readonly from: BufferWindow;
  readonly to: BufferWindow;
}

type PlanEvent = DispatchEvent | CopyEvent;

/** An elementwise launch before it is known what it is joined with. */
interface MapEvent {
  readonly when?: Condition;
  /** Whether it belongs to work that is done whole. */
  readonly whole?: boolean;
  readonly milestone?: number;
  readonly map: MapLaunch;
}

/** Memory that an event reads or writes. */
type Touch = Work["touches"][number];

const isCopy = (event: PlanEvent): event is CopyEvent => "from" in event;

/** Memory that an event reads or writes. */
function accessesOf(event: PlanEvent): Access[] {
  if (isCopy(event)) {
    return [{ window: event.from, writes: false }, { window: event.to, writes: true }];
  }
  const { windows, pipeline } = event;
  return windows.map((window, i) => ({ window, writes: pipeline.storage[i].writes }));
}

const isDue = ({ when }: { readonly when?: Condition }): boolean =>
  !when || when.slot.filledNow === when.filled;

/** What a recording did with the gradient of a leaf. */
interface SlotUse {
  /** Whether the recording found it filled. */
  readonly before: boolean;
  /** Whether replays must find the same. */
  required: boolean;
  /** Whether it is filled; undefined where that is as replays find it. */
  filled: boolean | undefined;
}

/** What a recording did with memory that it did not make. */
interface OuterUse {
  /** Its version before. */
  readonly version: number;
  readonly releases: number;
  written: boolean;
}

/** Records what ops do instead of doing it. */
class PlanRecorder implements Recorder, GradientLog {
  readonly aliasing = true;
  readonly #events: ((PlanEvent | MapEvent) & Work)[] = [];
  readonly buffers: PlanBuffer[] = [];
  readonly slots = new Map<GradientSlot, SlotUse>();
  readonly outer = new Map<PoolBuffer, OuterUse>();
  readonly gradients = this;
  /** What was asked that no plan can do, maybe by a promise that nobody waits for. */
  refused: KernelError | undefined;
  readonly #own = new Set<PoolBuffer>();
  readonly #maxGroups: number;
  #when: Condition | undefined;
  #milestone: number | undefined;
  #milestones = 0;
  /** How many of the events have to be done for each milestone, once they are planned. */
  ends: ReadonlyMap<number, number> = new Map();

  constructor(private readonly device: Device, private readonly inputs: readonly Tensor[] = []) {
    this.#maxGroups = device.gpu.limits.maxComputeWorkgroupsPerDimension;
  }

  allocate(bytes: number): PoolBuffer {
    const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
    const buffer = new PlanBuffer(size);
    this.buffers.push(buffer);
    this.#own.add(buffer);
    return buffer;
  }

  release(): void {
    // Lifetimes follow from the events.
  }

  poison(): void {
    // Replays do.
  }

  #slot(slot: GradientSlot): SlotUse {
    let use = this.slots.get(slot);
    if (!use) {
      use = { before: slot.filledNow, required: false, filled: undefined };
      this.slots.set(slot, use);
    }
    return use;
  }

  known(slot: GradientSlot): boolean | undefined {
    return this.#slot(slot).filled;
  }

  require(slot: GradientSlot): boolean {
    const use = this.#slot(slot);
    use.required ||= use.filled === undefined;
    return use.filled ??= use.before;
  }

  note(slot: GradientSlot, filled: boolean): void {
    this.#slot(slot).filled = filled;
  }

  either(slot: GradientSlot, record: (filled: boolean) => void): void {
    try {
      for (const filled of [false, true]) {
        this.#when = { slot, filled };
        record(filled);
      }
    } finally {
      this.#when = undefined;
    }
  }

  /** Records the work of the next milestone. */
  milestone(body: () => void): void {
    this.#milestone = this.#milestones++;
    try {
      body();
    } finally {
      this.#milestone = undefined;
    }
  }

  isInner(tensor: Tensor): boolean {
    return tensor.isMadeBy(this) || this.inputs.includes(tensor);
  }

  /** Nothing of what was recorded has been written yet. */
  restoreVersions(): void {
    for (const [buffer, { version }] of this.outer) buffer.version = version;
  }

  #add(event: PlanEvent | MapEvent, touches: readonly Touch[]): void {
    for (const { buffer, writes } of touches) {
      if (buffer instanceof PlanBuffer && this.#own.has(buffer)) {
        buffer.touched = true;
      } else {
        const { version, releases } = buffer;
        const use = this.outer.get(buffer) ?? { version, releases, written: false };
        use.written ||= writes;
        this.outer.set(buffer, use);
      }
      if (writes) buffer.version++;
    }
    this.#events.push({
      ...{ ...event, touches, when: this.#when, whole: this.device.pace.isHeld },
      milestone: this.#milestone,
    });
  }

  dispatch(
    pipeline: Pipeline,
    windows: readonly BufferWindow[],
    params: Params,
    groups: Groups,
  ): void {
    const grid = gridOf(pipeline, windows, params, groups, this.#maxGroups);
    if (!grid) return;
    this.#add(
      { pipeline, windows, params: { ...params }, grid },
      windows.map(({ buffer }, i) => ({ buffer, writes: pipeline.storage[i].writes })),
    );
  }

  map(map: MapLaunch): void {
    const reads = map.loads.map(({ buffer }) => ({ buffer, writes: false }));
    this.#add({ map }, [...reads, { buffer: map.out.buffer, writes: true }]);
  }

  copy(from: BufferWindow, to: BufferWindow): void {
    this.#add({ from, to }, [
      { buffer: from.buffer, writes: false },
      { buffer: to.buffer, writes: true },
    ]);
  }

  /**
   * What was recorded, elementwise launches joined where that can be; buffers know from here on
   * when they are in use.
   *
   * @param results memory of what the function returned
   */
  finish(device: Device, results: ReadonlySet<PoolBuffer>): readonly PlanEvent[] {
    const isPassing = (buffer: PoolBuffer) =>
      buffer instanceof PlanBuffer && this.#own.has(buffer) && !results.has(buffer) &&
      buffer.constant === undefined;
    const joined = fuse(this.#events, isPassing, (map) => canBind(device, map));
    const events: PlanEvent[] = [];
    this.#events.forEach((recorded, i) => {
      let event: PlanEvent;
      if ("map" in recorded) {
        const map = joined.has(i) ? joined.get(i) : recorded.map;
        if (!map) return;
        const { pipeline, windows, params, groups } = dispatchOf(device, map);
        const grid = gridOf(pipeline, windows, params, groups, this.#maxGroups)!;
        const { when, whole, milestone } = recorded;
        event = { pipeline, windows, params, grid, when, whole, milestone };
      } else {
        event = recorded;
      }
      events.push(event);
    });
    const ordered = hoist(events, accessesOf);
    this.ends = ordered.ends;
    ordered.events.forEach((event, i) => {
      for (const { window: { buffer } } of accessesOf(event)) {
        if (!(buffer instanceof PlanBuffer) || !this.#own.has(buffer)) continue;
        buffer.first = Math.min(buffer.first, i);
        buffer.last = i;
      }
    });
    return ordered.events;
  }

  write({ buffer, offset }: BufferWindow, data: HostArray): void {
    const fresh = buffer instanceof PlanBuffer && this.#own.has(buffer) &&
      !buffer.touched && buffer.constant === undefined;
    if (!fresh || offset !== 0) {
      throw new KernelError(
        "a captured function may not overwrite tensors from the host: it would happen once, " +
          "not at every replay; pass the values as an input",
      );
    }
    buffer.constant = data.slice();
  }

  flush(): void {
    this.refused = new KernelError(
      "a captured function may not read or wait: there is nothing to read yet",
    );
    throw this.refused;
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
  /** Dispatches per replay, of leaves that have no gradient yet. */
  readonly dispatches: number;
  /** How much memory the plan holds. */
  readonly memory: PlanMemory;
  /**
   * Runs the recorded work on new inputs.
   *
   * @param inputs tensors or host values, in the order of the recording
   * @throws {ShapeError} if an input has another shape or dtype than at the recording.
   * @throws {LifetimeError} after dispose, or if a tensor that the plan uses was disposed.
   * @throws {KernelError} inside a captured function, or if what was recorded depends on whether a
   * leaf had a gradient, and now it is otherwise.
   */
  replay(inputs: readonly (Tensor | HostArray)[]): Output;
  /**
   * As {@link replay}, in parts: gives the numbers of {@link milestone}s, counted from 0 in the
   * order of the recording, as their work has been submitted. What follows is submitted when the
   * next number is asked for; all of them have to be.
   */
  replayInParts(inputs: readonly (Tensor | HostArray)[]): Generator<number, Output>;
}

/**
 * Runs `body`; inside a captured function, so that its results can be had before the rest is done:
 * its work is recorded as early as it depends on nothing behind it, and {@link Plan.replayInParts}
 * stops there.
 */
export function milestone(device: Device, body: () => void): void {
  const { recorder } = device;
  if (recorder instanceof PlanRecorder) recorder.milestone(body);
  else body();
}

/**
 * Records `body` and returns it as a plan. Nothing runs until the first replay, which gives the
 * same bits as running the ops eagerly.
 *
 * Tensors that `body` uses besides its inputs (parameters, states) are bound as they are: they must
 * outlive the plan. A replay overwrites the gradient of a leaf or adds to it, as running `body`
 * would.
 *
 * @param inputs give shapes and dtypes; the plan has copies of its own, which are no leaves
 * @param body synchronous; returns tensors, alone or in arrays and plain objects
 * @throws {KernelError} if `body` reads values, waits, or overwrites tensors from the host; inside
 * another captured function; for an input that wants a gradient.
 * @throws {OutOfMemoryError} if the arena is above the adapter's largest buffer.
 */
export function capture<Output>(
  device: Device,
  inputs: readonly Tensor[],
  body: (...inputs: Tensor[]) => Output,
): Plan<Output> {
  needDevice("capture", device);
  if (inputs?.length !== 0) needTensorList("capture", inputs);
  needFunction("capture", "the body", body);
  if (device.capturing) throw new KernelError("capture: another function is being captured");
  inputs.forEach((input, i) => {
    if (input.device !== device) {
      throw new LifetimeError(`capture: input ${i} ${show(input.shape)} lives on another device`);
    }
    if (input.disposed) {
      throw new LifetimeError(`capture: input ${i} ${show(input.shape)} was disposed`);
    }
    if (input.requiresGrad || input.node) {
      throw new KernelError(
        `capture: input ${i} ${
          show(input.shape)
        } wants a gradient, but the plan works on a copy; ` +
          "use it without passing it, or call trainable() inside and return the gradient",
      );
    }
  });
  // What a plan has outlives the scope that it is made in.
  const copies = inputs.map(({ shape, dtype }) => keep(device.empty(shape, dtype)));
  const recorder = new PlanRecorder(device, copies);
  try {
    const { outputs, events } = device.recordInto(recorder, () => {
      const outputs = scope(() => body(...copies));
      if (recorder.refused) throw recorder.refused;
      for (const tensor of tensorsIn(outputs)) if (tensor.isMadeBy(recorder)) keep(tensor);
      return { outputs, events: recorder.finish(device, memoryOf(outputs)) };
    });
    return new CapturedPlan(device, recorder, copies, outputs, events);
  } catch (error) {
    for (const tensor of copies) tensor.dispose();
    for (const { own } of recorder.buffers) if (own) device.recorder.release(own);
    throw error;
  } finally {
    recorder.restoreVersions();
  }
}

/** Memory of all tensors in a value. */
function memoryOf(value: unknown): Set<PoolBuffer> {
  return new Set(tensorsIn(value).map(({ storage }) => storage.buffer));
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
  /** Textures of operands beside all that, which the functions share; 0 on most adapters. */
  readonly textures: number;
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
  needDevice("measure", device);
  [build, ...bodies].forEach((body, i) => needFunction("measure", `function ${i}`, body));
  const building = new MeasuringRecorder(device);
  return scope(() => {
    using state = device.recordInto(building, build);
    const bytes = (buffers: readonly PlanBuffer[]) => buffers.reduce((n, b) => n + b.bytes, 0);
    const dispatches: DispatchEvent[] = [];
    const measured = bodies.map((body) => {
      const recorder = new MeasuringRecorder(device);
      const results = device.recordInto(recorder, () => {
        const results = memoryOf(scope(() => body(state)));
        for (const it of recorder.finish(device, results)) {
          if (isCopy(it)) continue;
          dispatches.push(it);
          device.firstRuns.expect(it.pipeline, it.params);
        }
        return results;
      });
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
      largest: building.buffers.reduce(
        (most, { bytes }) => Math.max(most, bytes),
        Math.max(...arenas),
      ),
      textures: imageBytes(dispatches),
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

/** Whether two windows become the same texture. */
function isSame(a: BufferWindow, b: BufferWindow): boolean {
  return a.buffer === b.buffer && a.offset === b.offset &&
    a.image?.bytesPerRow === b.image?.bytesPerRow && a.image?.height === b.image?.height &&
    a.image?.width === b.image?.width;
}

interface Step {
  readonly when?: Condition;
  /** Windows that are copied into textures first. */
  readonly images: readonly { readonly window: BufferWindow; readonly to: Image }[];
  readonly whole?: boolean;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly offset: number[];
  readonly grid: readonly [number, number, number];
}

class CapturedPlan<Output> implements Plan<Output> {
  readonly dispatches: number;
  readonly memory: PlanMemory;
  readonly #steps: (Step | CopyEvent)[] = [];
  readonly #arena: PoolBuffer;
  readonly #params: GPUBuffer;
  readonly #own: PlanBuffer[];
  readonly #textures = new Set<Image>();
  #disposed = false;

  constructor(
    private readonly device: Device,
    private readonly recorder: PlanRecorder,
    private readonly inputs: readonly Tensor[],
    readonly outputs: Output,
    private readonly events: readonly PlanEvent[],
  ) {
    const results = memoryOf(outputs);
    const used = recorder.buffers.filter((buffer) => buffer.last >= 0 || results.has(buffer));
    this.#own = used.filter((buffer) => buffer.constant !== undefined || results.has(buffer));
    const shared = used.filter((buffer) => !this.#own.includes(buffer));
    for (const buffer of this.#own) {
      const real = device.recorder.allocate(buffer.bytes);
      buffer.own = real;
      if (buffer.constant) {
        buffer.ready = true;
        device.recorder.write({ buffer: real, offset: 0, bytes: buffer.bytes }, buffer.constant);
      }
    }
    const size = planArena(shared);
    this.memory = {
      arena: size,
      lowerBound: largestLiveSum(shared, events.length),
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
    const dispatches = events.filter((event): event is DispatchEvent => !isCopy(event));
    const stride = parameterStride(device.gpu);
    this.dispatches = dispatches.filter(({ when }) => !when?.filled).length;
    this.#params = device.gpu.createBuffer({
      size: stride *
          dispatches.reduce((n, { pipeline }) => n + parameterSlots(pipeline, stride), 0) || stride,
      usage: BUFFER_USAGE.UNIFORM | BUFFER_USAGE.COPY_DST,
    });
    this.#build();
  }

  /** Where a window of the recording lies now. */
  #resolve(window: BufferWindow): BufferWindow {
    const { buffer, offset } = window;
    if (!(buffer instanceof PlanBuffer)) return window;
    if (buffer.own) return { ...window, buffer: buffer.own };
    if (this.recorder.outer.has(buffer)) void buffer.gpu; // says what it is
    return { ...window, buffer: this.#arena, offset: buffer.place + offset };
  }

  /** Makes parameter block and bind groups of all events. */
  #build(): void {
    const { gpu } = this.device;
    const stride = parameterStride(gpu);
    const bytes = parameterBytes(this.#params.size);
    let slot = 0;
    // What textures hold at this point of a replay, whatever it leaves out.
    const held = new Map<Image, BufferWindow>();
    const forget = (written: BufferWindow) =>
      held.forEach((window, image) => overlaps(window, written) && held.delete(image));
    for (const event of this.events) {
      if (event.when) held.clear();
      if (isCopy(event)) {
        const [from, to] = [this.#resolve(event.from), this.#resolve(event.to)];
        forget(to);
        if (from.buffer.gpu === to.buffer.gpu) {
          throw new KernelError(
            "a captured function copies between two of its intermediate results; use an op instead",
          );
        }
        this.#steps.push({ from, to, when: event.when, whole: event.whole });
        continue;
      }
      const { pipeline, params, grid, when, whole } = event;
      const windows = event.windows.map((window) => this.#resolve(window));
      const { images } = this.device;
      packParams(pipeline, params, bytes, slot * stride / 4);
      this.#steps.push({
        images: windows.flatMap((window, i) => {
          if (!window.image) return [];
          const to = images.at(i, window.image);
          this.#textures.add(to);
          const known = held.get(to);
          if (known && isSame(known, window)) return [];
          if (!when) held.set(to, window);
          return [{ window, to }];
        }),
        pipeline: pipeline.gpu,
        group: gpu.createBindGroup({
          layout: pipeline.layout,
          entries: [
            {
              binding: 0,
              resource: { buffer: this.#params, offset: 0, size: pipeline.paramBytes },
            },
            ...windows.map((window, i) => {
              return { binding: i + 1, resource: resourceOf(window, i, images) };
            }),
          ],
        }),
        offset: [slot * stride],
        grid,
        when,
        whole,
      });
      windows.forEach((window, i) => pipeline.storage[i].writes && forget(window));
      slot += parameterSlots(pipeline, stride);
    }
    for (const image of this.#textures) image.plans++;
    gpu.queue.writeBuffer(this.#params, 0, bytes.u32);
  }

  replay(inputs: readonly (Tensor | HostArray)[]): Output {
    this.#begin(inputs);
    if (this.device.observer) this.#runObserved();
    else this.#run(this.#steps.filter(isDue));
    this.#note();
    return this.outputs;
  }

  *replayInParts(inputs: readonly (Tensor | HostArray)[]): Generator<number, Output> {
    this.#begin(inputs);
    const observed = this.device.observer !== undefined;
    if (observed) this.#runObserved();
    // Conditions are those of the start.
    const due = this.#steps.map(isDue);
    let done = 0;
    const runTo = (end: number) => {
      const from = done;
      done = Math.max(done, end);
      if (!observed) this.#run(this.#steps.slice(from, end).filter((_, i) => due[from + i]));
    };
    for (const [number, end] of [...this.recorder.ends].sort(([, a], [, b]) => a - b)) {
      runTo(end);
      yield number;
    }
    runTo(this.#steps.length);
    this.#note();
    return this.outputs;
  }

  /** Takes the inputs of a replay. */
  #begin(inputs: readonly (Tensor | HostArray)[]): void {
    if (this.#disposed) throw new LifetimeError("a captured plan was used after it was disposed");
    if (!Array.isArray(inputs)) {
      throw new ShapeError(`replay: ${kindOf(inputs)} is given, an array of inputs is needed`);
    }
    if (inputs.length !== this.inputs.length) {
      throw new ShapeError(`replay: ${inputs.length} inputs for a plan of ${this.inputs.length}`);
    }
    this.#check();
    inputs.forEach((input, i) => {
      const own = this.inputs[i];
      if (!(input instanceof Tensor)) this.device.write(own, input);
      else if (sameShape(input.shape, own.shape) && input.dtype === own.dtype) {
        if (!input.dense && input.device === own.device) accumulate(own, input, false);
        else if (input.storage !== own.storage) this.device.copy(input, own);
      } else {
        throw new ShapeError(
          `replay: input ${i} is ${
            show(input.shape)
          } of ${input.dtype}, the plan was recorded for ` +
            `${show(own.shape)} of ${own.dtype}; capture again for another shape`,
        );
      }
    });
    for (const buffer of this.#own) if (!buffer.constant) this.device.recorder.poison(buffer.own!);
    this.device.recorder.poison(this.#arena);
  }

  /** Throws where a replay would not do what running the function would. */
  #check(): void {
    if (this.device.capturing) {
      throw new KernelError("replay: a captured function cannot replay a plan; call the function");
    }
    for (const [buffer, { releases }] of this.recorder.outer) {
      if (buffer.releases !== releases) {
        throw new LifetimeError("replay: a tensor that the plan uses was disposed");
      }
    }
    for (const [slot, { before, required }] of this.recorder.slots) {
      if (required && slot.filledNow !== before) {
        throw new KernelError(
          `replay: the gradient of a leaf ${show(slot.tensor.shape)} was ${
            before ? "there" : "empty"
          } when the function was captured, and is ${before ? "empty" : "there"} now; ` +
            `${before ? "go backward" : "call zeroGrad"} before, or inside the function`,
        );
      }
    }
  }

  /** Notes what a replay has written and filled. */
  #note(): void {
    for (const [buffer, { written }] of this.recorder.outer) if (written) buffer.version++;
    for (const buffer of this.#own) {
      buffer.ready = true;
      buffer.version++;
    }
    for (const [slot, { filled }] of this.recorder.slots) slot.filledNow = filled ?? slot.filledNow;
  }

  /** In one submission, but for kernels that somebody awaits, and work that somebody watches. */
  #run(due: readonly (Step | CopyEvent)[]): void {
    const { device } = this;
    const { firstRuns, pace } = device;
    const isNew = (step: Step | CopyEvent): step is Step =>
      !("from" in step) && firstRuns.isAwaited(step.pipeline);
    const total = new Set(due.filter(isNew).map(({ pipeline }) => pipeline)).size;
    let part: (Step | CopyEvent)[] = [];
    let ready = 0;
    const submit = () => {
      const dispatches = part.filter((step) => !("from" in step)).length;
      device.submitWith((encoder) => this.#encode(encoder, part), dispatches);
      part = [];
    };
    for (const step of due) {
      if (pace.isDue && !step.whole) {
        submit();
        pace.ask();
      }
      const awaited = total > 0 && isNew(step);
      if (awaited && firstRuns.before) {
        // What comes before it is computed meanwhile.
        submit();
        firstRuns.before(step.pipeline);
      }
      part.push(step);
      if (!("from" in step)) pace.add();
      if (!awaited) continue;
      submit();
      pace.rest();
      firstRuns.wait(step.pipeline, ++ready, total);
    }
    submit();
  }

  /** The same work dispatch by dispatch, as a profile wants to see it. */
  #runObserved(): void {
    const { recorder } = this.device;
    for (const event of this.events.filter(isDue)) {
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
      if (step.images.length > 0) {
        pass?.end();
        pass = undefined;
        for (const { window, to } of step.images) this.device.images.copy(encoder, window, to);
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
    // What the function returned of tensors that others made stays theirs.
    const outputs = tensorsIn(this.outputs).filter((tensor) => tensor.isMadeBy(this.recorder));
    for (const tensor of [...this.inputs, ...outputs]) tensor.dispose();
    for (const image of this.#textures) image.plans--;
    for (const buffer of this.#own) {
      buffer.releases++;
      this.device.recorder.release(buffer.own!);
    }
    this.device.recorder.release(this.#arena);
    this.#params.destroy();
  }
}
