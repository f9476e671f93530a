/**
 * Runs the static checks and all tests, and ends with one line `N passed, N failed`.
 *
 * Each static check counts as one test, and so does each step of a test. Words given to the task go
 * to `deno test` (a path, `--filter TEXT`); the static checks are left out then. Exits 1 when
 * anything failed or nothing ran.
 */

const CHECKS: readonly (readonly string[])[] = [
  ["fmt", "--check", "--quiet"],
  ["lint", "--quiet"],
  ["check", "--quiet"],
  ["doc", "--lint", "--quiet", "engine/mod.ts", "model/mod.ts", "train/mod.ts"],
];

/** What tests may do: read, write temporary folders, start this very Deno, be told to say more. */
const PERMISSIONS: readonly string[] = [
  "--no-prompt",
  "--allow-read",
  "--allow-write",
  "--allow-env=TESSERA_VERBOSE",
  `--allow-run=${Deno.execPath()}`,
];

/** Counts of a JUnit report. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Adds up the suites of a JUnit report, the only format whose counts are not for eyes. */
export function countsOf(junit: string): Counts {
  let tests = 0, failed = 0, skipped = 0;
  for (const [tag] of junit.matchAll(/<testsuite\s[^>]*>/g)) {
    const number = (name: string): number =>
      Number(new RegExp(`\\s${name}="(\\d+)"`).exec(tag)?.[1] ?? 0);
    tests += number("tests");
    failed += number("failures") + number("errors");
    skipped += number("disabled") + number("skipped");
  }
  return { passed: tests - failed - skipped, failed, skipped };
}

async function deno(args: readonly string[]): Promise<boolean> {
  return (await new Deno.Command(Deno.execPath(), { args: [...args] }).spawn().status).success;
}

async function main(words: readonly string[]): Promise<number> {
  let passed = 0, failed = 0;
  if (words.length === 0) {
    for (const check of CHECKS) {
      console.log(`deno ${check.join(" ")}`);
      if (await deno(check)) passed++;
      else failed++;
    }
  }
  const report = await Deno.makeTempFile({ suffix: ".xml" });
  try {
    const paths = words.some((it) => !it.startsWith("-") && /[/.]/.test(it)) ? [] : ["tests/"];
    // Types were checked above, or are being worked on.
    const ok = await deno(
      ["test", "--no-check", ...PERMISSIONS, `--junit-path=${report}`, ...words, ...paths],
    );
    const counts = countsOf(await Deno.readTextFile(report));
    passed += counts.passed;
    failed += counts.failed;
    // A file that does not load fails the run without a failed test.
    if (!ok && counts.failed === 0) failed++;
    const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : "";
    console.log(`\n${passed} passed, ${failed} failed${skipped}`);
  } finally {
    await Deno.remove(report);
  }
  return failed === 0 && passed > 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
