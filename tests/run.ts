/**
 * Runs the static checks and the tests, several files at once, and ends with one line
 * `N passed, N failed` (and `, N skipped`). What fails is shown whole, with the command that runs
 * it alone. Each static check counts as one test, and so does each step of a test.
 *
 * `--full` runs the full tier, otherwise the quick one runs (tests/README.md, Tiers). With
 * `--beyond-quick` the full tier leaves out what would repeat the quick one: the static checks,
 * files that have no tests of their own in it, and calls of `test` of support/tier.ts. Further
 * words go to `deno test`: a path, `--filter TEXT`; the static checks are left out then and one
 * process runs everything. `--dawn` runs the op suite on npm's webgpu instead of Deno's own WebGPU.
 * Exits 1 when anything failed or nothing ran.
 */
const CHECKS: readonly (readonly string[])[] = [
  ["check", "--quiet"],
  ["doc", "--lint", "--quiet", "engine/mod.ts", "model/mod.ts", "train/mod.ts"],
  ["lint", "--quiet"],
  ["fmt", "--check", "--quiet"],
];

/**
 * What tests may do: read, write temporary folders, start this very Deno, be told to say more, and
 * serve this machine alone.
 */
const PERMISSIONS: readonly string[] = [
  "--no-prompt",
  "--allow-read",
  "--allow-write",
  "--allow-env=TESSERA_VERBOSE",
  "--allow-net=127.0.0.1",
  `--allow-run=${Deno.execPath()}`,
];

/** What some files and folders may besides. */
const FURTHER: Readonly<Record<string, string>> = {
  // Jobs of several ranks.
  "tests/train/cluster/": "--allow-run=mpirun.openmpi,mpirun.mpich",
  // npm's webgpu is a native library.
  "tests/engine/webgpu_test.ts": "--allow-ffi",
  // What is exported computes in torch.
  "tests/train/commands/huggingface_test.ts": "--allow-run=/usr/bin/python3",
  // A shell starts the browser, and clears away behind it.
  "tests/browser/": "--allow-run=/bin/sh",
};

/** Files that take long, longest first: they start first, so that no core waits for them. */
const LONGEST: readonly string[] = [
  "tests/engine/ops_test.ts",
  "tests/browser/browser_test.ts",
  "tests/engine/gemm_variants_test.ts",
  "tests/engine/attention_variants_test.ts",
  "tests/engine/webgpu_test.ts",
  "tests/train/cluster/training_test.ts",
  "tests/train/cluster/pretrain_mpi_test.ts",
  "tests/engine/gemm_test.ts",
  "tests/train/run/mixed_test.ts",
  "tests/train/run/pretrain_test.ts",
];
/** Files that measure in the full tier; nothing else runs beside them. */
const ALONE: readonly string[] = ["tests/bench/check_test.ts"];
const FULL = "--full";
const BEYOND_QUICK = "--beyond-quick";
/** Runs the op suite on npm's webgpu. */
const DAWN = "--dawn";
const OPS = "tests/engine/ops_test.ts";
/** With I/N behind it: that part of the suite. */
const PART = "--part=";
/** Processes of that suite: Deno gets slower with each object of native code that it has seen. */
const DAWN_PARTS = { quick: 25, full: 200 };
/** Words that go to the test files. */
const TIERS: readonly string[] = [FULL, BEYOND_QUICK, DAWN];
/** Files of one process; each start of Deno takes a third of a second. */
const FILES_AT_ONCE = 5;
const PROCESSES = Math.min(navigator.hardwareConcurrency, 8);

/** Counts of a JUnit report, and what failed. */
export interface Report {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Files and names of failed tests, each once however many of its steps failed. */
  readonly failures: readonly (readonly [file: string, name: string])[];
}

