/**
 * Compiling kernels in further threads while the main thread loads data and computes. Software
 * drivers compile when a kernel first runs, for a dozen seconds in all of an update, on one core.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { REQUESTED_LIMITS } from "../../engine/adapter.ts";
import { packParams, parameterBytes } from "../../engine/recorder.ts";
import { threadOptions } from "../data/thread_permissions.ts";
import { COMPILE_NAME, COMPILE_URL, type CompileOrder, STATE } from "./compile_thread.ts";

/** Threads beside the main one; each has a device of its own. */
const MOST_THREADS = 3;
/** Longest that the main thread waits for a kernel that another one compiles, ms. */
const PATIENCE = 20_000;
/** Longest that it waits at the end for what others have begun, ms. */
const LAST_PATIENCE = 5000;
/** Fewer kernels are compiled sooner than a thread has started. */
const WORTH_A_THREAD = 8;

/**
 * Has kernels compiled that work is known to run, because it was recorded without being done
 * (`measure`, `precompile`), by threads that take them in the order of their first use. The main
 * thread takes those that are left when it comes to them, and waits for one that is under way. Does
 * nothing where the driver compiles by itself beforehand, on a GPU, or on one core.
 *
 * @returns ends the threads
 */
export function compileAhead(device: Device): Disposable {
  const { firstRuns } = device;
  const expected = firstRuns.takeExpected()
    .filter(({ pipeline }) => !firstRuns.hasRun(pipeline.gpu));
  // As many as cores: all go through the kernels in the same order, so that the main thread mostly
  // waits for one of them.
  const { hardwareConcurrency: cores } = navigator;
  const threads = cores > 1 ? Math.min(MOST_THREADS, cores) : 0;
  const own = device.gpu instanceof GPUDevice;
  if (!own || !device.info.software || threads < 1 || expected.length < WORTH_A_THREAD) {
    return { [Symbol.dispose]: () => {} };
  }
  const count = expected.length;
  const shared = new SharedArrayBuffer(4 * (count + 2));
  const states = new Int32Array(shared);
  const places = new Map(expected.map(({ pipeline }, i) => [pipeline.gpu, i]));
  const { f16, subgroups } = device.features;
  const { limits } = device.gpu;
  const order: CompileOrder = {
    device: {
      requiredFeatures: [
        ...f16 ? ["shader-f16" as const] : [],
        ...subgroups ? ["subgroups" as const] : [],
      ],
      requiredLimits: Object.fromEntries(REQUESTED_LIMITS.map((name) => [name, limits[name]])),
    },
    tasks: expected.map(({ pipeline, params }) => {
      const { name, wgsl, storage, paramBytes, aliasing } = pipeline;
      const bytes = parameterBytes(paramBytes);
      packParams(pipeline, params, bytes, 0);
      return { name, wgsl, storage, paramBytes, aliasing, params: bytes.u32 };
    }),
    states,
  };
  const workers = Array.from({ length: threads }, () => {
    const worker = new Worker(COMPILE_URL, threadOptions(COMPILE_NAME));
    // The main thread compiles what a thread does not.
    worker.onerror = (event) => event.preventDefault();
    worker.postMessage(order);
    return worker;
  });
  let ended = false;
  const end = () => {
    ended = true;
    firstRuns.before = undefined;
    for (const worker of workers) worker.terminate();
  };
  firstRuns.before = (pipeline) => {
    const i = places.get(pipeline);
    if (i === undefined || Atomics.load(states, count) !== 0) return;
    const known = Atomics.compareExchange(states, i, STATE.free, STATE.main);
    if (known !== STATE.thread) return;
    if (Atomics.wait(states, i, STATE.thread, PATIENCE) === "timed-out") end();
  };
  return {
    [Symbol.dispose]: () => {
      if (ended) return;
      Atomics.store(states, count, 1);
      // The driver does not bear that the process ends within it.
      const until = performance.now() + LAST_PATIENCE;
      for (;;) {
        const busy = Atomics.load(states, count + 1);
        const left = until - performance.now();
        if (busy === 0 || left <= 0) break;
        Atomics.wait(states, count + 1, busy, left);
      }
      end();
    },
  };
}
