/** What becomes of an update when a signal comes in the middle of it. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { InterruptedError } from "../../../train/errors.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { syntheticSource } from "../../../train/data/clip_source.ts";
import { Progress } from "../../../train/cli/progress.ts";
import { pretrain } from "../../../train/run/loop.ts";
import { openRunDirectory, writeRunConfig } from "../../../train/run/run_directory.ts";
import { cropSamples } from "../../../train/run/schedule.ts";
import { UpdateWatch } from "../../../train/run/update_watch.ts";
import { inTempDir } from "../../support/audio_files.ts";
import { openDevice } from "../../support/device.ts";
import { fullOnly, test } from "../../support/tier.ts";

test("near its end an update is completed after a signal, else it is given up", async () => {
  let [time, heard] = [0, false];
  const { signal } = new AbortController();
  const watchOf = () => new UpdateWatch(signal, () => heard, () => time);
  const watch = watchOf();
  await watch.update(async () => {
    await Promise.resolve(watch.ask());
    time += 20_000;
  });
  // A signal 18.5 s into 20 s.
  await watch.update(async () => {
    time += 18_500;
    heard = true;
    await Promise.resolve();
    watch.ask();
    time += 1_900;
    watch.ask();
    // It takes longer than the one before.
    time += 200;
    assertThrows(watch.ask, InterruptedError);
  });
  // Of the first one nobody knows how long it takes.
  const first = watchOf();
  await assertRejects(() => first.update(() => Promise.resolve(first.ask())), InterruptedError);
  // While nothing is worked that could be given up, such as a checkpoint that is written.
  watch.ask();
  await assertRejects(() => watch.update(() => Promise.resolve(watch.ask())), InterruptedError);
  await assertRejects(() => watch.evaluation(() => Promise.resolve(watch.ask())), InterruptedError);
});

const device = await openDevice();

/** Trains; `onAsk` stands for who watches the work, and is asked before every dispatch. */
async function train(dir: string, words: readonly string[], onAsk?: () => void): Promise<void> {
  const config = resolveConfig([...words, "--out", dir, "--quiet"]);
  using paths = await openRunDirectory(config);
  if (!config.resume) await writeRunConfig(paths, config, device.info);
  const { watchWork } = device;
  if (onAsk) device.watchWork = (watch) => watchWork.call(device, watch && onAsk, 0);
  try {
    await pretrain({
      ...{ device, config, paths, progress: new Progress({ quiet: true }) },
      source: syntheticSource({ size: 64, seed: 1, samples: cropSamples(config.geometry) }),
      signal: new AbortController().signal,
    });
  } finally {
    device.watchWork = watchWork;
    device.watchWork(undefined);
  }
}

const RUN = ["--crop-frames", "48", "--steps", "3", "--save-every", "2", "--log-every", "1"];
const last = (dir: string) => Deno.readFile(join(dir, "checkpoints", "step-00000003.safetensors"));

for (
  const [name, shares, words] of [
    ["one pass", [0.5, 0.999], ["--batch", "2"]],
    ["three passes", [0.8], ["--batch", "6", "--micro-batch", "2"]],
    ["mixed precision", [0.95], ["--batch", "2", "--precision", "mixed"]],
  ] as const
) {
  fullOnly(
    `an update given up anywhere leaves what the run goes on from to the same bytes: ${name}`,
    () =>
      inTempDir(async (dir) => {
        const whole = join(dir, "whole");
        let asked = 0;
        await train(whole, [...RUN, ...words], () => void asked++);
        const wanted = await last(whole);
        // Kernels that run for the first time are waited for without a question, so that the first
        // update has fewer.
        const perUpdate = Math.round(asked / 3);
        assert(perUpdate > 500, `${asked} questions`);
        for (const share of shares) {
          const run = join(dir, `${share}`);
          let left = Math.round(perUpdate * (1 + share));
          await assertRejects(
            () =>
              train(run, [...RUN, ...words], () => {
                if (left-- === 0) throw new InterruptedError("interrupted");
              }),
            InterruptedError,
            "after step 1; the update under way was given up",
          );
          await train(run, ["--resume"]);
          assertEquals(await last(run), wanted, `${share}`);
        }
      }),
  );
}
