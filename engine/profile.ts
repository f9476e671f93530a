/**
 * Profiles: time, bytes and arithmetic per kernel, as a table and as a Chrome trace.
 *
 * While a profile is taken each dispatch gets a compute pass of its own, whose start and end the
 * device writes to a query set; the raw ticks are taken as nanoseconds, as WebGPU defines them.
 * Where timestamps are missing, each dispatch is submitted alone and the host's clock is read
 * around it, launch overhead included; the result says so.
 *
 * @module
 */
import { needDevice, needFunction, needOptions } from "./arguments.ts";
import type { Device } from "./device.ts";
import { BUFFER_USAGE, MAP_READ } from "./gpu_flags.ts";
import type { Launch, Pipeline } from "./kernel.ts";
import { formatBytes } from "./memory.ts";
import type { BufferWindow, DispatchObserver } from "./recorder.ts";

/** What the adapter can do at best, to hold kernels against. */
export interface ProfileCeilings {
  /** 10^9 f32 operations per second. */
  readonly fmaGflops: number;
  /** 10^9 bytes per second, read and written bytes both counted. */
  readonly copyGbps: number;
}

/** Settings of a profile. */
export interface ProfileOptions {
  /** Adds each kernel's fraction of what the adapter can do. */
  readonly ceilings?: ProfileCeilings;
  /** Use timestamp queries where the adapter has them; default true. */
  readonly timestamps?: boolean;
}

/** One dispatch. */
export interface KernelEvent {
  /** Kernel name. */
  readonly name: string;
  /** What tells this launch from others of the kernel: sizes, or constants. */
  readonly variant: string;
  /** Microseconds since the first dispatch. */
  readonly start: number;
  /** Microseconds. */
  readonly duration: number;
  /** Bytes of all windows that were bound. */
  readonly bytes: number;
  /** Floating-point operations, where the kernel tells. */
  readonly flops?: number;
}

/** All dispatches of one kernel, or of one variant of it. */
export interface KernelProfile {
  /** Kernel name. */
  readonly name: string;
  /** The variant; empty for all together. */
  readonly variant: string;
  /** Dispatches. */
  readonly calls: number;
  /** Milliseconds in all. */
  readonly ms: number;
  /** Part of the time of all kernels, 0 to 1. */
  readonly share: number;
  /** Bytes bound in all: an upper bound of what is moved once, blind to what is read again. */
  readonly bytes: number;
  /** 10^9 bytes bound per second. */
  readonly gbps: number;
  /** Floating-point operations, where the kernel tells. */
  readonly flops?: number;
  /** 10^9 floating-point operations per second, where the kernel tells. */
  readonly gflops?: number;
  /** The nearer ceiling and the fraction of it that was reached, where ceilings were given. */
  readonly ceiling?: { readonly of: "fma" | "copy"; readonly fraction: number };
}

/** What was measured. */
export interface Profile {
  /** Device timestamps, or the host's clock around submissions of one dispatch. */
  readonly clock: "timestamps" | "wall";
  /** Host milliseconds from start to stop. */
  readonly wallMs: number;
  /** Milliseconds of all dispatches together. */
  readonly kernelMs: number;
  /** By kernel, longest first. */
  readonly kernels: readonly KernelProfile[];
  /** By kernel and variant, longest first. */
  readonly variants: readonly KernelProfile[];
  /** Every dispatch in order. */
  readonly events: readonly KernelEvent[];
}

/** WebGPU's limit for one query set. */
const QUERIES = 4096;
const PER_SET = QUERIES / 2;
/** Characters of a variant in the table. */
const VARIANT_WIDTH = 44;

type Draft = { -readonly [K in keyof KernelEvent]: KernelEvent[K] };

