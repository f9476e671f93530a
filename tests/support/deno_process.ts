/** Another Deno, for tests of what a user would run. */
import { assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";

const ROOT = fromFileUrl(new URL("../../", import.meta.url));

/**
 * Runs Deno in the project's folder; fails with what it says on standard error unless it ends with
 * 0.
 */
export async function deno(
  args: readonly string[],
  stdin = "",
): Promise<{ out: string; err: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1", NODEVICE_SELECT: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const [out, err] = [stdout, stderr].map((it) => new TextDecoder().decode(it).trim());
  assertEquals(code, 0, err);
  return { out, err };
}
