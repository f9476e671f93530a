/**
 * Which adapter a process computes on, by what lies on the disk and in the environment: Deno takes
 * the one that the Vulkan loader names first, and loader and layers read variables when they start.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import type { Group } from "./group.ts";

/** Looks into folders and files; what is not there or may not be read is empty. */
export interface Files {
  /** Names in a folder. */
  names(dir: string): readonly string[];
  /** Text of a file. */
  text(path: string): string;
}

/** Reads a variable of the environment. */
export type Variables = (name: string) => string | undefined;

/** Those by which a user chooses an adapter, and what each chooses. */
export const CHOOSING = {
  VK_DRIVER_FILES: "driver files that the loader reads, and no others; none of the folders",
  VK_LOADER_DEVICE_SELECT: "a model, 0x10de:0x2330 for vendor and device; new loaders only",
  MESA_VK_DEVICE_SELECT: "a model, 10de:2330; Mesa's layer",
  DRI_PRIME: "one card, pci-0000_3b_00_0; Mesa's layer, with " +
    "MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE=1 and without NODEVICE_SELECT",
} as const;

const FORCE = "MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE";
const NO_LAYER = "NODEVICE_SELECT";
/** By which Slurm says that each task has cards of its own. */
const OWN_CARDS = ["SLURM_GPUS_PER_TASK", "SLURM_TRES_PER_TASK"];

/** All variables that are looked at or set. */
export const ADAPTER_VARIABLES: readonly string[] = [
  ...Object.keys(CHOOSING),
  ...["VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES", FORCE, NO_LAYER, ...OWN_CARDS],
  ...["HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME", "XDG_DATA_DIRS"],
];

/** Folders below which the loader looks for `vulkan/icd.d` and layers, in its order. */
export function loaderFolders(get: Variables): string[] {
  const home = get("HOME");
  const under = (path: string) => home ? [join(home, path)] : [];
  const listed = (name: string, usual: string) => (get(name) || usual).split(":");
  const own = (name: string, usual: string) => {
    const set = get(name);
    return set ? [set] : under(usual);
  };
  return [
    ...own("XDG_CONFIG_HOME", ".config"),
    ...listed("XDG_CONFIG_DIRS", "/etc/xdg"),
    "/etc",
    ...own("XDG_DATA_HOME", ".local/share"),
    ...listed("XDG_DATA_DIRS", "/usr/local/share:/usr/share"),
  ].filter((it) => it !== "");
}

/** A Vulkan driver as its JSON file (ICD) says it. */
export interface VulkanDriver {
  /** Of the file. */
  readonly path: string;
  /** Its `library_path`; undefined where the file cannot be read or is no driver's. */
  readonly library: string | undefined;
}

/** The driver files that the loader reads. */
export function vulkanDrivers(files: Files, get: Variables): VulkanDriver[] {
  const only = get("VK_DRIVER_FILES") || get("VK_ICD_FILENAMES");
  const json = (dir: string) =>
    files.names(dir).filter((it) => it.endsWith(".json")).sort().map((it) => join(dir, it));
  // A folder stands for what is in it.
  const named = (list: string) =>
    list.split(":").filter((it) => it !== "").flatMap((it) =>
      it.endsWith(".json") ? [it] : json(it)
    );
  const paths = only ? named(only) : [
    ...named(get("VK_ADD_DRIVER_FILES") ?? ""),
    ...loaderFolders(get).flatMap((it) => json(join(it, "vulkan", "icd.d"))),
  ];
  return [...new Set(paths)].map((path) => ({ path, library: libraryIn(files.text(path)) }));
}

