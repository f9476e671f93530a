/** One rank of the tests of training: trains what it is told and says what came of it. */
import { openDevice } from "../../../engine/mod.ts";
import { openGroup } from "../../../train/cluster/group.ts";
import { digest } from "./group_values.ts";
import { type TrainingSpec, trainTogether } from "./training_run.ts";

const [words, out] = Deno.args;
const group = await openGroup({ timeout: 300 });
try {
  using device = await openDevice();
  const specs: TrainingSpec[] = JSON.parse(words);
  for (const [i, spec] of specs.entries()) {
    const named = await trainTogether(device, {
      ...{ rank: group.rank, size: group.size },
      sum: (...values) => group.sum(...values),
    }, spec);
    const digests = await Promise.all([...named.values()].map(digest));
    console.log(`${group.rank} ${i} ${await digest(digests.join())}`);
    if (group.rank > 0 || out === undefined) continue;
    const values = Object.fromEntries([...named].map(([name, it]) => [name, [...it]]));
    await Deno.writeTextFile(
      `${out}/${i}.json`,
      // JSON has no NaN or infinity.
      JSON.stringify(values, (_, it) => typeof it === "number" && !isFinite(it) ? `${it}` : it),
    );
  }
} catch (error) {
  await group.abort(error);
}
await group.finish();