const unescaped = (text: string): string =>
  text.replace(
    /&(quot|lt|gt|amp|apos|#(\d+));/g,
    (_, name, code) =>
      code
        ? String.fromCodePoint(Number(code))
        : { quot: '"', lt: "<", gt: ">", amp: "&", apos: "'" }[
          name as "quot"
        ]!,
  );

/** Reads a JUnit report, the only format of `deno test` that is not for eyes. */
export function reportOf(junit: string): Report {
  let tests = 0, failed = 0, skipped = 0, file = "";
  const failures = new Map<string, [string, string]>();
  const suites = /<testsuite name="([^"]*)"[^>]*>/;
  const failedCases = /<testcase name="([^"]*)"[^>]*[^/]>\s*<(?:failure|error)/;
  const either = new RegExp(`${suites.source}|${failedCases.source}`, "g");
  for (const [tag, suite, name] of junit.matchAll(either)) {
    if (suite === undefined) {
      // Its class is where `Deno.test` is called, which for `fullOnly` is not the file of the
      // test. A step is named behind its test.
      const [test] = unescaped(name).split(" > ");
      failures.set(`${file}\n${test}`, [file, test]);
      continue;
    }
    const number = (name: string): number =>
      Number(new RegExp(`\\s${name}="(\\d+)"`).exec(tag)?.[1] ?? 0);
    file = unescaped(suite).replace(/^\.\//, "");
    tests += number("tests");
    failed += number("failures") + number("errors");
    skipped += number("disabled") + number("skipped");
  }
  return { passed: tests - failed - skipped, failed, skipped, failures: [...failures.values()] };
}

/** Test files below a folder, by name. */
function testFiles(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    return isDirectory ? testFiles(path) : name.endsWith("_test.ts") ? [path] : [];
  }).sort();
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** `word` as a shell reads it back. */
const quoted = (word: string): string =>
  /^[\w./-]+$/.test(word) ? word : `"${word.replace(/["\\$`]/g, "\\$&")}"`;

/** What `deno test` takes for the file of tests where all are declared by its functions. */
const DECLARING = "tests/support/tier.ts";

class Results {
  passed = 0;
  failed = 0;
  skipped = 0;
  /** Commands that run what failed. */
  readonly commands: string[] = [];

  /**
   * @param words what `deno test` was given: files, which stand in the place of one that only
   * declares tests for others
   */
  add(
    { passed, failed, skipped, failures }: Report,
    tier: readonly string[],
    words: readonly string[],
  ): void {
    this.passed += passed;
    this.failed += failed;
    this.skipped += skipped;
    for (const [file, name] of failures) {
      const full = tier.filter((word) => word !== BEYOND_QUICK);
      const files = file === DECLARING ? words : [file];
      this.fail(["deno", "task", "test", ...full, ...files, "--filter", name]);
    }
  }

  fail(command: readonly string[]): void {
    this.commands.push(command.map(quoted).join(" "));
  }
}

interface Outcome {
  readonly ok: boolean;
  /** What it wrote, unless that went to the terminal. */
  readonly output: string;
}

async function deno(args: readonly string[], show: boolean): Promise<Outcome> {
  const stream = show ? "inherit" : "piped";
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    stdin: "null",
    stdout: stream,
    stderr: stream,
  }).spawn();
  if (show) return { ok: (await child.status).success, output: "" };
  const { success, stdout, stderr } = await child.output();
  const texts = [stdout, stderr].map((it) => new TextDecoder().decode(it));
  return { ok: success, output: texts.join("").trim() };
}

