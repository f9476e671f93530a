/**
 * Counts the rounds of a kernel's loops on the device: each loop of its text counts, one round more
 * where it ends, and the largest count of an invocation goes to a buffer of its own.
 *
 * @module
 */
import type { Device } from "../../engine/device.ts";
import { defineKernel, generate, type Kernel, type Launch } from "../../engine/kernel.ts";
import { keep } from "../../engine/scope.ts";
import type { Constants } from "../../engine/template.ts";
import type { Tensor } from "../../engine/tensor.ts";

/** What a dispatch stated and what it did. */
export interface CountedRounds {
  readonly kernel: string;
  readonly launch: Launch;
  /** Undefined where the kernel states nothing. */
  readonly stated: number | undefined;
  readonly counted: number;
}

const ENTRY = /@compute\s+@workgroup_size\(([^)]*)\)\s*fn main\(([^{]*)\)\s*\{/;

/** The WGSL with counters in its loops. */
function counting(wgsl: string): string {
  const bindings = wgsl.match(/@binding\(/g)!.length;
  const entry = ENTRY.exec(wgsl)!;
  const names = [...entry[2].matchAll(/@builtin\(\w+\)\s*(\w+)/g)].map(([, name]) => name);
  return wgsl.replace(/^enable f16;\n/, "").replace(/\/\/.*/g, "")
    .replace(ENTRY, (_, __, list) => `fn counted_main(${list.replace(/@builtin\(\w+\)/g, "")}) {`)
    // Nothing but the heads of loops opens a brace after a closing bracket in the same line.
    .replace(/\b(for|while) \([^{]*\{/g, (head) => `rounds_done++;\n${head}\nrounds_done++;`) + `
var<private> rounds_done: u32 = 0u;
@group(0) @binding(${bindings}) var<storage, read_write> rounds_most: array<atomic<u32>>;
@compute @workgroup_size(${entry[1]})
fn main(${entry[2]}) {
  counted_main(${names.join(", ")});
  atomicMax(&rounds_most[0], rounds_done);
}
`;
}

/** Counts what `body` runs on the device. */
export async function countRounds(device: Device, body: () => void): Promise<CountedRounds[]> {
  const { recorder, observer } = device;
  const { dispatch } = recorder;
  const kernels = new Map<string, Kernel>();
  const countedKernel = (kernel: Kernel, constants: Constants): Kernel => {
    const text = generate(kernel, constants);
    let counted = kernels.get(text);
    if (!counted) kernels.set(text, counted = defineKernel("counted", counting(text)));
    return counted;
  };
  const found: { kernel: Kernel; launch: Launch; most: Tensor }[] = [];
  let grid: Launch["grid"] = [0, 0, 0];
  device.observe({
    beforeDispatch: (_, __, launch) => void (grid = launch.grid),
    afterDispatch() {},
    submitted() {},
  });
  recorder.dispatch = ({ kernel, constants }, windows, params, groups) => {
    const before = device.counters.dispatches;
    const most = keep(device.tensor(new Uint32Array(1)));
    const pipeline = device.pipeline(countedKernel(kernel, constants), {});
    const window = { buffer: most.storage.buffer, offset: 0, bytes: 4 };
    dispatch.call(recorder, pipeline, [...windows, window], params, groups);
    if (device.counters.dispatches === before) return;
    found.push({ kernel, launch: { constants, params, grid }, most });
  };
  try {
    body();
    const counts = await device.read(found.map(({ most }) => most));
    return found.map(({ kernel, launch }, i) => ({
      kernel: kernel.name,
      launch,
      stated: kernel.insight?.rounds?.(launch),
      counted: counts[i][0],
    }));
  } finally {
    recorder.dispatch = dispatch;
    device.observe(observer);
    found.forEach(({ most }) => most.dispose());
  }
}
