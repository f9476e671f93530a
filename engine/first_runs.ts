/**
 * Kernels that run for the first time. Drivers compile then, for seconds where the result is not
 * kept, and Deno's thread waits for the GPU meanwhile; who watches hears between two kernels.
 *
 * @module
 */
import type { Pipeline } from "./kernel.ts";
import type { Params } from "./recorder.ts";

/**
 * Hears how many kernels have run for the first time: of `total` of a captured function, or so far.
 * What it throws ends the call that the kernel was for.
 */
export type KernelWatch = (ready: number, total?: number) => void;

/** A kernel that is known to run, with the parameters of its first launch. */
export interface ExpectedKernel {
  /** The kernel. */
  readonly pipeline: Pipeline;
  /** Drivers may compile it for some of them. */
  readonly params: Params;
}

/** Which kernels of a device have run while somebody watched. */
export class FirstRuns {
  /** Who watches. */
  watch: KernelWatch | undefined;
  /** Who may compile kernels too: called before one of them runs for the first time. */
  before: ((pipeline: GPUComputePipeline) => void) | undefined;
  readonly #expected = new Map<Pipeline, Params>();
  readonly #ran = new WeakSet<GPUComputePipeline>();
  #count = 0;

  /** Nobody watches yet. */
  constructor(private readonly gpu: GPUDevice) {}

  /** Whether the next run of a kernel has to be submitted on its own and waited for. */
  isAwaited(pipeline: GPUComputePipeline): boolean {
    return this.watch !== undefined && !this.hasRun(pipeline);
  }

  /** Whether it has run while somebody watched. */
  hasRun(pipeline: GPUComputePipeline): boolean {
    return this.#ran.has(pipeline);
  }

  /** Notes what work that was recorded without being done will run. */
  expect(pipeline: Pipeline, params: Params): void {
    if (!this.#expected.has(pipeline)) this.#expected.set(pipeline, { ...params });
  }

  /** What has been noted since the last call, in the order of first use. */
  takeExpected(): ExpectedKernel[] {
    const expected = [...this.#expected].map(([pipeline, params]) => ({ pipeline, params }));
    this.#expected.clear();
    return expected;
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
