/** How the software adapter is installed, and what stands in the way. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { INSTALL_COMMAND } from "../../../engine/errors.ts";
import { type Machine, planInstall } from "../../../train/setup.ts";

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

function lavapipe(): string | undefined {
  try {
    const name = [...Deno.readDirSync(ICDS)].map((it) => it.name).find((it) => /^lvp_/.test(it));
    return name === undefined ? undefined : `${ICDS}/${name}`;
  } catch {
    return undefined;
  }
}

/** Runs the task with every Vulkan driver hidden and these scripts as apt-get and sudo. */
async function setupTask(
  aptGet: string,
): Promise<{ code: number; out: string; err: string; calls: string[] }> {
  const dir = await Deno.makeTempDir();
  try {
    const script = async (name: string, text: string) => {
      await Deno.writeTextFile(`${dir}/${name}`, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    };
    await script("apt-get", `echo "$@" >> ${dir}/calls\n${aptGet.replaceAll("$DIR", dir)}`);
    await script("sudo", 'shift; exec env "$@"');
    const hidden = `${dir}/icd.json`;
    const task = await new Deno.Command(Deno.execPath(), {
      args: ["task", "--quiet", "setup"],
      cwd: ROOT,
      env: {
        PATH: `${dir}:/usr/bin:/bin`,
        VK_DRIVER_FILES: hidden,
        VK_ICD_FILENAMES: hidden,
        NO_COLOR: "1",
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
