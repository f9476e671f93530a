/** The example that reads digits learns to. */
import { assert } from "@std/assert";
import { full } from "../support/tier.ts";
import { readDigits } from "./digits.ts";

Deno.test("a convolutional network reads digits that it has not seen", async () => {
  const lines: string[] = [];
  const small = { steps: 50, channels: 8, unseen: 300 };
  const right = await readDigits({ ...full ? {} : small, log: (line) => lines.push(line) });
  // One in ten is right by chance.
  assert(right > (full ? 0.97 : 0.8), lines.join("\n"));
});
