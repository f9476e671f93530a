/**
 * Anomaly mode: finds the first op whose output or gradient holds a NaN or an infinity, or that is
 * given an index out of range.
 *
 * After each op a small kernel looks through what it read and what it made and leaves the first bad
 * element in a slot of its own; the next read or sync of the device looks at the slots. Nothing is
 * awaited inside a step.
 *
 * @module
 */
import source from "../kernels/anomaly.wgsl" with { type: "text" };
import type { Device } from "./device.ts";
import { isFloat } from "./dtype.ts";
import { AnomalyError, type AnomalyPhase } from "./errors.ts";
import { BUFFER_USAGE, MAP_READ } from "./gpu_flags.ts";
import { defineKernel } from "./kernel.ts";
import { converted, materialize } from "./launch/copy.ts";
import { keep, scope } from "./scope.ts";
import { show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

const kernel = /* @__PURE__ */ defineKernel("anomaly", source);
const WORKGROUP = 64;
/** Slots between two looks; when they run out, the host is sent what they hold. */
const SLOTS = 4096;
const CLEAN = 0xffff_ffff;
/** Frames of a call site that are kept. */
const STACK_DEPTH = 40;
/** Where frames of the engine are: its folder, or the file that it was bundled into. */
const ENGINE: string = import.meta.url.replace(/\/anomaly\.\w+$/, "/");

/** One op that was checked. */
interface Entry {
  readonly op: string;
  readonly phase: AnomalyPhase;
  readonly inputs: readonly (readonly number[] | undefined)[];
  readonly outputs: readonly (readonly number[] | undefined)[];
  readonly site: Error;
  /** Its inputs' slots follow each other from here, then its outputs'. */
  readonly slot: number;
  /**
   * For a check of indices, the only input: what they must be below. Their slots hold the first bad
   * place and the complement of the largest index.
   */
  readonly size?: number;
}

/** Slots on their way to the host, and what they belong to. */
interface Batch {
  readonly entries: readonly Entry[];
  readonly staging: GPUBuffer;
}

/** Where an op is called, to be formatted only if it is needed. */
export function callSite(): Error {
  // V8's; other engines have frames without it.
  const limited = Error as { stackTraceLimit?: number };
  const before = limited.stackTraceLimit;
  limited.stackTraceLimit = STACK_DEPTH;
  try {
    return new Error("called");
  } finally {
    limited.stackTraceLimit = before;
  }
}

/** Frames of a call site outside the engine, one a line. */
function frames(site: Error): string {
  return (site.stack ?? "").split("\n").filter((line) =>
    /^\s*at /.test(line) && !line.includes(ENGINE)
  ).join("\n");
}

/** Checks ops while {@link Device.detectAnomalies} is on. */
export class AnomalyDetector implements Disposable {
  readonly #device: Device;
  readonly #slots: Tensor;
  #used = 0;
  #entries: Entry[] = [];
  #batches: Batch[] = [];

  /** Made by the device. */
  constructor(device: Device) {
    this.#device = device;
    this.#slots = device.empty([SLOTS], "u32");
    keep(this.#slots);
    device.write(this.#slots, new Uint32Array(SLOTS).fill(CLEAN));
  }

  /** Looks through what an op read and what it made. */
  check(
    op: string,
    phase: AnomalyPhase,
    inputs: readonly (Tensor | undefined)[],
    outputs: readonly (Tensor | undefined)[],
    site: Error,
  ): void {
    const all = [...inputs, ...outputs];
    if (!this.#reserve(all.length)) return;
    const shapes = (tensors: readonly (Tensor | undefined)[]) => tensors.map((t) => t?.shape);
    this.#entries.push({
      op,
      phase,
      inputs: shapes(inputs),
      outputs: shapes(outputs),
      site,
      slot: this.#used,
    });
    scope(() => all.forEach((tensor, i) => tensor && this.#look(tensor, this.#used + i)));
    this.#used += all.length;
  }

  /**
   * Looks for indices that are not below `size`, before the op that is about to use them.
   *
   * @param ids u32, the indices of the op
   */
  checkIndices(op: string, ids: Tensor, size: number): void {
    if (!this.#reserve(2)) return;
    this.#entries.push({
      op,
      phase: "forward",
      inputs: [ids.shape],
      outputs: [],
      site: callSite(),
      slot: this.#used,
      size,
    });
    scope(() => this.#look(ids, this.#used, size));
    this.#used += 2;
  }

  /** Whether an entry of that many slots can be made now. */
  #reserve(slots: number): boolean {
    // What is being captured has no values yet.
    if (this.#device.recorder.aliasing || slots > SLOTS) return false;
    if (this.#used + slots > SLOTS) this.#collect();
    return true;
  }

  #look(tensor: Tensor, slot: number, limit?: number): void {
    if (limit === undefined && !isFloat(tensor.dtype) || tensor.size === 0) return;
    const dense = tensor.dtype === "f16" ? converted(tensor, "f32") : materialize(tensor);
    const step = Math.floor(
      this.#device.bindingLimit / this.#device.offsetAlignment,
    ) * this.#device.offsetAlignment / dense.itemSize;
    for (let start = 0; start < dense.size; start += step) {
      const count = Math.min(step, dense.size - start);
      this.#device.run(
        kernel,
        { WG: WORKGROUP, INDICES: limit !== undefined },
        [{ tensor: dense, start, count }, this.#slots],
        { count, base: start, slot, limit: limit ?? 0 },
        Math.ceil(count / WORKGROUP),
      );
    }
  }

  /** Sends the slots to the host and starts with clean ones. */
  #collect(): void {
    const device = this.#device;
    if (this.#entries.length === 0) return;
    device.flush();
    const bytes = this.#used * this.#slots.itemSize;
    const staging = device.gpu.createBuffer({
      size: bytes,
      usage: BUFFER_USAGE.MAP_READ | BUFFER_USAGE.COPY_DST,
    });
    const encoder = device.gpu.createCommandEncoder();
    const { buffer } = this.#slots.storage;
    encoder.copyBufferToBuffer(buffer.gpu, 0, staging, 0, bytes);
    device.gpu.queue.submit([encoder.finish()]);
    device.write(this.#slots, new Uint32Array(SLOTS).fill(CLEAN));
    this.#batches.push({ entries: this.#entries, staging });
    this.#entries = [];
    this.#used = 0;
  }

  /**
   * Looks at everything that was checked since the last call.
   *
   * @throws {AnomalyError} that names the first op with a NaN, an infinity, or an index out of
   * range.
   */
  async verify(): Promise<void> {
    this.#collect();
    const batches = this.#batches;
    this.#batches = [];
    let first: AnomalyError | undefined;
    for (const { entries, staging } of batches) {
      await staging.mapAsync(MAP_READ);
      const found = new Uint32Array(staging.getMappedRange().slice(0));
      staging.destroy();
      for (const entry of entries) first ??= anomalyOf(entry, found);
    }
    if (first) throw first;
  }

  /** Frees the slots; what was not looked at is forgotten. */
  [Symbol.dispose](): void {
    for (const { staging } of this.#batches.splice(0)) staging.destroy();
    this.#slots.dispose();
  }
}

function indexAnomaly(entry: Entry, size: number, found: Uint32Array): AnomalyError | undefined {
  const { op, phase, inputs, outputs, slot } = entry;
  if (found[slot] === CLEAN) return undefined;
  const site = frames(entry.site);
  return new AnomalyError(
    `${op} (${phase}): an index is out of range at element ${found[slot]} of the indices ${
      show(inputs[0]!)
    }: the largest is ${~found[slot + 1] >>> 0}, the size ${size}; the op was called\n${site}`,
    { op, phase, inputs, outputs, site },
  );
}

function anomalyOf(entry: Entry, found: Uint32Array): AnomalyError | undefined {
  const { op, phase, inputs, outputs, slot, size } = entry;
  if (size !== undefined) return indexAnomaly(entry, size, found);
  const outputSlot = slot + inputs.length;
  const bad = outputs.findIndex((_, i) => found[outputSlot + i] !== CLEAN);
  if (bad === -1) return undefined;
  const [input, output] = phase === "forward"
    ? ["input", "output"]
    : ["incoming gradient", "gradient of input"];
  const what = (code: number) => code % 2 === 1 ? "NaN" : "infinity";
  const list = (shapes: Entry["inputs"]) => shapes.map((s) => s ? show(s) : "none").join(", ");
  const code = found[outputSlot + bad];
  const already = inputs.flatMap((shape, i) =>
    shape && found[slot + i] !== CLEAN
      ? `${input} ${i} ${show(shape)} already holds ${what(found[slot + i])} at element ${
        Math.floor(found[slot + i] / 2)
      }`
      : []
  );
  const site = frames(entry.site);
  return new AnomalyError(
    `${op} (${phase}): ${output} ${bad} ${show(outputs[bad]!)} holds ${what(code)} at element ${
      Math.floor(code / 2)
    }; ` +
      (already.length > 0 ? already.join("; ") : `every ${input} is finite`) +
      `; ${input}s ${list(inputs)}; ${output}s ${list(outputs)}; the op was called\n${site}`,
    { op, phase, inputs, outputs, site },
  );
}
