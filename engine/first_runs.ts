/**
 * Kernels that run for the first time. Drivers compile then, for seconds where the result is not
 * kept, and Deno's thread waits for the GPU meanwhile; who watches hears between two kernels.
 *
 * @module
 */

/**
 * Hears how many kernels have run for the first time: of `total` of a captured function, or so far.
 * What it throws ends the call that the kernel was for.
 */
export type KernelWatch = (ready: number, total?: number) => void;

/** Which kernels of a device have run while somebody watched. */
export class FirstRuns {
  /** Who watches. */
  watch: KernelWatch | undefined;
  readonly #ran = new WeakSet<GPUComputePipeline>();
  #count = 0;

  /** Nobody watches yet. */
  constructor(private readonly gpu: GPUDevice) {}

  /** Whether the next run of a kernel has to be submitted on its own and waited for. */
  isAwaited(pipeline: GPUComputePipeline): boolean {
    return this.watch !== undefined && !this.#ran.has(pipeline);
  }

  /** Waits for a kernel that was submitted, and says so. */
  wait(pipeline: GPUComputePipeline, ready: number = this.#count + 1, total?: number): void {
    this.#ran.add(pipeline);
    this.#count++;
    // Deno waits inside this call; where it does not, the count runs ahead of the device.
    this.gpu.queue.onSubmittedWorkDone().catch(() => {});
    this.watch?.(ready, total);
  }
}
