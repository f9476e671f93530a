/** The example that tells sounds apart learns to. */
import { assert } from "@std/assert";
import { fullOnly } from "../support/tier.ts";
import { hearSounds } from "./sounds.ts";

fullOnly("a recurrent network tells sounds apart that it has not heard", async () => {
  const lines: string[] = [];
  const right = await hearSounds({ log: (line) => lines.push(line) });
  // One in four is right by chance.
  assert(right > 0.95, lines.join("\n"));
});
