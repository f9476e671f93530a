/** Which adapter ranks get, on made-up machines. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import {
  adapterChoice,
  type Card,
  cardsOf,
  type Files,
  hasDeviceSelect,
  loaderFolders,
  missingNvidia,
  sharedAdapters,
  vulkanDrivers,
} from "../../../train/cluster/adapters.ts";
import { vulkanOf, vulkanText } from "../../../train/commands/doctor.ts";
import { inTempDir } from "../../support/audio_files.ts";

const PROGRAM = "tests/train/cluster/system_files_program.ts";

/** A machine that has these files; empty texts are files of which only the name counts. */
function machine(content: Readonly<Record<string, string>>): Files {
  return {
    names: (dir) => [
      ...new Set(
        Object.keys(content).filter((it) => it.startsWith(`${dir}/`))
          .map((it) => it.slice(dir.length + 1).split("/")[0]),
      ),
    ],
    text: (path) => content[path] ?? "",
  };
}

const variables = (values: Readonly<Record<string, string>>) => (name: string) => values[name];
const icd = (library: string) =>
  JSON.stringify({ file_format_version: "1.0.0", ICD: { library_path: library } });
const pci = (address: string, kind: string, vendor: string, device: string) => ({
  [`/sys/bus/pci/devices/${address}/class`]: `${kind}\n`,
  [`/sys/bus/pci/devices/${address}/vendor`]: `${vendor}\n`,
  [`/sys/bus/pci/devices/${address}/device`]: `${device}\n`,
});

/** Four of NVIDIA, one of them a 3D controller, the board's console and a network card. */
const FOUR = {
  ...pci("0000:03:00.0", "0x030000", "0x1a03", "0x2000"),
  ...pci("0000:1a:00.0", "0x020000", "0x15b3", "0x101b"),
  ...pci("0000:5e:00.0", "0x030200", "0x10de", "0x2330"),
  ...pci("0000:3b:00.0", "0x030200", "0x10de", "0x2330"),
  ...pci("0000:86:00.0", "0x030200", "0x10de", "0x2330"),
  ...pci("0000:af:00.0", "0x030000", "0x10de", "0x2204"),
};
const LAYER = { "/usr/share/vulkan/implicit_layer.d/VkLayer_MESA_device_select.json": "{}" };

Deno.test("driver files are found where the loader looks, in its order", () => {
  const files = machine({
    "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json": icd("libvulkan_lvp.so"),
    "/usr/share/vulkan/icd.d/README": "",
    "/etc/vulkan/icd.d/nvidia_icd.json": icd("libGLX_nvidia.so.0"),
    "/home/a/.local/share/vulkan/icd.d/own.json": "{",
    "/data/vulkan/icd.d/x.json": icd("x.so"),
    "/opt/y.json": icd("y.so"),
  });
  const found = (values: Record<string, string>) =>
    vulkanDrivers(files, variables(values)).map(({ path, library }) => `${path} ${library}`);
  assertEquals(found({ HOME: "/home/a" }), [
    "/etc/vulkan/icd.d/nvidia_icd.json libGLX_nvidia.so.0",
    "/home/a/.local/share/vulkan/icd.d/own.json undefined",
    "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json libvulkan_lvp.so",
  ]);
  assertEquals(found({ XDG_DATA_DIRS: "/data", VK_ADD_DRIVER_FILES: "/opt/y.json" }), [
    "/opt/y.json y.so",
    "/etc/vulkan/icd.d/nvidia_icd.json libGLX_nvidia.so.0",
    "/data/vulkan/icd.d/x.json x.so",
  ]);
  assertEquals(found({ VK_DRIVER_FILES: "/opt/y.json:/data/vulkan/icd.d", HOME: "/home/a" }), [
    "/opt/y.json y.so",
    "/data/vulkan/icd.d/x.json x.so",
  ]);
  assertEquals(loaderFolders(variables({})), [
    ...["/etc/xdg", "/etc", "/usr/local/share", "/usr/share"],
  ]);
});

Deno.test("ranks get the cards of one vendor in turn; a choice of the user's stays", () => {
  const files = machine({ ...FOUR, ...LAYER });
  const cards = cardsOf(files);
  assertEquals(cards.map(({ address }) => address), [
    ...["0000:3b:00.0", "0000:5e:00.0", "0000:86:00.0", "0000:af:00.0"],
  ]);
  const get = variables({ NODEVICE_SELECT: "1" });
  const layer = hasDeviceSelect(files, get);
  const primes = [0, 1, 5].map((localRank) =>
    adapterChoice({ localRank, cards, layer, get })!.variables
  );
  assertEquals(primes.map((it) => it.DRI_PRIME), [
    ...["pci-0000_3b_00_0", "pci-0000_5e_00_0", "pci-0000_5e_00_0"],
  ]);
  assertEquals(primes[0].MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE, "1");
  assertEquals(primes[0].NODEVICE_SELECT, null);

  const none = (
    more: { cards?: readonly Card[]; localRank?: number; layer?: boolean },
    values: Record<string, string> = {},
  ) =>
    assertEquals(
      adapterChoice({ localRank: 1, cards, layer: true, get: variables(values), ...more }),
      undefined,
    );
  none({}, { DRI_PRIME: "1" });
  none({}, { MESA_VK_DEVICE_SELECT: "10de:2330" });
  none({}, { VK_LOADER_DEVICE_SELECT: "0x10de:0x2330" });
  none({}, { SLURM_GPUS_PER_TASK: "1" });
  none({}, { SLURM_TRES_PER_TASK: "cpu=8,gres/gpu=1" });
  none({ cards: cards.slice(0, 1) });
  none({ localRank: undefined });
  // Without the layer models alone can be told apart.
  none({ layer: false });
  const unlike = adapterChoice({ localRank: 1, cards: cards.slice(2), layer: false, get });
  assertEquals(unlike!.variables, { VK_LOADER_DEVICE_SELECT: "0x10de:0x2204" });
});

