/** The test task: reading reports and naming what failed. */
import { assert, assertEquals } from "@std/assert";
import { hasFullTier, reportOf } from "./run.ts";

Deno.test("counts are added up over the suites of a report", () => {
  const report = '<testsuites tests="99" failures="9">\n' +
    '<testsuite name="a" tests="5" disabled="1" errors="1" failures="1"></testsuite>\n' +
    '<testsuite name="b" tests="2" disabled="0" errors="0" failures="0"/></testsuites>';
  assertEquals(reportOf(report), { passed: 4, failed: 2, skipped: 1, failures: [] });
  assertEquals(reportOf(""), { passed: 0, failed: 0, skipped: 0, failures: [] });
});

Deno.test("a failed test is named once, with its file, whatever failed of its steps", () => {
  const report =
    `<testsuite name="./tests/a_test.ts" tests="4" disabled="1" errors="0" failures="2">
  <testcase name="&quot;no&quot; &amp; &#39;yes&#39;" classname="./tests/support/tier.ts" line="2">
    <failure message="1 test step failed">1 test step failed.</failure>
  </testcase>
  <testcase name="fine" classname="./tests/a_test.ts" time="0.001" line="3" col="6"/>
  <testcase name="left out" classname="./tests/a_test.ts" time="0.000" line="4" col="6">
    <skipped/>
  </testcase>
  <testcase name="&quot;no&quot; &amp; &#39;yes&#39; &gt; inner" classname="./tests/a_test.ts">
    <failure message="Uncaught Error: no">Error: no</failure>
  </testcase>
</testsuite>`;
  assertEquals(reportOf(report), {
    passed: 1,
    failed: 2,
    skipped: 1,
    failures: [["tests/a_test.ts", `"no" & 'yes'`]],
  });
});

Deno.test("files that differ in the full tier are known by what they import", () => {
  assert(hasFullTier('import { full } from "../support/tier.ts";\nDeno.test("a", () => {});\n'));
  assert(hasFullTier('import {\n  full,\n  fullOnly,\n} from "./support/tier.ts";\n'));
  assert(!hasFullTier('import { test } from "../support/tier.ts";\ntest("a", () => {});\n'));
  assert(!hasFullTier("const text = 'import { full } from \"../support/tier.ts\";';\n"));
  // Nor does a helper ask in the place of a test.
  for (const folder of ["support", "support/fuzz", "samples"]) {
    for (const { name, isFile } of Deno.readDirSync(`tests/${folder}`)) {
      if (!isFile || name === "tier.ts") continue;
      const text = Deno.readTextFileSync(`tests/${folder}/${name}`);
      assert(!/from ".*tier\.ts"|"--full"/.test(text), `tests/${folder}/${name}`);
    }
  }
});
