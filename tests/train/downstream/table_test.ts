/** `deno task table`: cells, what is published, what is missing, and that nothing is done twice. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { Prng } from "../../../engine/prng.ts";
import { run } from "../../../train/commands/table.ts";
import { spread } from "../../../train/downstream/table/options.ts";
import { publishedOf, setOf } from "../../../train/downstream/table/published.ts";
import { scoresCsv, type Table } from "../../../train/downstream/table/report.ts";
import type { TableRow } from "../../../train/downstream/table/results.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { writeEncoder } from "../../support/small_encoder.ts";
import { test } from "../../support/tier.ts";

const PASST = fromFileUrl(
  new URL("../../golden/compared/passt_encoder.safetensors", import.meta.url),
);

/** Tones of two pitches in two folds. */
async function writeFolder(dir: string): Promise<void> {
  await Deno.mkdir(join(dir, "audio"), { recursive: true });
  const random = new Prng(3);
  const lines = ["filename,fold,label"];
  for (let i = 0; i < 12; i++) {
    const samples = Float32Array.from(
      { length: 6000 },
      (_, n) => random.uniform(0.2, 0.4) * Math.sin((i % 2 === 0 ? 0.1 : 0.9) * n),
    );
    await Deno.writeFile(join(dir, "audio", `${i}.wav`), wav(samples));
    lines.push(`${i}.wav,${1 + (i >> 1) % 2},${i % 2 === 0 ? "low" : "high"}`);
  }
  await Deno.writeTextFile(join(dir, "meta.csv"), `${lines.join("\n")}\n`);
}

/** What a call of the command returns and prints. */
async function called(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const [log, error] = [console.log, console.error];
  const lines = { out: "", err: "" };
  console.log = (text: string) => lines.out += `${text}\n`;
  console.error = (text: string) => lines.err += `${text}\n`;
  try {
    return { code: await run(words, new AbortController().signal), ...lines };
  } finally {
    [console.log, console.error] = [log, error];
  }
}

test("table: every encoder on every folder, and nothing twice", () =>
  inTempDir(async (dir) => {
    const [tones, encoder, broken, out] = ["tones", "own.safetensors", "bad.safetensors", "out"]
      .map((it) => join(dir, it));
    await writeFolder(tones);
    await writeEncoder(encoder, 5);
    const more = ["--repeats", "2", "--epochs", "20", "--lr", "1e-2", "--workers", "0"];
    const words = ["--datasets", tones, "--out", out, "--standardise", "yes", ...more];
    const first = await called("--checkpoints", encoder, PASST, ...words);
    assertEquals(first.code, 0, first.err);
    const { rows, missing } = JSON.parse(await Deno.readTextFile(join(out, "table.json")));
    const cells = rows.map((it: Record<string, unknown>) => [it.encoder, it.variant, it.dim]);
    assertEquals(cells, [
      ["own.safetensors", "", 320],
      ["mean log-mel", "", 80],
      ["mean and sd of log-mel", "", 160],
      ["passt_encoder.safetensors", "6-s pieces", 32],
      ["passt_encoder.safetensors", "whole clips", 32],
    ]);
    assertEquals(missing, []);
    const [own] = rows;
    assertEquals([own.dataset, own.protocol, own.metric], ["tones", "matpac", "accuracy"]);
    assertEquals([own.repeats.length, own.folds, own.clips], [2, 2, 12]);
    assert(own.mean > 0.7 && own.knn > 0.7, `${own.mean}, neighbours ${own.knn}`);
    // Clips below 6 s are one piece.
    assertAlmostEquals(rows[3].mean, rows[4].mean, 1e-12);
    // Random encoders of other sizes are none that was published.
    assertEquals(rows.some((it: Record<string, unknown>) => it.published), false);
    const page = await Deno.readTextFile(join(out, "table.html"));
    assert(page.includes("passt_encoder.safetensors, 6-s pieces") && page.includes('class="bar"'));
    const text = await Deno.readTextFile(join(out, "table.md"));
    assert(/^\| own\.safetensors +\| +\d+\.\d ± \d+\.\d \|/m.test(text), text);
    const scores = await Deno.readTextFile(join(out, "scores.csv"));
    assertEquals(scores.split("\n").length, 2 + rows.length);
    assertEquals(scores.split("\n")[0], "representation,task,score,run_id,report");

    // A file that is no encoder is named, the others are there.
    await Deno.writeTextFile(broken, "no encoder");
    const second = await called("--checkpoints", encoder, broken, "--checkpoints", PASST, ...words);
    assertEquals(second.code, 1);
    assertEquals(second.out.match(/is there/g)?.length, 3, second.out);
    assert(/- bad\.safetensors on tones: /.test(second.out), second.out);
    assertEquals(await Deno.readTextFile(join(out, "scores.csv")), scores);
  }));

test("published scores by encoder, set and protocol", () => {
  assertEquals(publishedOf("passt", "esc50", "matpac").map((it) => it.value), [97]);
  const [first, second] = publishedOf("atst-clip", "esc50", "evar");
  assertEquals([first.value, second.value], [94.1, 91.4]);
  const [dagger] = publishedOf("atst-frame", "nsynth", "matpac");
  assertEquals([dagger.value, dagger.note !== undefined], [75.9, true]);
  assertEquals(publishedOf("beats-iter3", "surge", "matpac").map((it) => it.value), [39.3]);
  assertEquals(publishedOf("htsat", "esc50", "hear"), []);
  assertEquals(publishedOf(undefined, "esc50", "matpac"), []);
  assertEquals(setOf("ESC-50-master-labelled", 50)?.name, "esc50");
  assertEquals(setOf("ESC-50-master-labelled", 10), undefined);
  assertEquals(setOf("speech_commands_v0.02-labelled", 35)?.name, "spcv2");
});

test("several values behind one name, and scores that accumulate", () => {
  assertEquals(
    spread(["--checkpoints", "a", "b", "--out", "c", "--datasets", "d", "e", "--quiet"]),
    [
      ...["--checkpoints", "a", "--checkpoints", "b", "--out", "c"],
      ...["--datasets", "d", "--datasets", "e", "--quiet"],
    ],
  );
  const row: TableRow = {
    ...{ encoder: 'a,"b"', variant: "", dataset: "s", protocol: "matpac", metric: "mAP" },
    ...{ dim: 1, repeats: [], folds: 1, clips: 2, skipped: 0, mean: 0.5, ci95: null },
    checkpoint: { path: "p", sha256: "0123456789" },
  };
  const table: Table = {
    ...{ command: "", protocol: "matpac", encoders: [], sets: [], missing: [] },
    rows: [row],
  };
  const once = scoresCsv(table, undefined);
  assertEquals(scoresCsv(table, once), once);
  const more = scoresCsv({ ...table, rows: [{ ...row, mean: 0.75 }] }, once);
  assertEquals(more.split("\n").length, 4);
  assert(more.startsWith(once));
});
