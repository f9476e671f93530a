/**
 * Compiling the kernels of a function beside one another and beside other work. Ops need a kernel
 * at once, so the first call of each waits for its compiler, one after the other; where the kernels
 * are known before, a browser compiles several at a time, and says how far it is.
 *
 * @module
 */
import { needDevice, needFunction, needOptions } from "./arguments.ts";
import type { Device } from "./device.ts";
import { KernelError } from "./errors.ts";
import type { PoolBuffer } from "./memory.ts";
import type { Pipeline } from "./kernel.ts";
import type { BufferWindow, Params, Recorder } from "./recorder.ts";
import { scope } from "./scope.ts";

/** How kernels are compiled ahead. */
export interface PrecompileOptions {
  /** Told when a kernel has been compiled, how many of how many have. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Takes work and does nothing of it. */
class IdleRecorder implements Recorder {
  /** As eager ones have it: the kernels are those. */
  readonly aliasing = false;
  readonly compiling: Promise<void>[] = [];
  readonly compile = (done: Promise<void>): void => void this.compiling.push(done);
  #buffers = 0;

  constructor(private readonly device: Device) {}

  allocate(bytes: number): PoolBuffer {
    return {
      // No real buffer's, nor one of a plan.
      id: -0.5 - this.#buffers++,
      bytes,
      lastUse: -1,
      version: 0,
      releases: 0,
      get gpu(): never {
        throw new KernelError("nothing that a precompiled function makes can be used");
      },
    };
  }

  release(): void {}
  poison(): void {}

  dispatch(pipeline: Pipeline, _: readonly BufferWindow[], params: Params): void {
    this.device.firstRuns.expect(pipeline, params);
  }

  copy(): void {}
  write(): void {}

  flush(): never {
    throw new KernelError("precompile: the function reads or waits, and nothing is computed");
  }
}

/**
 * Compiles the kernels that ops of `body` need and that have not been compiled. `body` runs once,
 * without computing or taking memory on the device: nothing that it makes may be used, and it may
 * not read, wait, capture, or change what the host keeps. Ops that run meanwhile wait for no more
 * than their own kernels.
 *
 * ```ts
 * await precompile(device, () => model.apply(device.zeros([1, 80, 608])));
 * ```
 *
 * @throws {KernelError} if `body` reads or waits. What does not compile is thrown by the next read.
 */
export async function precompile(
  device: Device,
  body: () => unknown,
  options: PrecompileOptions = {},
): Promise<void> {
  needDevice("precompile", device);
  needFunction("precompile", "body", body);
  needOptions("precompile", options, ["onProgress"]);
  const recorder = new IdleRecorder(device);
  device.recordInto(recorder, () =>
    scope(() => {
      const result = body();
      if (!(result instanceof Promise)) return;
      result.catch(() => {});
      throw new KernelError("precompile: the function reads or waits, and nothing is computed");
    }));
  const total = recorder.compiling.length;
  let done = 0;
  await Promise.all(
    recorder.compiling.map((it) => it.then(() => options.onProgress?.(++done, total))),
  );
}
