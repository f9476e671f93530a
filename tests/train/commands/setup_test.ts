/** How the software adapter is installed, and what stands in the way. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { INSTALL_COMMAND } from "../../../engine/errors.ts";
import { type Machine, planInstall, wideVectors } from "../../../train/setup.ts";

const ROOT = fromFileUrl(new URL("../../..", import.meta.url));
const ICDS = "/usr/share/vulkan/icd.d";

function machine(
  uid: number,
  programs: Readonly<Record<string, number>>,
  os = "linux",
): Machine {
  return { os, uid, run: (program) => Promise.resolve(programs[program]) };
}

Deno.test("setup: root calls apt-get, others through sudo without a password", async () => {
  assertEquals(await planInstall(machine(0, { "apt-get": 0 })), { prefix: ["apt-get"] });
  assertEquals(await planInstall(machine(1000, { "apt-get": 0, sudo: 0 })), {
    prefix: ["sudo", "-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"],
  });
});

Deno.test("setup: what stands in the way is said", async () => {
  const obstacle = async (it: Machine) => Object.keys(await planInstall(it))[0];
  assertEquals(await obstacle(machine(0, {})), "obstacle");
  assertEquals(await obstacle(machine(1000, { "apt-get": 0 })), "obstacle");
  assertEquals(await obstacle(machine(1000, { "apt-get": 0, sudo: 1 })), "obstacle");
  assertEquals(await obstacle(machine(0, { "apt-get": 0 }, "darwin")), "obstacle");
});

Deno.test("setup: vectors of 16 floats where the processor has AVX-512, kernels apart", async () => {
  const found = (
    variables: Readonly<Record<string, string>>,
    programs: Readonly<Record<string, number>> = { grep: 0, mkdir: 0 },
    os = "linux",
  ) => wideVectors(machine(1000, programs, os), (name) => variables[name]);
  const at = (folder: string) => [
    "LP_NATIVE_VECTOR_WIDTH=512",
    `MESA_SHADER_CACHE_DIR=${folder}/mesa_16_lanes`,
  ];
  assertEquals(await found({ HOME: "/home/a" }), at("/home/a/.cache"));
  assertEquals(await found({ HOME: "/home/a", XDG_CACHE_HOME: "/c" }), at("/c"));
  assertEquals(await found({ MESA_SHADER_CACHE_DIR: "/m", XDG_CACHE_HOME: "/c" }), at("/m"));
  const home = { HOME: "/home/a" };
  assertEquals(await found({ ...home, LP_NATIVE_VECTOR_WIDTH: "256" }), [], "chosen already");
  assertEquals(await found(home, { grep: 1, mkdir: 0 }), [], "no AVX-512");
  assertEquals(await found(home, {}), [], "no grep");
  assertEquals(await found(home, { grep: 0, mkdir: 1 }), [], "nowhere to keep kernels");
  assertEquals(await found(home, { grep: 0, mkdir: 0 }, "darwin"), [], "another system");
  assertEquals(await found({}), [], "no folder");
  assertEquals(await found({ HOME: "/home/a b" }), [], "a folder that the shell would split");
});

function lavapipe(): string | undefined {
  try {
    const name = [...Deno.readDirSync(ICDS)].map((it) => it.name).find((it) => /^lvp_/.test(it));
    return name === undefined ? undefined : `${ICDS}/${name}`;
  } catch {
    return undefined;
  }
}

/**
 * Runs the task with these scripts as apt-get, sudo and grep, and with every Vulkan driver hidden
 * but the one given.
 */
async function setupTask(
  aptGet: string,
  { grep = "exit 1", driver }: { readonly grep?: string; readonly driver?: string } = {},
): Promise<{ code: number; out: string; err: string; calls: string[] }> {
  const dir = await Deno.makeTempDir();
  try {
    const script = async (name: string, text: string) => {
      await Deno.writeTextFile(`${dir}/${name}`, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    };
    await script("apt-get", `echo "$@" >> ${dir}/calls\n${aptGet.replaceAll("$DIR", dir)}`);
    await script("sudo", 'shift; exec env "$@"');
    await script("grep", grep);
    const hidden = `${dir}/icd.json`;
    if (driver !== undefined) await Deno.copyFile(driver, hidden);
    const task = await new Deno.Command(Deno.execPath(), {
      args: ["task", "--quiet", "setup"],
      cwd: ROOT,
      env: {
        PATH: `${dir}:/usr/bin:/bin`,
        VK_DRIVER_FILES: hidden,
        VK_ICD_FILENAMES: hidden,
        NO_COLOR: "1",
        LP_NATIVE_VECTOR_WIDTH: "",
        MESA_SHADER_CACHE_DIR: dir,
      },
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    const calls = await Deno.readTextFile(`${dir}/calls`).catch(() => "");
    return {
      code: task.code,
      out: text(task.stdout),
      err: text(task.stderr),
      calls: calls.trim().split("\n"),
    };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const ICD = lavapipe();

Deno.test({
  name: "setup: installs the software driver where none is found, and finds it then",
  ignore: ICD === undefined,
  fn: async () => {
    const { code, out, calls } = await setupTask(
      `case "$1" in update) exit 100;; install) cp ${ICD} $DIR/icd.json;; esac`,
    );
    assertEquals(calls, [
      "--version",
      "update",
      "install -y --no-install-recommends mesa-vulkan-drivers libvulkan1",
    ]);
    assertEquals([code, out.startsWith("adapter: ")], [0, true], out);
  },
});

Deno.test({
  name: "setup: where installing fails, exit code 3 and the command to run",
  ignore: ICD === undefined,
  fn: async () => {
    const failing = await setupTask('[ "$1" = --version ] || exit 100');
    assertEquals(failing.code, 3);
    assertStringIncludes(failing.err, "error: no WebGPU adapter: apt-get ended with code 100");
    assertStringIncludes(failing.err, INSTALL_COMMAND);
    const useless = await setupTask("exit 0");
    assertEquals(useless.code, 3);
    assertStringIncludes(useless.err, "also after the software driver was installed");
  },
});

Deno.test({
  name: "setup: commands run in vectors of 16 floats where the processor has AVX-512",
  ignore: ICD === undefined,
  fn: async () => {
    const asked = '[ "$*" = "-qw avx512bw /proc/cpuinfo" ]';
    const wide = await setupTask("exit 1", { grep: asked, driver: ICD });
    assertStringIncludes(wide.out, "512 bits", wide.err);
    const usual = await setupTask("exit 1", { driver: ICD });
    assertEquals([usual.code, usual.out.includes("512 bits")], [0, false], usual.out);
  },
});
