/** The command line as users meet it: usage, exit codes, doctor, dry runs. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { INSTALL_COMMAND } from "../../../engine/errors.ts";
import { describeError, exitCodeOf, UsageError } from "../../../train/errors.ts";

const ROOT = fromFileUrl(new URL("../../..", import.meta.url));

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

const cli = (...argv: string[]): Promise<Outcome> => cliWith({}, ...argv);

async function cliWith(env: Record<string, string>, ...argv: string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "--allow-read", "train/main.ts", ...argv],
    cwd: ROOT,
    env: { NO_COLOR: "1", NODEVICE_SELECT: "1", ...env },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

function named(name: string): Error {
  const error = new Error("it broke\nthe rest");
  error.name = name;
  return error;
}

Deno.test("cli: exit codes by error name", () => {
  const codes = {
    UsageError: 2,
    NoAdapterError: 3,
    NoDataError: 4,
    DeviceLostError: 5,
    OutOfMemoryError: 5,
    InterruptedError: 130,
    TypeError: 1,
    toString: 1,
  };
  for (const [name, code] of Object.entries(codes)) assertEquals(exitCodeOf(named(name)), code);
  assertEquals(exitCodeOf("thrown text"), 1);
});

Deno.test("cli: an error is one line first, then details", () => {
  assertEquals(
    describeError(new UsageError("bad key", "allowed: a")),
    "error: bad key\nallowed: a",
  );
  assertEquals(describeError(named("NoDataError")), "error: it broke\nthe rest");
  const caused = Object.assign(new UsageError("x"), { cause: new Error("below") });
  assertEquals(describeError(caused), "error: x\ncaused by: below");
  const [first, , stack] = describeError(named("KernelError")).split("\n");
  assertEquals(first, "error: KernelError: it broke");
  assertStringIncludes(stack, "at ");
});

Deno.test("cli: wrong usage exits 2 with the reason first", async () => {
  for (
    const [argv, reason] of [
      [[], "error: no command given"],
      [["pretrian"], "error: unknown command pretrian; did you mean pretrain?"],
      [["help", "porbe"], "error: unknown command porbe; did you mean probe?"],
      [["pretrain", "--device", "gpu"], "error: no option --device; did you mean --adapter?"],
      [["toString"], "error: unknown command toString"],
      [["pretrain", "--steps", "0"], "error: --steps 0 (on the command line): must be"],
      [["pretrain", "--nope"], "error: no option --nope"],
      [["verify", "a", "b"], "error: Unexpected option or argument"],
      [["doctor", "--adapter", "abacus"], "error: --adapter abacus: must be auto, gpu"],
    ] as const
  ) {
    const { code, out, err } = await cli(...argv);
    assertEquals([code, out], [2, ""], err);
    assertStringIncludes(err.split("\n")[0], reason);
  }
});

Deno.test("cli: --help of everything exits 0", async () => {
  for (const argv of [[], ["pretrain"], ["verify"], ["doctor"]]) {
    const { code, out, err } = await cli(...argv, "--help");
    assertEquals([code, err], [0, ""]);
    assertStringIncludes(out, "Usage: deno task");
  }
});

Deno.test("cli: --version, help COMMAND", async () => {
  const [version, ofCommand, all] = await Promise.all([
    cli("pretrain", "--version"),
    cli("help", "verify"),
    cli("help"),
  ]);
  assertMatch(version.out, /^tessera \d+\.\d+\.\d+(, commit [0-9a-f]{12})?, Deno [\d.]+\n$/);
  assertStringIncludes(ofCommand.out, "Usage: deno task verify");
  assertStringIncludes(all.out, "Usage: deno task COMMAND");
  assertEquals([version.code, ofCommand.code, all.code], [0, 0, 0]);
});

Deno.test("cli: without an adapter exit 3 and the command that installs one", async () => {
  // The Vulkan loader looks for drivers nowhere else; other backends are switched off.
  const none = {
    VK_DRIVER_FILES: "/nowhere.json",
    VK_ICD_FILENAMES: "/nowhere.json",
    DENO_WEBGPU_BACKEND: "vulkan",
  };
  for (const argv of [["pretrain"], ["verify"], ["doctor"]]) {
    const { code, out, err } = await cliWith(none, ...argv);
    assertEquals(code, 3, err);
    // Which drivers there are is then needed most.
    if (argv[0] === "doctor" && Deno.build.os === "linux") {
      assertMatch(out, /^Vulkan drivers\n {2}\S/);
    } else assertEquals(out, "");
    assertStringIncludes(err.split("\n")[0], "error: no WebGPU adapter");
    assertStringIncludes(err, INSTALL_COMMAND);
  }
});

Deno.test("cli: pretrain --dry-run describes the run and needs no permission to write", async () => {
  const words = ["--epochs", "2", "--out", "no/such/folder"];
  const { code, out, err } = await cli("pretrain", "--dry-run", ...words);
  assertEquals(code, 0, err);
  assertStringIncludes(out, "128 updates of 16 crops of 2.08 s, 2048 crops, 2.00 passes");
  assertMatch(out, /memory: .* in all.*\ndry run: nothing was trained or written\n$/);
});

Deno.test("cli: doctor describes the adapter and measures it", async () => {
  const { code, out, err } = await cli("doctor", "--json");
  assertEquals(code, 0, err);
  const record = JSON.parse(out);
  assertEquals(typeof record.adapter.description, "string");
  for (const [name, value] of Object.entries(record.ceiling)) {
    assertEquals(Number.isFinite(value) && (value as number) > 0, true, `${name} ${value}`);
  }
  assertEquals(record.limits.maxStorageBufferBindingSize >= 2 ** 27, true);
});
