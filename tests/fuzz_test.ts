/**
 * Damaged files of every format end in a value or in an error that a person may read, within a time
 * and a memory; and the fuzzer notices where they do not.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fuzz } from "./support/fuzz/fuzz.ts";
import { fuzzInput } from "./support/fuzz/mutate.ts";
import { FUZZ_TARGETS } from "./support/fuzz/targets.ts";
import { full, fullOnly, test } from "./support/tier.ts";
import { inTempDir } from "./support/audio_files.ts";

const INPUTS = full ? 2000 : 30;

for (const target of Object.keys(FUZZ_TARGETS)) {
  Deno.test(`fuzz: ${INPUTS} damaged inputs of ${target}`, async () => {
    const { tried, findings } = await fuzz({ target, seed: 1, inputs: INPUTS });
    assertEquals(findings, []);
    assertEquals(tried, INPUTS);
  });
}

test("fuzz: seed and number make the same input, others make others", () => {
  const corpus = { seeds: [new TextEncoder().encode("a good file, 12 bytes or more")] };
  const inputs = Array.from({ length: 200 }, (_, i) => fuzzInput(corpus, 5, i).toHex());
  assertEquals(inputs, Array.from({ length: 200 }, (_, i) => fuzzInput(corpus, 5, i).toHex()));
  assert(new Set(inputs).size > 150);
  assert(inputs.some((it, i) => it !== fuzzInput(corpus, 6, i).toHex()));
});

fullOnly(
  "fuzz: faults, waits, memory and messages are found, and what made them is kept",
  () =>
    inTempDir(async (folder) => {
      const targets = `${folder}/targets.ts`;
      Deno.writeTextFileSync(
        targets,
        `const seeds = [new Uint8Array(8)];
      const error = (name, message) => Object.assign(new Error(message), { name });
      const hoard = [];
      export const FUZZ_TARGETS = {
        fault: () => ({ seeds, read: (b) => { if (b.length > 8) b.nothing.there; } }),
        wait: () => ({ seeds, read: (b) => { if (b.length > 8) for (;;); } }),
        memory: () => ({
          seeds,
          read: () => {
            for (;;) hoard.push(new Uint8Array(1e6).fill(1));
          },
        }),
        long: () => ({ seeds, read: () => { throw error("NoDataError", "x\\n".repeat(1e5)); } }),
        good: () => ({ seeds, read: () => { throw error("NoDataError", "\\x1b[2J"); } }),
      };`,
      );
      const tried = (target: string) =>
        fuzz({
          ...{ targets: `file://${targets}`, target, seed: 3, inputs: 20, keep: `${folder}/kept` },
          ...{ inputSeconds: 1, memory: 2 ** 28 },
        });
      const { findings } = await tried("fault");
      assert(findings.length > 0);
      for (const { index, what, file } of findings) {
        assertStringIncludes(what, "TypeError");
        const corpus = { seeds: [new Uint8Array(8)] };
        assertEquals(Deno.readFileSync(file!), fuzzInput(corpus, 3, index));
      }
      const waits = (await fuzz({
        ...{ targets: `file://${targets}`, target: "wait", seed: 3, from: findings[0].index },
        ...{ inputs: 1, inputSeconds: 0.5 },
      })).findings;
      assertEquals(waits.map(({ index, what }) => [index, what]), [[
        findings[0].index,
        "more than 0.5 s",
      ]]);
      const { findings: [hoards] } = await fuzz({
        ...{ targets: `file://${targets}`, target: "memory", seed: 3, inputs: 1, memory: 2 ** 28 },
      });
      assertEquals(hoards?.what, "more than 256 MiB");
      assertEquals((await tried("good")).findings, []);
      const [long] = (await tried("long")).findings;
      assertEquals(long?.what, "a message of 200000 characters");
    }),
);
