/** `deno task doctor`: what this machine's adapter is, has and does. */

import { type Device, formatBytes, openDevice } from "../../engine/mod.ts";
import { type Ceilings, measureCeilings } from "../run/ceilings.ts";
import { command } from "../cli/command.ts";
import { adapter, printJson } from "../cli/shared_options.ts";

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "doctor",
  options: { adapter, json: printJson },
});

const FEATURES = {
  subgroups: "threads of a subgroup can exchange values in registers: faster matrix kernels",
  f16: "16-bit floats in kernels: pretrain --precision mixed",
  timestamps: "the adapter itself can time single kernels",
  textures: "kernels can read textures: faster products on software adapters",
} as const;

const LIMITS = {
  maxBufferSize: "largest single buffer",
  maxStorageBufferBindingSize: "largest part of a buffer a kernel sees at once; larger tensors " +
    "are worked on in pieces",
  maxStorageBuffersPerShaderStage: "tensors that one kernel can take",
  maxComputeInvocationsPerWorkgroup: "threads that can share memory",
  maxComputeWorkgroupStorageSize: "memory that they can share; bounds the tiles of a kernel",
} as const;

/** Text of `--help`. */
export const help = COMMAND.help;

/** Opens the adapter, measures it and prints what was found. */
export async function run(argv: string[], _signal: AbortSignal): Promise<number> {
  const { adapter, json } = COMMAND.read(argv).values;
  using device = await openDevice({ adapter });
  const ceilings = await measureCeilings(device.gpu);
  device.check();
  if (json) console.log(JSON.stringify(record(device, ceilings), null, 2));
  else console.log(report(device, ceilings));
  return 0;
}

function record(device: Device, ceilings: Ceilings): Record<string, unknown> {
  const names = Object.keys(LIMITS) as (keyof typeof LIMITS)[];
  return {
    adapter: device.info,
    deno: Deno.version.deno,
    platform: `${Deno.build.os}-${Deno.build.arch}`,
    features: device.features,
    limits: Object.fromEntries(names.map((name) => [name, device.gpu.limits[name]])),
    ceiling: {
      fma_gflops: ceilings.fmaGflops,
      copy_gbps: ceilings.copyGbps,
      buffer_copy_gbps: ceilings.bufferCopyGbps,
      dispatch_us: ceilings.dispatchUs,
      readback_ms: ceilings.readbackMs,
    },
  };
}

function report(device: Device, ceilings: Ceilings): string {
  const { info, features, gpu } = device;
  const limit = (name: keyof typeof LIMITS): string =>
    /Size$/.test(name) ? formatBytes(gpu.limits[name]) : String(gpu.limits[name]);
  const sections: [title: string, rows: [name: string, value: string, meaning: string][]][] = [
    ["Adapter", [
      ["name", info.description || info.device, ""],
      ["kind", info.software ? "software" : "GPU", info.software ? "it computes on the CPU" : ""],
      ["vendor", info.vendor, ""],
      ["subgroup size", info.subgroupSize > 0 ? String(info.subgroupSize) : "not fixed", ""],
      ["runtime", `Deno ${Deno.version.deno}, ${Deno.build.os}-${Deno.build.arch}`, ""],
    ]],
    [
      "Features",
      entriesOf(FEATURES).map((
        [name, meaning],
      ) => [name, features[name] ? "yes" : "no", meaning]),
    ],
    ["Limits", entriesOf(LIMITS).map(([name, meaning]) => [name, limit(name), meaning])],
    ["Measured", [
      [
        "FMA",
        `${ceilings.fmaGflops.toFixed(1)} GFLOP/s`,
        "ceiling of matrix products and attention",
      ],
      [
        "copy",
        `${ceilings.copyGbps.toFixed(1)} GB/s`,
        "a kernel, read plus written; ceiling of element-wise work",
      ],
      [
        "buffer copy",
        `${ceilings.bufferCopyGbps.toFixed(1)} GB/s`,
        "read plus written; moving tensors without a kernel",
      ],
      ["dispatch", `${ceilings.dispatchUs.toFixed(1)} µs`, "cost of each kernel launch"],
      [
        "read-back",
        `${ceilings.readbackMs.toFixed(1)} ms`,
        "cost of each look at a value, whatever its size",
      ],
    ]],
  ];
  return sections.map(([title, rows]) => table(title, rows)).join("\n\n");
}

function entriesOf<K extends string, V>(table: Readonly<Record<K, V>>): [K, V][] {
  return Object.entries(table) as [K, V][];
}

function table(title: string, rows: readonly (readonly [string, string, string])[]): string {
  const width = (column: 0 | 1): number => Math.max(...rows.map((row) => row[column].length));
  const lines = rows.map(([name, value, meaning]) =>
    `  ${name.padEnd(width(0))}  ${value.padEnd(meaning ? width(1) : 0)}  ${meaning}`.trimEnd()
  );
  return [title, ...lines].join("\n");
}
