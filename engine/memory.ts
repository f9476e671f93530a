/**
 * GPU memory: a size-exact pool of buffers with public counters. Deno's garbage collector does not
 * see GPU memory, so every buffer is handed back by hand and reused.
 *
 * @module
 */
import { OutOfMemoryError } from "./errors.ts";
import { BUFFER_USAGE } from "./gpu_flags.ts";

/** A GPU buffer of the pool. */
export interface PoolBuffer {
  /** Number unique within the device; part of bind-group keys. */
  readonly id: number;
  /** The raw buffer. */
  readonly gpu: GPUBuffer;
  /** Size in bytes, a multiple of 256. */
  readonly bytes: number;
  /** Serial of the last recorded, unsubmitted work that uses this buffer. */
  lastUse: number;
  /** Raised by every write: who saved values knows by it whether they are still there. */
  version: number;
  /** How often it was handed back: who noted it knows by it whether it is still the same memory. */
  releases: number;
}

/** Counters of a device's memory, in bytes unless named otherwise. */
export interface MemoryCounters {
  /** Bytes held by tensors that are alive. */
  readonly liveBytes: number;
  /** Buffers held by tensors that are alive. */
  readonly liveBuffers: number;
  /** Largest value {@link liveBytes} has had. */
  readonly peakBytes: number;
  /** Bytes of idle buffers kept for reuse. */
  readonly pooledBytes: number;
  /** Bytes of textures that operands are copied into on software adapters, beside all others. */
  readonly textureBytes: number;
  /** GPU buffers created so far; constant once a loop has warmed up. */
  readonly buffersCreated: number;
  /** Most bytes that tensors may hold at once; infinite where nothing limits them. */
  readonly limitBytes: number;
}

const GRANULE = 256;

/** Readable byte count, such as "12.5 MiB". */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB"];
  let value = bytes / 1024;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${value.toFixed(1)} ${units[unit]}`;
}

/** The pool behind a device's tensors. */
export class BufferPool implements MemoryCounters {
  #free = new Map<number, PoolBuffer[]>();
  #nextId = 1;
  readonly #largest: number;
  liveBytes = 0;
  liveBuffers = 0;
  peakBytes = 0;
  pooledBytes = 0;
  textureBytes = 0;
  buffersCreated = 0;

  /**
   * @param gpu raw device
   * @param limitBytes most bytes that tensors may hold at once
   */
  constructor(private readonly gpu: GPUDevice, readonly limitBytes: number) {
    this.#largest = gpu.limits.maxBufferSize;
  }

  /**
   * A buffer of at least `bytes` bytes; its contents are arbitrary.
   *
   * @throws {OutOfMemoryError} when the buffer is above what the adapter or the configured limit
   * allows.
   */
  acquire(bytes: number): PoolBuffer {
    const size = Math.max(GRANULE, Math.ceil(bytes / GRANULE) * GRANULE);
    const largest = this.#largest;
    if (size > largest) {
      throw new OutOfMemoryError(
        `a buffer of ${formatBytes(size)} was asked for, but this adapter's largest is ${
          formatBytes(largest)
        }; ` +
          `lower the batch size`,
      );
    }
    if (this.liveBytes + size > this.limitBytes) {
      throw new OutOfMemoryError(
        `${formatBytes(size)} were asked for while ${
          formatBytes(this.liveBytes)
        } are live, above the limit of ` +
          `${formatBytes(this.limitBytes)}; lower the batch size or raise the memory limit`,
      );
    }
    let buffer = this.#free.get(size)?.shift();
    if (buffer) {
      this.pooledBytes -= size;
    } else {
      if (this.liveBytes + this.pooledBytes + size > this.limitBytes) this.trim();
      const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_SRC | BUFFER_USAGE.COPY_DST;
      buffer = {
        id: this.#nextId++,
        gpu: this.gpu.createBuffer({ size, usage }),
        bytes: size,
        lastUse: -1,
        version: 0,
        releases: 0,
      };
      this.buffersCreated++;
    }
    this.liveBytes += size;
    this.liveBuffers++;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    return buffer;
  }

  /**
   * Takes a buffer back. Work recorded before may still use it: later users come later in the
   * queue.
   */
  release(buffer: PoolBuffer): void {
    buffer.releases++;
    this.liveBytes -= buffer.bytes;
    this.liveBuffers--;
    this.pooledBytes += buffer.bytes;
    const list = this.#free.get(buffer.bytes);
    if (!list) {
      this.#free.set(buffer.bytes, [buffer]);
      return;
    }
    // Oldest first, whatever the order of release: then a loop's every round gets the same buffers,
    // and with them the same cached bind groups.
    let at = list.length;
    while (at > 0 && list[at - 1].id > buffer.id) at--;
    list.splice(at, 0, buffer);
  }

  /** Called with the ids of buffers that {@link trim} destroyed, so that caches can forget them. */
  onDestroy: (ids: ReadonlySet<number>) => void = () => {};

  /** Called before {@link trim} destroys anything, so that recorded work is submitted first. */
  beforeDestroy: () => void = () => {};

  /** Destroys all idle buffers. */
  trim(): void {
    if (this.pooledBytes === 0) return;
    this.beforeDestroy();
    const gone = new Set<number>();
    for (const list of this.#free.values()) {
      for (const buffer of list) {
        buffer.gpu.destroy();
        gone.add(buffer.id);
      }
    }
    this.#free.clear();
    this.pooledBytes = 0;
    this.onDestroy(gone);
  }
}