/** Runs test files in one process and adds what came of it. */
async function test(
  words: readonly string[],
  tier: readonly string[],
  results: Results,
  show: boolean,
): Promise<Outcome> {
  const report = await Deno.makeTempFile({ suffix: ".xml" });
  try {
    // Types are checked beside the tests, or are being worked on.
    const permissions = new Set([
      ...PERMISSIONS,
      ...tier.includes(DAWN) ? ["--allow-ffi"] : [],
      ...Object.entries(FURTHER)
        .filter(([path]) => words.some((it) => path.startsWith(it) || it.startsWith(path)))
        .map(([, permission]) => permission),
    ]);
    const args = ["test", "--no-check", ...permissions, `--junit-path=${report}`, ...words];
    const outcome = await deno([...args, "--", ...tier], show);
    const counts = reportOf(await Deno.readTextFile(report));
    results.add(counts, tier, words.filter(exists));
    if (!outcome.ok && counts.failed === 0) {
      // A file that does not load, or a process that died, leaves no failed test.
      results.failed++;
      results.fail(["deno", "task", "test", ...tier, ...words]);
    }
    return outcome;
  } finally {
    await Deno.remove(report);
  }
}

async function check(command: readonly string[], results: Results): Promise<Outcome> {
  const outcome = await deno(command, false);
  if (outcome.ok) results.passed++;
  else {
    results.failed++;
    results.fail(["deno", ...command]);
  }
  return outcome;
}

/** Whether the tests of a file, by its text, are others in the full tier. */
export function hasFullTier(text: string): boolean {
  const imported = /^(?:import|\}).* from "(?:\.{1,2}\/)+support\/tier\.ts";$/m.exec(text);
  // `test` alone declares what is the same in both.
  return imported !== null && !imported[0].startsWith("import { test }");
}

/** The static checks and all test files, as many processes at once as there are cores. */
async function everything(tier: readonly string[], results: Results): Promise<void> {
  const beyondQuick = tier.includes(BEYOND_QUICK);
  const files = testFiles("tests")
    .filter((file) => !beyondQuick || hasFullTier(Deno.readTextFileSync(file)));
  const long = LONGEST.filter((file) => files.includes(file));
  const alone = tier.includes(FULL) ? ALONE : [];
  const short = files.filter((file) => !long.includes(file) && !alone.includes(file));
  const batches = long.map((file) => [file]);
  while (short.length > 0) batches.push(short.splice(0, FILES_AT_ONCE));

  const testJob = (batch: readonly string[]) => ({
    name: batch.join(" "),
    run: () => test(batch, tier, results, false),
  });
  const jobs = [
    ...(beyondQuick ? [] : CHECKS).map((command) => ({
      name: `deno ${command.join(" ")}`,
      run: () => check(command, results),
    })),
    ...batches.map(testJob),
  ].values();
  const work = async (queue: Iterable<{ name: string; run: () => Promise<Outcome> }>) => {
    for (const { name, run } of queue) {
      const start = performance.now();
      const { ok, output } = await run();
      const seconds = ((performance.now() - start) / 1000).toFixed(0);
      console.log(ok ? `ok ${name} (${seconds} s)` : `${output}\nFAILED ${name} (${seconds} s)`);
    }
  };
  await Promise.all(Array.from({ length: PROCESSES }, () => work(jobs)));
  await work(alone.map((file) => testJob([file])));
}

async function main(all: readonly string[]): Promise<number> {
  const isTier = (word: string) => TIERS.includes(word) || word.startsWith(PART);
  const words = all.filter((word) => !isTier(word));
  const tier = all.filter(isTier);
  if (tier.join() === BEYOND_QUICK) {
    console.error(`${BEYOND_QUICK} says what ${FULL} is to leave out: give both`);
    return 1;
  }
  const results = new Results();
  if (tier.includes(DAWN) && words.length === 0) {
    const parts = DAWN_PARTS[tier.includes(FULL) ? "full" : "quick"];
    for (let part = 0; part < parts; part++) {
      await test([OPS], [...tier, `${PART}${part}/${parts}`], results, true);
    }
  } else if (words.length === 0) await everything(tier, results);
  else {
    const path = words.some(exists) ? [] : ["tests/"];
    await test([...words, ...path], tier, results, true);
  }
  const { passed, failed, skipped, commands } = results;
  if (commands.length > 0) {
    console.log(`\nRun alone what failed:\n${commands.map((it) => `  ${it}`).join("\n")}`);
  }
  console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