function libraryIn(text: string): string | undefined {
  try {
    const library: unknown = JSON.parse(text)?.ICD?.library_path;
    return typeof library === "string" ? library : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the loader finds Mesa's layer that brings a chosen card to the front. */
export function hasDeviceSelect(files: Files, get: Variables): boolean {
  return loaderFolders(get).some((it) =>
    files.names(join(it, "vulkan", "implicit_layer.d")).some((name) =>
      /device_select.*\.json$/.test(name)
    )
  );
}

/** A graphics card on the PCI bus. */
export interface Card {
  /** `0000:3b:00.0` */
  readonly address: string;
  readonly vendor: number;
  readonly device: number;
}

const BUS = "/sys/bus/pci/devices";
/** Whose cards compute, the likeliest first; boards have others for their consoles. */
const VENDORS: ReadonlyMap<number, string> = new Map([
  [0x10de, "NVIDIA"],
  [0x1002, "AMD"],
  [0x8086, "Intel"],
]);

/** The cards of the first vendor that has any, by address: those that ranks are spread over. */
export function cardsOf(files: Files): Card[] {
  const all = [...files.names(BUS)].sort().flatMap((address): Card[] => {
    const value = (name: string) => Number(files.text(join(BUS, address, name)).trim() || NaN);
    // Display controllers of all kinds.
    if (value("class") >> 16 !== 0x03) return [];
    return [{ address, vendor: value("vendor"), device: value("device") }];
  });
  const vendor = [...VENDORS.keys()].find((it) => all.some((card) => card.vendor === it));
  return all.filter((it) => it.vendor === vendor);
}

const hex = (value: number) => `0x${value.toString(16).padStart(4, "0")}`;

/** What has to be in the environment for a process to get its card. */
export interface AdapterChoice {
  readonly card: Card;
  /** Values by name; null removes the variable. */
  readonly variables: Readonly<Record<string, string | null>>;
}

/**
 * The card of a process among those of its machine: they are dealt out in the order of their
 * addresses.
 *
 * @param localRank place among the processes of this machine, from 0
 * @param cards of {@link cardsOf}
 * @param layer whether there is {@link hasDeviceSelect}
 * @returns undefined where the user or the launcher has chosen, where there are no two cards, and
 * where nothing here can tell them apart
 */
export function adapterChoice(
  { localRank, cards, layer, get }: {
    readonly localRank: number | undefined;
    readonly cards: readonly Card[];
    readonly layer: boolean;
    readonly get: Variables;
  },
): AdapterChoice | undefined {
  const chosen = Object.keys(CHOOSING).some((it) => it !== "VK_DRIVER_FILES" && get(it));
  if (localRank === undefined || chosen || hasOwnCards(get) || cards.length < 2) return undefined;
  const card = cards[localRank % cards.length];
  if (layer) {
    const DRI_PRIME = `pci-${card.address.replace(/[:.]/g, "_")}`;
    return { card, variables: { DRI_PRIME, [FORCE]: "1", [NO_LAYER]: null } };
  }
  const models = cards.map(({ vendor, device }) => `${hex(vendor)}:${hex(device)}`);
  if (new Set(models).size < models.length) return undefined;
  const model = models[localRank % cards.length];
  return { card, variables: { VK_LOADER_DEVICE_SELECT: model } };
}

/** Whether the launcher gives each process cards of its own. */
function hasOwnCards(get: Variables): boolean {
  return OWN_CARDS.some((it) => /gpu|^\d/.test(get(it) ?? ""));
}

/**
 * Tells of processes of one machine that compute on the same adapter; all of a group call it. None
 * is told of software adapters, which have the machine's cores in common anyway.
 *
 * @param adapter this process's
 * @returns a line of text, the same for all; undefined where there is nothing to say
 */
export async function sharedAdapters(
  group: Pick<Group, "size" | "hosts" | "gather">,
  adapter: { readonly software: boolean; readonly description: string },
  get: Variables,
): Promise<string | undefined> {
  const apart = adapter.software || hasOwnCards(get);
  const choice = Object.keys(CHOOSING).map(get).find((it) => it);
  const texts = await group.gather(
    apart ? "" : JSON.stringify([adapter.description, choice ?? null]),
  );
  const alike = (rank: number) =>
    texts.flatMap((it, i) =>
      it !== "" && it === texts[rank] && group.hosts[i] === group.hosts[rank] ? [i] : []
    );
  const rank = texts.findIndex((_, i) => alike(i).length > 1);
  if (rank < 0) return undefined;
  const [name] = JSON.parse(texts[rank]);
  return `warning: ranks ${alike(rank).join(", ")} on ${group.hosts[rank]} compute on the same ` +
    `adapter, ${name}; deno task doctor says how each can have its own`;
}

/** Where libraries of drivers lie. */
const LIBRARY_FOLDERS = [
  ...["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"],
  ...["/usr/lib/wsl/lib", "/run/opengl-driver/lib"],
];

/**
 * What a machine with cards of NVIDIA lacks for Vulkan to see them; undefined where it lacks
 * nothing or has none.
 */
export function missingNvidia(files: Files, get: Variables): string | undefined {
  const libraries = new Map(
    LIBRARY_FOLDERS.flatMap((dir) => files.names(dir).map((it) => [it, join(dir, it)] as const))
      .reverse(),
  );
  const sign = files.names("/dev").find((it) => /^nvidia(\d+|ctl)$/.test(it));
  const isThere = sign !== undefined || files.text("/proc/driver/nvidia/version") !== "" ||
    libraries.has("libcuda.so.1") || libraries.has("libnvidia-ml.so.1");
  if (!isThere) return undefined;
  const drivers = vulkanDrivers(files, get);
  if (drivers.some(({ library = "" }) => /nvidia/i.test(library))) return undefined;
  const file = join(get("XDG_DATA_HOME") || join(get("HOME") ?? "~", ".local", "share"), "vulkan");
  const library = ["libGLX_nvidia.so.0", "libEGL_nvidia.so.0"].find((it) => libraries.has(it));
  if (library === undefined) {
    return "there is a driver of NVIDIA, but neither its file for Vulkan nor libGLX_nvidia.so.0 " +
      "or libEGL_nvidia.so.0: its graphics part is not installed (in containers " +
      "NVIDIA_DRIVER_CAPABILITIES=all, or graphics, brings it in)";
  }
  const json = JSON.stringify({
    file_format_version: "1.0.0",
    ICD: { library_path: library, api_version: "1.3.0" },
  });
  const path = join(file, "icd.d", "nvidia_icd.json");
  return "there is a driver of NVIDIA, but no file that tells Vulkan of it; without root:\n" +
    `  mkdir -p ${join(file, "icd.d")} && echo '${json}' > ${path}\n` +
    `  or the same file elsewhere, named by VK_DRIVER_FILES`;
}
