/** How many prototypes are some token's target. */
import { assertEquals } from "@std/assert";
import { openDevice, scope } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { distinctTargets, targetCounts } from "../../../train/metrics/distinct_targets.ts";

Deno.test("targets are counted by their largest probability, the lowest of equal ones", async () => {
  using device = await openDevice();
  const random = new Prng(1);
  for (const [batch, tokens, prototypes] of [[1, 1, 3], [3, 7, 5], [2, 37, 130]]) {
    const host = Float32Array.from(
      { length: batch * tokens * prototypes },
      // Eight values, so that there are ties.
      () => Math.floor(8 * random.uniform()) / 8,
    );
    const expected = new Array<number>(prototypes).fill(0);
    for (let at = 0; at < host.length; at += prototypes) {
      const row = host.subarray(at, at + prototypes);
      expected[row.indexOf(Math.max(...row))]++;
    }
    const [counts, distinct] = scope(() => {
      const counts = targetCounts(device.tensor(host, [batch, tokens, prototypes]));
      return [counts, distinctTargets(counts)];
    });
    assertEquals([...await counts.data()], expected);
    assertEquals([...await distinct.data()], [expected.filter((it) => it > 0).length]);
    counts.dispose();
    distinct.dispose();
  }
});
