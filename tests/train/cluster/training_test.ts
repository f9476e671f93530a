/**
 * Training by several processes against one process with as many micro-batches.
 *
 * With a micro-batch a rank, ranks are added as one process adds its micro-batches, so that for
 * powers of two all bits are the same. Thirds are rounded, unless one process multiplies and adds
 * in one step (fma); and with several micro-batches a rank, sums of each come first, unless all is
 * a tree. Sums then differ by 6e-8 of the sum of magnitudes for each addition: as in
 * accumulation_test.ts, three updates make less than 1e-5 of a tensor's largest value of it.
 */
import { assert, assertEquals } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import { groupOfOne } from "../../../train/cluster/group.ts";
import { inTempDir } from "../../support/audio_files.ts";
import {
  GROUP_PERMISSIONS,
  type Launcher,
  mpiTest,
  once,
  outcomeOf,
  startJob,
} from "../../support/mpi.ts";
import { OBJECTIVE_NAMES } from "../../support/small_geometry.ts";
import { full, fullOnly } from "../../support/tier.ts";
import { digest } from "./group_values.ts";
import { type TrainingSpec, trainTogether } from "./training_run.ts";

const PROGRAM = "tests/train/cluster/training_program.ts";
const device = await openDevice();

/** Digests of each spec, the same on all ranks, and values by name. */
async function jobOf(
  launcher: Launcher,
  ranks: number,
  specs: readonly TrainingSpec[],
): Promise<{ digests: string[]; values: Record<string, (number | string)[]>[] }> {
  let values: Record<string, (number | string)[]>[] = [];
  const digests: string[] = [];
  await inTempDir(async (dir) => {
    const program = [...GROUP_PERMISSIONS, `--allow-write=${dir}`, PROGRAM];
    const job = startJob(launcher, ranks, [...program, JSON.stringify(specs), dir]);
    const { code, lines, err } = await outcomeOf(job);
    assertEquals(code, 0, err);
    const said = lines.map((line) => line.split(" "));
    for (const i of specs.keys()) {
      const found = said.filter(([, spec]) => spec === String(i)).map(([, , it]) => it);
      assertEquals(found.length, ranks);
      assertEquals(new Set(found).size, 1, `ranks differ in ${JSON.stringify(specs[i])}`);
      digests.push(found[0]);
    }
    values = await Promise.all(
      specs.map(async (_, i) => JSON.parse(await Deno.readTextFile(`${dir}/${i}.json`))),
    );
  });
  return { digests, values };
}

async function alone(spec: TrainingSpec) {
  const named = await trainTogether(device, groupOfOne(), spec);
  const digests = await Promise.all([...named.values()].map(digest));
  return { named, digest: await digest(digests.join()) };
}

function assertClose(
  actual: Readonly<Record<string, readonly (number | string)[]>>,
  expected: ReadonlyMap<string, Float32Array>,
): void {
  assertEquals(Object.keys(actual), [...expected.keys()]);
  for (const [name, values] of expected) {
    const scale = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    values.forEach((x, i) => {
      const y = Number(actual[name][i]);
      assert(x === y || Math.abs(x - y) <= 1e-5 * scale, `${name}[${i}]: ${y} for ${x}`);
    });
  }
}

/** The model has some ten buckets of this size, summed while the backward pass goes on. */
const PLAIN = {
  objective: "matpac",
  precision: "f32",
  recipe: "paper",
  microBatches: 4,
  bucket: 4096,
} as const;
const CONTRAST = { ...PLAIN, objective: "msm-mae", contrast: 0.3 } as const;
/**
 * Every objective in both precisions and recipes, in two halves that each have every pair of these.
 */
const [FIRST, REST] = [0, 1].map((half): readonly TrainingSpec[] =>
  OBJECTIVE_NAMES.flatMap((objective, o) =>
    (["f32", "mixed"] as const).map((precision, p) => {
      const recipe = (["paper", "released"] as const)[(o + p + half) % 2];
      return { ...PLAIN, objective, precision, recipe };
    })
  )
);
const HALF = [...FIRST, CONTRAST];
const SMALL = [PLAIN, { ...PLAIN, objective: "matpac-plus", precision: "mixed" }] as const;

mpiTest("a micro-batch a rank: the bits of one process, whatever is trained", async (launcher) => {
  const jobs: [ranks: number, specs: readonly TrainingSpec[]][] = !full
    ? [[2, [PLAIN]]]
    : launcher.name === "mpirun.openmpi"
    ? [[2, HALF], [4, REST]]
    : [[2, SMALL]];
  for (const [ranks, chosen] of jobs) {
    const specs = chosen.map((spec) => ({ ...spec, microBatches: ranks }));
    const expected: string[] = [];
    for (const spec of specs) expected.push((await alone(spec)).digest);
    assertEquals((await jobOf(launcher, ranks, specs)).digests, expected);
  }
}, once(Deno.test, fullOnly));

mpiTest("three ranks, or several passes of each, are the same up to rounding", async (launcher) => {
  for (const [ranks, microBatches, all] of [[3, 3, HALF], [2, 6, REST]] as const) {
    const specs = all.map((spec) => ({ ...spec, microBatches }));
    const { values } = await jobOf(launcher, ranks, specs);
    for (const [i, spec] of specs.entries()) assertClose(values[i], (await alone(spec)).named);
  }
}, once(fullOnly));

mpiTest("a tree gives the same bits on one, two and four ranks", async (launcher) => {
  const specs = SMALL.map((spec) => ({ ...spec, microBatches: 8, tree: true }));
  const [tree, mixed] = [await alone(specs[0]), await alone(specs[1])];
  for (const ranks of [2, 4]) {
    assertEquals((await jobOf(launcher, ranks, specs)).digests, [tree.digest, mixed.digest]);
  }
  // It is another order of the same sum.
  const sequence = await alone({ ...specs[0], tree: false });
  assert(sequence.digest !== tree.digest);
  const values = Object.fromEntries([...sequence.named].map(([name, it]) => [name, [...it]]));
  assertClose(values, tree.named);
}, once(fullOnly));

mpiTest("what overflows on one rank is left out by all", async (launcher) => {
  const spec = { ...PLAIN, precision: "mixed", microBatches: 2, overflow: 1 } as const;
  const { named, digest } = await alone(spec);
  assertEquals([...named.get("skipped of update 1")!], [1]);
  assertEquals([...named.get("skipped of update 2")!], [0]);
  assertEquals((await jobOf(launcher, 2, [spec])).digests, [digest]);
}, once(fullOnly));