/** Takes a profile from {@link Profiler.start} to {@link Profiler.stop}. */
export class Profiler implements DispatchObserver {
  readonly #device: Device;
  readonly #options: ProfileOptions;
  readonly #clock: Profile["clock"];
  readonly #events: Draft[] = [];
  readonly #sets: GPUQuerySet[] = [];
  readonly #resolved: { first: number; count: number; staging: GPUBuffer }[] = [];
  readonly #started: number;
  /** First event whose queries were not resolved yet. */
  #unresolved = 0;
  #resolveBuffer: GPUBuffer | undefined;
  #submittedAt = 0;
  #drained: Promise<unknown> = Promise.resolve();

  private constructor(device: Device, options: ProfileOptions) {
    this.#device = device;
    this.#options = options;
    const timestamps = device.features.timestamps && options.timestamps !== false;
    this.#clock = timestamps ? "timestamps" : "wall";
    device.flush();
    this.#drain();
    this.#started = performance.now();
  }

  /** Begins: from now on each dispatch of the device is measured. */
  static start(device: Device, options: ProfileOptions = {}): Profiler {
    const profiler = new Profiler(device, options);
    device.observe(profiler);
    return profiler;
  }

  /** Called by the recorder before each dispatch: the pass that shall hold it alone. */
  beforeDispatch(
    pipeline: Pipeline,
    windows: readonly BufferWindow[],
    launch: Launch,
  ): GPUComputePassDescriptor | undefined {
    const flops = pipeline.kernel.insight?.flops?.(launch);
    const at = this.#events.length - this.#unresolved;
    this.#events.push({
      name: pipeline.name,
      variant: variantOf(pipeline, launch),
      start: 0,
      duration: 0,
      bytes: windows.reduce((sum, w) => sum + w.bytes, 0),
      ...(flops !== undefined && { flops }),
    });
    if (this.#clock === "wall") {
      this.#device.flush();
      this.#drain();
      this.#submittedAt = performance.now();
      return undefined;
    }
    const set = Math.floor(at / PER_SET);
    this.#sets[set] ??= this.#device.gpu.createQuerySet({ type: "timestamp", count: QUERIES });
    const query = at % PER_SET * 2;
    return {
      timestampWrites: {
        querySet: this.#sets[set],
        beginningOfPassWriteIndex: query,
        endOfPassWriteIndex: query + 1,
      },
    };
  }

  /** Called by the recorder after each dispatch. */
  afterDispatch(): void {
    if (this.#clock === "timestamps") return;
    this.#device.flush();
    this.#drain();
    const event = this.#events[this.#events.length - 1];
    event.start = (this.#submittedAt - this.#started) * 1000;
    event.duration = (performance.now() - this.#submittedAt) * 1000;
  }

  /** Called by the recorder after each submission: moves the ticks where the host can read them. */
  submitted(): void {
    const { gpu } = this.#device;
    if (this.#clock === "wall" || this.#unresolved === this.#events.length) return;
    const encoder = gpu.createCommandEncoder();
    for (let set = 0; this.#unresolved < this.#events.length; set++) {
      const count = Math.min(PER_SET, this.#events.length - this.#unresolved);
      const staging = gpu.createBuffer({
        size: count * 16,
        usage: BUFFER_USAGE.MAP_READ | BUFFER_USAGE.COPY_DST,
      });
      this.#resolveBuffer ??= gpu.createBuffer({
        size: QUERIES * 8,
        usage: BUFFER_USAGE.QUERY_RESOLVE | BUFFER_USAGE.COPY_SRC,
      });
      encoder.resolveQuerySet(this.#sets[set], 0, count * 2, this.#resolveBuffer, 0);
      encoder.copyBufferToBuffer(this.#resolveBuffer, 0, staging, 0, count * 16);
      this.#resolved.push({ first: this.#unresolved, count, staging });
      this.#unresolved += count;
    }
    gpu.queue.submit([encoder.finish()]);
  }

  /**
   * Deno's call waits for the queue at once and only delays its promise, which is what a clock
   * needs.
   */
  #drain(): void {
    this.#drained = this.#device.gpu.queue.onSubmittedWorkDone();
    this.#drained.catch(() => {});
  }

  /**
   * Ends the profile and reads what was measured.
   *
   * @throws {DeviceLostError | OutOfMemoryError | KernelError} if recorded work failed.
   */
  async stop(): Promise<Profile> {
    try {
      this.#device.flush();
      this.#device.observe(undefined);
      await this.#device.sync();
      await this.#drained;
      const wallMs = performance.now() - this.#started;
      for (const { first, count, staging } of this.#resolved) {
        await staging.mapAsync(MAP_READ);
        this.#fill(first, count, new BigUint64Array(staging.getMappedRange().slice(0)));
        staging.unmap();
      }
      return summarise(this.#events, this.#clock, wallMs, this.#options.ceilings);
    } finally {
      this.#device.observe(undefined);
      for (const { staging } of this.#resolved) staging.destroy();
      this.#resolved.length = 0;
      this.#resolveBuffer?.destroy();
      for (const set of this.#sets) set.destroy();
    }
  }

  #origin: bigint | undefined;

  #fill(first: number, count: number, ticks: BigUint64Array): void {
    for (let i = 0; i < count; i++) {
      const [begin, end] = [ticks[2 * i], ticks[2 * i + 1]];
      this.#origin ??= begin;
      const event = this.#events[first + i];
      event.start = Number(begin - this.#origin) / 1000;
      event.duration = Math.max(0, Number(end - begin) / 1000);
    }
  }
}

/**
 * Profiles all work that `body` records on the device.
 *
 * @throws {DeviceLostError | OutOfMemoryError | KernelError} if recorded work failed.
 */
export async function profile(
  device: Device,
  body: () => unknown,
  options: ProfileOptions = {},
): Promise<Profile> {
  needDevice("profile", device);
  needFunction("profile", "the body", body);
  needOptions("profile", options, ["ceilings", "timestamps"]);
  const profiler = Profiler.start(device, options);
  try {
    await body();
  } catch (error) {
    await profiler.stop().catch(() => {});
    throw error;
  }
  return await profiler.stop();
}

function variantOf(pipeline: Pipeline, launch: Launch): string {
  const told = pipeline.kernel.insight?.label?.(launch);
  if (told !== undefined) return told;
  return Object.entries(launch.constants)
    .filter(([, value]) => value !== false)
    .map(([name, value]) => value === true ? name : `${name}=${value}`)
    .join(" ");
}

function summarise(
  events: readonly KernelEvent[],
  clock: Profile["clock"],
  wallMs: number,
  ceilings: ProfileCeilings | undefined,
): Profile {
  const kernelMs = events.reduce((sum, it) => sum + it.duration, 0) / 1000;
  const grouped = (variant: (event: KernelEvent) => string): KernelProfile[] => {
    const groups = new Map<string, KernelEvent[]>();
    for (const it of events) {
      const key = `${it.name}\n${variant(it)}`;
      groups.set(key, [...groups.get(key) ?? [], it]);
    }
    return [...groups.values()]
      .map((group) => merged(group, variant(group[0]), kernelMs, ceilings))
      .sort((a, b) => b.ms - a.ms);
  };
  return {
    clock,
    wallMs,
    kernelMs,
    kernels: grouped(() => ""),
    variants: grouped((it) => it.variant),
    events,
  };
}

function merged(
  events: readonly KernelEvent[],
  variant: string,
  totalMs: number,
  ceilings: ProfileCeilings | undefined,
): KernelProfile {
  const sum = (of: (event: KernelEvent) => number) => events.reduce((all, it) => all + of(it), 0);
  const ms = sum((it) => it.duration) / 1000;
  const bytes = sum((it) => it.bytes);
  const perSecond = (amount: number) => ms > 0 ? amount / ms / 1e6 : 0;
  const gbps = perSecond(bytes);
  const flops = events[0].flops === undefined ? undefined : sum((it) => it.flops ?? 0);
  const gflops = flops === undefined ? undefined : perSecond(flops);
  const fma = ceilings && gflops !== undefined ? gflops / ceilings.fmaGflops : 0;
  const copy = ceilings ? gbps / ceilings.copyGbps : 0;
  return {
    name: events[0].name,
    variant,
    calls: events.length,
    ms,
    share: totalMs > 0 ? ms / totalMs : 0,
    bytes,
    gbps,
    ...(flops !== undefined && { flops, gflops }),
    ...(ceilings && {
      ceiling: fma > copy ? { of: "fma", fraction: fma } : { of: "copy", fraction: copy },
    }),
  };
}

/**
 * A profile as aligned text, longest first.
 *
 * @param rows one line per kernel, or per kernel and variant
 */
export function table(profile: Profile, rows: "kernels" | "variants" = "variants"): string {
  const { clock, events, kernelMs, wallMs } = profile;
  const lines = profile[rows];
  const measured = clock === "timestamps"
    ? "timestamps of the device"
    : "no timestamps: wall time of submissions of one dispatch, launch overhead included";
  const title = `${events.length} dispatches, ${kernelMs.toFixed(1)} ms in kernels, ` +
    `${wallMs.toFixed(1)} ms in all (${measured})`;
  const withCeiling = lines.some((it) => it.ceiling);
  const columns: [title: string, left: boolean, cell: (it: KernelProfile) => string][] = [
    ["kernel", true, (it) => it.name],
    ["variant", true, (it) => shortened(it.variant)],
    ["calls", false, (it) => `${it.calls}`],
    ["ms", false, (it) => it.ms.toFixed(3)],
    ["share", false, (it) => `${(it.share * 100).toFixed(1)} %`],
    ["µs/call", false, (it) => (it.ms * 1000 / it.calls).toFixed(1)],
    ["bound", false, (it) => formatBytes(it.bytes)],
    ["GB/s", false, (it) => it.gbps.toFixed(2)],
    ["GFLOP/s", false, (it) => it.gflops?.toFixed(2) ?? ""],
    [
      "of ceiling",
      false,
      ({ ceiling }) =>
        ceiling ? `${(ceiling.fraction * 100).toFixed(1)} % ${ceiling.of.padEnd(4)}` : "",
    ],
  ];
  const shown = columns.filter(([name]) =>
    (name !== "variant" || rows === "variants") && (name !== "of ceiling" || withCeiling)
  );
  const cells = [
    shown.map(([name]) => name),
    ...lines.map((it) => shown.map(([, , of]) => of(it))),
  ];
  const widths = shown.map((_, i) => Math.max(...cells.map((row) => row[i].length)));
  const text = cells.map((row) =>
    row.map((cell, i) => shown[i][1] ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))
      .join("  ").trimEnd()
  );
  return [title, ...text].join("\n");
}

function shortened(variant: string): string {
  const line = variant.replace(/\s+/g, " ");
  return line.length > VARIANT_WIDTH ? line.slice(0, VARIANT_WIDTH - 1) + "…" : line;
}

/** A profile as JSON in Chrome's trace-event format, which Perfetto and chrome://tracing open. */
export function chromeTrace(profile: Profile): string {
  const own = { pid: 1, tid: 1 };
  return JSON.stringify({
    displayTimeUnit: "ms",
    otherData: { clock: profile.clock, wall_ms: profile.wallMs },
    traceEvents: [
      { name: "process_name", ph: "M", ...own, args: { name: "Tessera" } },
      { name: "thread_name", ph: "M", ...own, args: { name: `device (${profile.clock})` } },
      ...profile.events.map(({ name, variant, start, duration, bytes, flops }) => ({
        name,
        cat: "kernel",
        ph: "X",
        ts: start,
        dur: duration,
        ...own,
        args: { variant, bytes, ...(flops !== undefined && { flops }) },
      })),
    ],
  });
}
