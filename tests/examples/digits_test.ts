/** The example that reads digits learns to. */
import { assert } from "@std/assert";
import { fullOnly } from "../support/tier.ts";
import { readDigits } from "./digits.ts";

fullOnly("a convolutional network reads digits that it has not seen", async () => {
  const lines: string[] = [];
  const right = await readDigits({ log: (line) => lines.push(line) });
  // One in ten is right by chance.
  assert(right > 0.97, lines.join("\n"));
});
