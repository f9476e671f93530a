/** `deno task doctor`: what this machine's adapter is, has and does. */

import { type Device, formatBytes, openDevice } from "../../engine/mod.ts";
import { type Ceilings, measureCeilings } from "../run/ceilings.ts";
import { command } from "../cli/command.ts";
import { adapter, printJson } from "../cli/shared_options.ts";
import {
  type Card,
  cardsOf,
  CHOOSING,
  type Files,
  hasDeviceSelect,
  missingNvidia,
  type Variables,
  type VulkanDriver,
  vulkanDrivers,
} from "../cluster/adapters.ts";
import { environment } from "../io/environment.ts";

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
  const vulkan = Deno.build.os === "linux" ? vulkanOf(FILES, environment) : undefined;
  try {
    using device = await openDevice({ adapter });
    const ceilings = await measureCeilings(device.gpu);
    device.check();
    if (json) {
      console.log(JSON.stringify({ ...record(device, ceilings), vulkan }, null, 2));
      return 0;
    }
    console.log(report(device, ceilings));
  } catch (error) {
    // What there is to know of drivers is then needed most.
    if (!json && vulkan) console.log(vulkanText(vulkan));
    throw error;
  }
  if (vulkan) console.log(`\n${vulkanText(vulkan)}`);
  return 0;
}

/** What this process may read. */
const FILES: Files = {
  names: (dir) => {
    try {
      return [...Deno.readDirSync(dir)].map(({ name }) => name);
    } catch {
      return [];
    }
  },
  text: (path) => {
    try {
      return Deno.readTextFileSync(path);
    } catch {
      return "";
    }
  },
};

/** How the Vulkan loader comes to an adapter here. */
interface VulkanRecord {
  readonly drivers: readonly VulkanDriver[];
  /** Of {@link CHOOSING}, those that are set. */
  readonly variables: Readonly<Record<string, string>>;
  /** Whether Mesa's layer is there. */
  readonly layer: boolean;
  readonly cards: readonly Card[];
  readonly missing: string | undefined;
}

/** Finds out what the loader reads. */
export function vulkanOf(files: Files, get: Variables): VulkanRecord {
  const set = Object.keys(CHOOSING).flatMap((name) => {
    const value = get(name);
    return value ? [[name, value] as const] : [];
  });
  return {
    drivers: vulkanDrivers(files, get),
    variables: Object.fromEntries(set),
    layer: hasDeviceSelect(files, get),
    cards: cardsOf(files),
    missing: missingNvidia(files, get),
  };
}

/** The same for people. */
export function vulkanText(
  { drivers, variables, layer, cards, missing }: VulkanRecord,
): string {
  const none = [["none", "there is no Vulkan driver", ""]] as const;
  const driver = ({ path, library }: VulkanDriver) =>
    [path, library ?? "no file of a driver", /lvp/.test(library ?? "") ? "software" : ""] as const;
  const sections = [
    table("Vulkan drivers", drivers.length > 0 ? drivers.map(driver) : none),
    ...cards.length > 0
      ? [table(
        "Cards",
        cards.map(({ address, vendor, device }) =>
          [address, `${vendor.toString(16)}:${device.toString(16)}`, ""] as const
        ),
      )]
      : [],
    table("Which adapter is taken", [
      ...entriesOf(CHOOSING).map(([name, meaning]) =>
        [name, variables[name] ?? "not set", meaning] as const
      ),
      ["Mesa's layer", layer ? "yes" : "no", "pretrain:mpi gives each rank a card by it"],
    ]),
    ...missing === undefined ? [] : [`Missing\n  ${missing}`],
  ];
  return sections.join("\n\n");
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
