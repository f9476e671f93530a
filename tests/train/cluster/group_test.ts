/**
 * Groups of processes: sums and texts over 1 to 4 ranks against sums in this process, bit for bit,
 * with each MPI library; and what ends a job.
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import fc from "fast-check";
import { addInOrder, partOf } from "../../../train/cluster/exchange.ts";
import { groupOfOne, openGroup } from "../../../train/cluster/group.ts";
import { launched } from "../../../train/cluster/launcher.ts";
import { ABIS, libraryFiles } from "../../../train/cluster/mpi_library.ts";
import { UsageError } from "../../../train/errors.ts";
import {
  GROUP_PERMISSIONS,
  type Launcher,
  mpiTest,
  once,
  outcomeOf,
  startJob,
} from "../../support/mpi.ts";
import { full, fullOnly, test } from "../../support/tier.ts";
import { digest, rowOf, textOf } from "./group_values.ts";

const PROGRAM = "tests/train/cluster/group_program.ts";

const runJob = (
  launcher: Launcher,
  ranks: number,
  words: readonly string[],
  env: Readonly<Record<string, string>> = {},
) => outcomeOf(startJob(launcher, ranks, [...GROUP_PERMISSIONS, PROGRAM, ...words], env));

test("launchers: Open MPI, Hydra, srun with either; nobody; a script of sbatch is no rank", () => {
  const from = (variables: Record<string, string>) => launched((name) => variables[name]);
  assertEquals(from({}), undefined);
  assertEquals(
    from({
      OMPI_COMM_WORLD_RANK: "3",
      OMPI_COMM_WORLD_SIZE: "8",
      OMPI_COMM_WORLD_LOCAL_RANK: "1",
      SLURM_PROCID: "0",
      SLURM_NTASKS: "1",
      SLURM_STEP_ID: "0",
    }),
    { by: "openmpi", rank: 3, size: 8, localRank: 1 },
  );
  assertEquals(
    from({ PMI_RANK: "0", PMI_SIZE: "2", MPI_LOCALRANKID: "0" }),
    { by: "pmi", rank: 0, size: 2, localRank: 0 },
  );
  assertEquals(
    from({ PMI_RANK: "5", PMI_SIZE: "6", SLURM_LOCALID: "2" }),
    { by: "pmi", rank: 5, size: 6, localRank: 2 },
  );
  const step = { SLURM_PROCID: "1", SLURM_NTASKS: "4", SLURM_LOCALID: "1" };
  assertEquals(from(step), undefined);
  assertEquals(
    from({ ...step, SLURM_STEP_ID: "7" }),
    { by: "slurm", rank: 1, size: 4, localRank: 1 },
  );
  assertEquals(from({ PMI_RANK: "x", PMI_SIZE: "2" }), undefined);
  assertEquals(from({ PMI_RANK: "2", PMI_SIZE: "2" }), undefined);
});

test("the file that is named is the only one; the launcher's kind of library comes first", () => {
  assertEquals(libraryFiles("slurm", "/opt/libmpi.so"), ["/opt/libmpi.so"]);
  assertEquals(libraryFiles("openmpi", undefined)[0], "libmpi.so.40");
  assertEquals(libraryFiles("pmi", "")[0], "libmpich.so.12");
  // What has no sign of its own is asked about last.
  assertEquals(ABIS.findIndex(({ sign }) => sign === undefined), ABIS.length - 1);
});

test("parts of a sum cover it once, and additions are made in the order that is asked for", () => {
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 9 }),
    fc.integer({ min: 0, max: 40 }),
    (size, length) => {
      const covered = Array.from({ length: size }, (_, rank) => {
        const [start, end] = partOf(rank, size, length);
        return Array.from({ length: end - start }, (_, i) => start + i);
      }).flat();
      assertEquals(covered, Array.from({ length }, (_, i) => i));
    },
  ));
  const sum = (values: number[], order: "sequence" | "tree") => {
    const rows = values.map((it) => Float32Array.of(it));
    addInOrder(rows, order);
    return rows[0][0];
  };
  const f = Math.fround;
  fc.assert(fc.property(
    fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 4, maxLength: 4 }),
    ([a, b, c, d]) => {
      assertEquals(sum([a, b, c, d], "sequence"), f(f(f(a + b) + c) + d));
      assertEquals(sum([a, b, c, d], "tree"), f(f(a + b) + f(c + d)));
      assertEquals(sum([a, b, c], "tree"), f(f(a + b) + c));
    },
  ));
});

test("without a launcher a process is a group of its own, and needs no library", async () => {
  const group = await openGroup({ timeout: 1, environment: () => undefined });
  const values = new Float32Array(new SharedArrayBuffer(8));
  values.set([1, 2]);
  await group.sum(values, "sequence");
  assertEquals([...values], [1, 2]);
  assertEquals(await group.gather("alone"), ["alone"]);
  assertEquals([group.rank, group.size, group.library], [0, 1, undefined]);
  await assertRejects(() => groupOfOne().abort(new UsageError("mine")), UsageError, "mine");
  await group.finish();
});

const LENGTHS = [1, 2, 3, 5, 1001, 70_003];

mpiTest("sums in order and gathered texts are the same bytes on all ranks", async (launcher) => {
  for (const ranks of full ? [1, 2, 3, 4] : [3]) {
    const { code, lines, err } = await runJob(launcher, ranks, [
      ...["exchange", "60"],
      ...LENGTHS.map(String),
    ]);
    assertEquals(code, 0, err);
    const reports = lines.map((line) => JSON.parse(line));
    assertEquals(
      reports.map(({ rank }) => rank).sort(),
      Array.from({ length: ranks }, (_, i) => i),
    );
    const expected = [];
    for (const order of ["sequence", "tree"] as const) {
      for (const length of LENGTHS) {
        const rows = Array.from({ length: ranks }, (_, rank) => rowOf(rank, length));
        addInOrder(rows, order);
        expected.push(await digest(rows[0]));
      }
    }
    const texts = await digest(Array.from({ length: ranks }, (_, rank) => textOf(rank)).join("|"));
    for (const report of reports) {
      assertEquals(report.sums, expected);
      assertEquals(report.texts, texts);
      assertEquals([report.size, report.hosts], [ranks, ranks]);
      const kind = launcher.name.endsWith("openmpi") ? /^Open MPI: / : /^MPICH: /;
      assertMatch(report.library, kind);
    }
  }
});

mpiTest("sums go on while the main thread is blocked", async (launcher) => {
  const { code, lines, err } = await runJob(launcher, 2, ["blocked"]);
  assertEquals(code, 0, err);
  assertEquals(lines.map((line) => JSON.parse(line).changed), [true, true]);
}, fullOnly);

mpiTest("a rank that fails ends all, with its code and one message", async (launcher) => {
  const { code, lines, err } = await runJob(launcher, 3, ["fail"]);
  assertEquals(code, 4, err);
  assertEquals(lines.filter((line) => line.startsWith("{")), []);
  const own = err.split("\n").filter((line) => line.startsWith("error:"));
  assertEquals(own.length, 1, err);
  assertMatch(own[0], /^error: rank 1 on \S+: nothing here$/);
  assertStringIncludes(err, "go on with: a command");
});

mpiTest("of several ranks that fail at once the lowest speaks", async (launcher) => {
  const { code, err } = await runJob(launcher, 3, ["all-fail"]);
  assertEquals(code, 130, err);
  const own = err.split("\n").filter((line) => line.startsWith("error:"));
  assertEquals(own.length, 1, err);
  assertMatch(own[0], /^error: rank 0 on \S+: everybody$/);
}, fullOnly);

mpiTest("a rank that does not come is named after the timeout", async (launcher) => {
  const { code, err } = await runJob(launcher, 3, ["late", "2"]);
  assertEquals(code, 1, err);
  assertMatch(
    err,
    /error: rank 1 on \S+ has sent nothing for 2 s \(--timeout\), says rank [02] on/,
  );
  assertStringIncludes(err, "go on with: a command");
}, fullOnly);

mpiTest("the first rank is waited for while it works alone, and no longer", async (launcher) => {
  const { code, lines, err } = await runJob(launcher, 3, ["alone", "1"]);
  assertEquals(code, 0, err);
  assertEquals(lines.length, 3);
  const again = await runJob(launcher, 2, ["alone", "1", "again"]);
  assertEquals(again.code, 1, again.err);
  assertStringIncludes(again.err, "has sent nothing for 1 s");
}, fullOnly);

mpiTest("a rank that is killed, or whose error nobody catches, ends all", async (launcher) => {
  for (const task of ["die", "throw"]) {
    const { code, lines, err } = await runJob(launcher, 2, [task]);
    assert(code !== 0, err);
    assertEquals(lines.filter((line) => line.startsWith("{")), []);
  }
}, fullOnly);

mpiTest("no library, or another launcher's, ends with 2 and says what to do", async (launcher) => {
  const none = await runJob(launcher, 2, ["exchange"], { TESSERA_MPI: "/nowhere/libmpi.so" });
  assertEquals(none.code, 2, none.err);
  assertStringIncludes(none.err, "no MPI library can be opened");
  assertStringIncludes(none.err, "apt-get install openmpi-bin, or mpich");
  const other = launcher.name.endsWith("openmpi") ? "libmpich.so.12" : "libmpi.so.40";
  const wrong = await runJob(launcher, 2, ["exchange"], { TESSERA_MPI: other });
  assertEquals(wrong.code, 2, wrong.err);
  assertStringIncludes(wrong.err, wrong.err.includes("opened") ? "opened" : "TESSERA_MPI=");
}, once(test, fullOnly));
