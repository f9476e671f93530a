/** Rows of metrics that are fetched an update later: every row has its own update's values. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { type Device, openDevice } from "../../../engine/mod.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { syntheticSource } from "../../../train/data/clip_source.ts";
import { MEASURED_FIELDS } from "../../../train/metrics/metrics_row.ts";
import { pretrain } from "../../../train/run/loop.ts";
import { Progress } from "../../../train/cli/progress.ts";
import { openRunDirectory } from "../../../train/run/run_directory.ts";
import { cropSamples } from "../../../train/run/schedule.ts";
import { full, test } from "../../support/tier.ts";

const WORDS = ["--batch", "2", "--crop-frames", "48", "--quiet", "--seed", "3"];

/** Rows of a run without times. */
async function rows(device: Device, ...words: string[]): Promise<Record<string, number>[]> {
  const dir = await Deno.makeTempDir();
  try {
    const config = resolveConfig([...WORDS, ...words, "--out", join(dir, "run")]);
    const paths = await openRunDirectory(config);
    using progress = new Progress({ quiet: true });
    const samples = cropSamples(config.geometry);
    const source = syntheticSource({ size: 64, seed: config.seed, samples });
    const { signal } = new AbortController();
    await pretrain({ device, config, paths, source, progress, signal });
    const text = await Deno.readTextFile(paths.metrics);
    return text.trim().split("\n").map((line) => {
      const row = JSON.parse(line);
      assert(row.samples_per_s > 0);
      assert(row.loader_wait >= 0 && row.loader_wait < row.seconds);
      assert(row.gpu_live_bytes > 0 && row.gpu_live_bytes <= row.gpu_peak_bytes);
      assert(row.process_bytes > 2 ** 20);
      for (const field of MEASURED_FIELDS) delete row[field];
      return row;
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("every rhythm of logging gives the rows of its own updates, taken at once or awaited", async () => {
  using atOnce = await openDevice({ fastReadback: true });
  using awaited = await openDevice({ fastReadback: false });
  const every = await rows(atOnce, "--steps", "7", "--log-every", "1");
  assertEquals(every.map(({ step }) => step), [1, 2, 3, 4, 5, 6, 7]);
  assert(new Set(every.map(({ loss }) => loss)).size > 5, "losses differ from update to update");
  const steps = (...wanted: number[]) => wanted.map((step) => every[step - 1]);
  // Between checkpoints, at one, and a last row that comes early.
  assertEquals(
    await rows(awaited, "--steps", "7", "--log-every", "3", "--save-every", "2"),
    steps(3, 6, 7),
  );
  if (!full) return;
  assertEquals(await rows(awaited, "--steps", "7", "--log-every", "1"), every);
  assertEquals(await rows(atOnce, "--steps", "7", "--log-every", "3"), steps(3, 6, 7));
  assertEquals(await rows(atOnce, "--steps", "7", "--log-every", "100"), steps(7));
});

test("a loss that is not finite ends the run with the first such step, logged or not", async () => {
  using device = await openDevice();
  // The second update divides by a norm of infinity.
  await assertRejects(
    () => rows(device, "--steps", "9", "--log-every", "6", "--lr", "1e30", "--warmup", "0"),
    Error,
    "the loss of step 2 is NaN",
  );
});
