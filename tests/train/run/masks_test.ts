/** Runs with each way to mask. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../../engine/mod.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { syntheticSource } from "../../../train/data/clip_source.ts";
import { MEASURED_FIELDS } from "../../../train/metrics/metrics_row.ts";
import { pretrain } from "../../../train/run/loop.ts";
import { Progress } from "../../../train/cli/progress.ts";
import { openRunDirectory, writeRunConfig } from "../../../train/run/run_directory.ts";
import { cropSamples } from "../../../train/run/schedule.ts";
import { SMALL } from "../../support/small_geometry.ts";
import { inTempDir } from "../../support/audio_files.ts";
import { full, fullOnly } from "../../support/tier.ts";

const WORDS = ["--batch", "4", "--micro-batch", "2", "--log-every", "1", "--warmup", "0"];

/** Rows of metrics without what is measured, and what was shown. */
async function run(
  out: string,
  words: readonly string[],
  signal = new AbortController().signal,
): Promise<{ rows: Record<string, number>[]; text: string }> {
  using device = await openDevice();
  const { geometry: { maskRatio }, ...rest } = resolveConfig([...words, "--out", out]);
  // 5 x 8 patches.
  const config = { ...rest, geometry: { ...SMALL, cropFrames: 128, maskRatio } };
  using paths = await openRunDirectory(config);
  await writeRunConfig(paths, config, device.info);
  let text = "";
  const output = { write: (it: string) => text += it, columns: () => undefined, now: () => 0 };
  using progress = new Progress({ output });
  const samples = cropSamples(config.geometry);
  const source = syntheticSource({ size: 8, seed: 1, samples });
  await pretrain({ device, config, paths, source, progress, signal });
  const rows = (await Deno.readTextFile(paths.metrics)).trim().split("\n").map((line) => {
    const row = JSON.parse(line);
    for (const field of MEASURED_FIELDS) delete row[field];
    return row;
  });
  return { rows, text };
}

const mean = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length;

Deno.test("every way to mask trains, replaying one recorded update", () =>
  inTempDir(async (dir) => {
    const first = new Set<number>();
    const ways: [string, string[]][] = [
      ["0.5", ["--mask", "random"]],
      ["0.7", ["--mask", "random"]],
      ["0.7", ["--mask", "structured"]],
      ["0.9", ["--mask", "structured"]],
      ["0.7", ["--mask", "time"]],
      ["0.7", ["--mask", "time", "--mask-run", "3"]],
    ];
    if (!full) ways.splice(0, 5);
    for (const [i, [ratio, mask]] of ways.entries()) {
      const words = [...WORDS, ...mask, "--mask-ratio", ratio, "--steps", "24", "--lr", "3e-3"];
      const { rows, text } = await run(join(dir, `${i}`), words);
      const losses = rows.map(({ loss }) => loss);
      assertEquals(losses.length, 24);
      assert(losses.every(Number.isFinite));
      assert(mean(losses.slice(-4)) < 0.95 * mean(losses.slice(0, 4)), `${mask}: ${losses}`);
      assertEquals(text.split("dispatches per update").length - 1, 1, "recorded once");
      first.add(losses[0]);
    }
    assertEquals(first.size, ways.length, "each way masks something else");
  }));

fullOnly("a resumed run goes on with the masks it would have had", () =>
  inTempDir(async (dir) => {
    const words = [...WORDS, "--mask", "structured", "--steps", "4"];
    const whole = await run(join(dir, "whole"), words);
    const part = join(dir, "part");
    await assertRejects(() => run(part, words, AbortSignal.abort()), Error, "after step 1");
    assertEquals((await run(part, ["--resume"])).rows, whole.rows);
  }));
