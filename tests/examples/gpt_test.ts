/** The example that recites a rhyme learns it, and samples what it would without a cache. */
import { assert, assertEquals } from "@std/assert";
import { concat, KeyValueCache, noGrad, Prng, scope } from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";
import { full, fullOnly } from "../support/tier.ts";
import { encode, GPT, learnRhyme, RHYME } from "./gpt.ts";

/** What the loss is for a model that knows how frequent characters are, and nothing more. */
function entropy(ids: readonly number[]): number {
  const shares = [...new Set(ids)].map((id) => ids.filter((it) => it === id).length / ids.length);
  return -shares.reduce((sum, share) => sum + share * Math.log(share), 0);
}

Deno.test("a transformer learns a rhyme by heart", async () => {
  const lines: string[] = [];
  const small = { steps: 40, width: 32, layers: 1 };
  const loss = await learnRhyme({ ...full ? {} : small, log: (line) => lines.push(line) });
  assert(loss < (full ? 0.6 : entropy(encode(RHYME)) - 0.5), lines.join("\n"));
  // The prompt, and as many characters as the context has room for.
  assertEquals(lines.at(-1)!.match(/^\nThis is ([^]*) …$/)?.[1].length, 64 - "This is ".length);
});

// The quick tier has the same of one block: tests/engine/attention_options_test.ts.
fullOnly("logits with a cache, token by token, are those of the whole passage", async () => {
  using device = await openDevice();
  using model = new GPT(device, 16, 2, new Prng(3));
  const caches = model.blocks.map(() => new KeyValueCache());
  const [cached, whole] = scope(() =>
    noGrad(() => {
      const ids = device.tensor(Uint32Array.from(encode(RHYME.slice(0, 20))), [2, 10]);
      const parts = [[0, 4], [4, 1], [5, 1], [6, 4]].map(([start, count]) =>
        model.apply(ids.slice(1, start, count), caches)
      );
      return [concat(parts, 1), model.apply(ids)];
    })
  );
  const [a, b] = await device.read([cached, whole]);
  const largest = Math.max(...b.map(Math.abs));
  assert(largest > 0.5, `${largest}`);
  // Products and attention over fewer tokens may be other kernels, which sum in another order.
  const difference = Math.max(...a.map((value, i) => Math.abs(value - b[i])));
  assert(difference < 1e-5 * largest, `${difference} of ${largest}`);
  caches.forEach((it) => it[Symbol.dispose]());
});
