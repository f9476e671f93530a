/**
 * No kernel is compiled anew when it is dispatched again: lavapipe does so, and never frees the
 * code, where it unrolls loops by the values of uniforms (kernels/include/attention_bindings.wgsl).
 * Seen in the memory of machine code, on Linux.
 */
import { assert } from "@std/assert";
import { openDevice } from "../../engine/device.ts";
import { selfAttention } from "../../engine/ops/attention.ts";
import { randomUniform } from "../../engine/random.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import { full } from "../support/tier.ts";

/**
 * Reads a process's map of memory, which Deno gives to none that may not do everything; `deno eval`
 * may.
 */
const READER = "console.log(Deno.readTextFileSync(`/proc/${Deno.args[0]}/smaps`))";

/** KiB of anonymous memory that can be executed; undefined where the system does not tell. */
function machineCode(): number | undefined {
  const { success, stdout } = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-config", READER, String(Deno.pid)],
    stderr: "null",
  }).outputSync();
  if (!success) return undefined;
  let [total, counts] = [0, false];
  for (const line of new TextDecoder().decode(stdout).split("\n")) {
    const head = /^[0-9a-f]+-[0-9a-f]+ (\S+) \S+ \S+ \S+\s*(.*)$/.exec(line);
    if (head) counts = head[1].includes("x") && head[2] === "";
    else if (counts) total += Number(/^Rss:\s+(\d+)/.exec(line)?.[1] ?? 0);
  }
  return total;
}

for (const variant of ["single", "rows", "tiled"]) {
  const name = `${variant}: attention over few tokens is compiled once`;
  const ignore = (!full && variant !== "single") || machineCode() === undefined;
  Deno.test({ name, ignore }, async () => {
    using device = await openDevice({ variants: { attention: variant } });
    for (const tokens of [2, 5, 7, 8, 10]) {
      // 18 heads: enough for the single pass.
      const run = () =>
        scope(() => {
          const qkv = randomUniform(device, [6, tokens, 36], tokens).trainable();
          const y = selfAttention(qkv, 3);
          backward(y, randomUniform(device, y.shape, 1));
        });
      for (let i = 0; i < 3; i++) run();
      await device.sync();
      const before = machineCode()!;
      for (let i = 0; i < 100; i++) run();
      await device.sync();
      const after = machineCode()!;
      // A kernel is 9 KiB and more, 100 of them 900; the script's own code grows by up to 100.
      assert(after - before < 400, `${tokens} tokens: ${after - before} KiB more machine code`);
    }
  });
}
