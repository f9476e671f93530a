/** The example that tells sounds apart learns to. */
import { assert } from "@std/assert";
import { full } from "../support/tier.ts";
import { hearSounds } from "./sounds.ts";

Deno.test("a recurrent network tells sounds apart that it has not heard", async () => {
  const lines: string[] = [];
  const small = { steps: 40, unseen: 200 };
  const right = await hearSounds({ ...full ? {} : small, log: (line) => lines.push(line) });
  // One in four is right by chance.
  assert(right > (full ? 0.95 : 0.85), lines.join("\n"));
});
