/** The README's example, taken from its text and run without any permission. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";

const ROOT = fromFileUrl(new URL("../..", import.meta.url));

Deno.test("the README's regression runs as printed and finds the line", async () => {
  const readme = await Deno.readTextFile(`${ROOT}README.md`);
  const code = /```ts\n([\s\S]*?engine\/mod\.ts[\s\S]*?)```/.exec(readme)?.[1];
  if (code === undefined) throw new Error("README.md has no example");
  const lines = code.trim().split("\n").filter((line) => line !== "");
  assert(lines.length <= 11, `${lines.length} lines: ten and the import were promised`);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--check", "--quiet", "-"],
    cwd: ROOT,
    env: { NO_COLOR: "1", NODEVICE_SELECT: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(code));
  await writer.close();
  const { code: status, stdout, stderr } = await child.output();
  assertEquals(status, 0, new TextDecoder().decode(stderr));
  const [weight, bias] = new TextDecoder().decode(stdout).trim().split(" ").map(Number);
  assertAlmostEquals(weight, 2, 1e-2);
  assertAlmostEquals(bias, 1, 2e-2);
});