Deno.test("ranks of a machine on one adapter are told of, once; software adapters are not", async () => {
  const told = async (
    ranks: readonly { host: string; software?: boolean; name?: string; prime?: string }[],
    more: Record<string, string> = {},
  ) => {
    const texts: string[] = [];
    const get = (prime?: string) => variables({ ...more, ...prime && { DRI_PRIME: prime } });
    const adapter = ({ software = false, name = "H" }: typeof ranks[number]) => ({
      software,
      description: name,
    });
    const group = { size: ranks.length, hosts: ranks.map(({ host }) => host) };
    for (const rank of ranks) {
      const gather = (text: string) => Promise.resolve([texts.push(text)].map(String));
      await sharedAdapters({ ...group, gather }, adapter(rank), get(rank.prime)).catch(() => {});
    }
    const gather = () => Promise.resolve(texts);
    return await sharedAdapters({ ...group, gather }, adapter(ranks[0]), get(ranks[0].prime));
  };
  assertEquals(await told([{ host: "a" }, { host: "b" }]), undefined);
  assertEquals(
    await told([{ host: "b" }, { host: "a" }, { host: "a" }, { host: "a", name: "L" }]),
    "warning: ranks 1, 2 on a compute on the same adapter, H; deno task doctor says how each " +
      "can have its own",
  );
  const apart = [{ host: "a", prime: "pci-1" }, { host: "a", prime: "pci-2" }];
  assertEquals(await told(apart), undefined);
  assertEquals(
    await told([{ host: "a", software: true }, { host: "a", software: true }]),
    undefined,
  );
  assertEquals(await told([{ host: "a" }, { host: "a" }], { SLURM_GPUS_PER_TASK: "1" }), undefined);
});

Deno.test("what a node with cards of NVIDIA lacks is said, with the file to write", () => {
  const get = variables({ HOME: "/home/a" });
  const of = (content: Record<string, string>) => missingNvidia(machine(content), get);
  const library = { "/usr/lib64/libEGL_nvidia.so.0": "" };
  assertEquals(of({}), undefined);
  assertEquals(of({ "/usr/share/vulkan/icd.d/lvp_icd.json": icd("libvulkan_lvp.so") }), undefined);
  const signs: Record<string, string>[] = [
    { "/dev/nvidia0": "" },
    { "/dev/nvidiactl": "" },
    { "/proc/driver/nvidia/version": "NVRM version: 550" },
    { "/usr/lib/x86_64-linux-gnu/libcuda.so.1": "" },
  ];
  for (const sign of signs) {
    const text = of({ ...sign, ...library })!;
    assertStringIncludes(text, "/home/a/.local/share/vulkan/icd.d/nvidia_icd.json");
    const [, json] = /echo '(.*)'/.exec(text)!;
    assertEquals(JSON.parse(json).ICD.library_path, "libEGL_nvidia.so.0");
    // With that file nothing is missing.
    const path = "/home/a/.local/share/vulkan/icd.d/nvidia_icd.json";
    assertEquals(of({ ...sign, ...library, [path]: json }), undefined);
    assertStringIncludes(of(sign)!, "NVIDIA_DRIVER_CAPABILITIES");
  }
  const record = vulkanOf(machine({ ...FOUR, ...LAYER, ...library, "/dev/nvidia0": "" }), get);
  const text = vulkanText(record);
  for (const part of ["there is no Vulkan driver", "0000:3b:00.0", "DRI_PRIME", "echo '{"]) {
    assertStringIncludes(text, part);
  }
});

Deno.test({
  name: "libc's view of folders and files is Deno's",
  ignore: Deno.build.os !== "linux",
  fn: () =>
    inTempDir(async (dir) => {
      const names = Array.from({ length: 300 }, (_, i) => `${i}-${"ü".repeat(i % 60)}`);
      for (const name of names) await Deno.writeTextFile(`${dir}/${name}`, `text of ${name}`);
      // Tests have no permission for FFI.
      const words = ["run", "--no-check", "--no-prompt", "--allow-ffi", PROGRAM, dir, names[7]];
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: words })
        .output();
      assertEquals(code, 0, new TextDecoder().decode(stderr));
      const found = JSON.parse(new TextDecoder().decode(stdout));
      assertEquals(found.names.sort(), names.toSorted());
      assertEquals(found.rest, [`text of ${names[7]}`, [], ""]);
    }),
});
