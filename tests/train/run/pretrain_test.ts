/** Whole runs: what they leave, determinism, resuming, interruption, bad data, a lost device. */
import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { type Device, DeviceLostError, openDevice, OutOfMemoryError } from "../../../engine/mod.ts";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import { run as pretrainCommand } from "../../../train/commands/pretrain.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { syntheticClip } from "../../../train/data/synthetic.ts";
import { syntheticSource } from "../../../train/data/clip_source.ts";
import { DiskFullError, DivergedError, exitCodeOf } from "../../../train/errors.ts";
import { MEASURED_FIELDS } from "../../../train/metrics/metrics_row.ts";
import { pretrain } from "../../../train/run/loop.ts";
import { Progress } from "../../../train/cli/progress.ts";
import { openRunDirectory, writeRunConfig } from "../../../train/run/run_directory.ts";
import { cropSamples } from "../../../train/run/schedule.ts";
import { fullDisk } from "../../support/full_disk.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { fullOnly, test } from "../../support/tier.ts";

/** A run of a few seconds: the tiny preset on crops of two columns of patches. */
const QUICK = [
  "--batch",
  "2",
  "--crop-frames",
  "48",
  "--quiet",
  "--log-every",
  "1",
  "--adapter",
  "auto",
];

const command = (...argv: string[]) =>
  pretrainCommand([...QUICK, ...argv], new AbortController().signal);

/** Rows of metrics.jsonl without what is measured. */
async function metricsOf(out: string): Promise<Record<string, number>[]> {
  const text = await Deno.readTextFile(join(out, "metrics.jsonl"));
  return text.trim().split("\n").map((line) => {
    const row = JSON.parse(line);
    for (const field of MEASURED_FIELDS) delete row[field];
    return row;
  });
}

fullOnly(
  "two runs with one seed give the same metrics and checkpoint bytes; another seed does not",
  () =>
    inTempDir(async (dir) => {
      const checkpoint = (out: string) =>
        Deno.readFile(join(out, "checkpoints", "step-00000003.safetensors"));
      const [a, b, c] = ["a", "b", "c"].map((name) => join(dir, name));
      assertEquals(await command("--steps", "3", "--seed", "5", "--out", a), 0);
      assertEquals(await command("--steps", "3", "--seed", "5", "--out", b), 0);
      assertEquals(await command("--steps", "3", "--seed", "6", "--out", c), 0);
      assertEquals(await metricsOf(a), await metricsOf(b));
      assertNotEquals(await metricsOf(a), await metricsOf(c));
      const [first, second] = [
        readSafetensors(await checkpoint(a)),
        readSafetensors(await checkpoint(b)),
      ];
      for (const [name, tensor] of first.tensors) {
        assertEquals(second.tensors.get(name), tensor, name);
      }
      assertEquals(await checkpoint(a), await checkpoint(b));
    }),
);

test("a run leaves the directory of the interface", () =>
  inTempDir(async (dir) => {
    const out = join(dir, "run");
    assertEquals(await command("--steps", "2", "--out", out), 0);
    const rows = await metricsOf(out);
    assertEquals(rows.map(({ step, samples }) => [step, samples]), [[1, 2], [2, 4]]);
    assertEquals(Object.keys(rows[0]).sort(), [
      "distinct_targets",
      "ema_encoder",
      "ema_head",
      "epoch",
      "grad_norm",
      "loss",
      "loss_cls",
      "loss_pred",
      "lr",
      "prediction_std",
      "samples",
      "step",
      "target_perplexity",
      "target_std",
      "teacher_temp",
    ]);
    for (const row of rows) {
      for (const [key, value] of Object.entries(row)) assert(Number.isFinite(value), key);
    }
    assertEquals(
      (await Deno.readTextFile(join(out, "checkpoints", "latest"))).trim(),
      "step-00000002.safetensors",
    );
    const encoder = readSafetensors(await Deno.readFile(join(out, "encoder.safetensors")));
    assert(encoder.tensors.has("student_encoder.blocks.11.mlp.fc2.weight"));
    assert(encoder.tensors.has("pos_embed"));
    assert(![...encoder.tensors.keys()].some((name) => /decoder|head|_ema/.test(name)));
    const config = JSON.parse(await Deno.readTextFile(join(out, "config.json")));
    assertEquals([config.recipe, config.seed, config.batch], ["paper", 1337, 2]);
    assertEquals(await Deno.readTextFile(join(out, "skipped.jsonl")), "");
  }));

test("a resumed run goes on from its checkpoint", () =>
  inTempDir(async (dir) => {
    const [whole, parts] = [join(dir, "whole"), join(dir, "parts")];
    assertEquals(await command("--steps", "3", "--save-every", "2", "--out", whole), 0);
    const stop = new AbortController();
    stop.abort();
    // Aborted before it starts: one update, a checkpoint, and the interruption is reported.
    await assertRejects(
      () => pretrainCommand([...QUICK, "--steps", "3", "--out", parts], stop.signal),
      Error,
      "interrupted after step 1",
    );
    assertEquals(await command("--resume", "--out", parts), 0);
    assertEquals(await metricsOf(parts), await metricsOf(whole));
  }));

fullOnly(
  "a run that was killed before its first checkpoint starts again, from the weights it was given",
  () =>
    inTempDir(async (dir) => {
      const [first, whole, killed] = ["first", "whole", "killed"].map((name) => join(dir, name));
      assertEquals(await command("--steps", "1", "--out", first), 0);
      const init = join(first, "checkpoints", "step-00000001.safetensors");
      for (const out of [whole, killed]) {
        assertEquals(await command("--steps", "2", "--out", out, "--init", init), 0);
      }
      const finished = await Deno.readFile(join(killed, "encoder.safetensors"));
      await Deno.remove(join(killed, "checkpoints"), { recursive: true });
      await Deno.remove(join(killed, "encoder.safetensors"));
      assertEquals(await command("--resume", "--out", killed), 0);
      assertEquals(await metricsOf(killed), await metricsOf(whole));
      assertEquals(await Deno.readFile(join(killed, "encoder.safetensors")), finished);
      await assertRejects(
        () => command("--resume", "--out", killed, "--init", init),
        Error,
        "not together with --resume",
      );
    }),
);

fullOnly("weights of another run can be started from", () =>
  inTempDir(async (dir) => {
    const [first, second] = [join(dir, "first"), join(dir, "second")];
    const released = ["--steps", "1", "--recipe", "released"];
    assertEquals(await command(...released, "--out", first), 0);
    const checkpoint = join(first, "checkpoints", "step-00000001.safetensors");
    assertEquals(await command(...released, "--out", second, "--init", checkpoint), 0);
    const config = JSON.parse(await Deno.readTextFile(join(second, "config.json")));
    assertEquals(config.recipe, "released");
    await assertRejects(
      () =>
        command(
          "--steps",
          "1",
          "--out",
          join(dir, "third"),
          "--init",
          join(dir, "absent.safetensors"),
        ),
      Error,
      "--init",
    );
  }));

test("a folder of sounds: bad files are skipped, listed and counted", () =>
  inTempDir(async (dir) => {
    const data = join(dir, "sounds");
    await Deno.mkdir(join(data, "deep"), { recursive: true });
    for (let i = 0; i < 3; i++) {
      await Deno.writeFile(
        join(data, "deep", `${i}.wav`),
        wav(syntheticClip(1, i, 4000 * (i + 1)).waveform, 8000 * (i + 1)),
      );
    }
    await Deno.writeTextFile(join(data, "notes.wav"), "this is not audio");
    const out = join(dir, "run");
    assertEquals(await command("--data", data, "--steps", "3", "--out", out), 0);
    const skipped = (await Deno.readTextFile(join(out, "skipped.jsonl"))).trim().split("\n").map((
      line,
    ) => JSON.parse(line));
    assertEquals(skipped.length, 1);
    assertStringIncludes(skipped[0].path, "notes.wav");
    assert(skipped[0].reason.length > 10);
  }));

fullOnly("a folder with nothing usable exits 4", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "a.wav"), "RIFF");
    await Deno.writeTextFile(join(dir, "b.mp3"), "nothing");
    const error = await assertRejects(() =>
      command("--data", dir, "--steps", "2", "--out", join(dir, "run"))
    );
    assertEquals(exitCodeOf(error), 4);
    assertStringIncludes((error as Error).message, "2 files");
  }));

test("a folder that is not there exits 4 and leaves no run directory", () =>
  inTempDir(async (dir) => {
    const out = join(dir, "run");
    const error = await assertRejects(() => command("--data", join(dir, "absent"), "--out", out));
    assertEquals(exitCodeOf(error), 4);
    await assertRejects(() => Deno.stat(out), Deno.errors.NotFound);
  }));

/** A run on a device of the test's own; `onText` sees what is shown. */
async function runOn(
  device: Device,
  dir: string,
  words: string[],
  onText: (text: string) => void,
): Promise<void> {
  const config = resolveConfig([...words, "--out", join(dir, "run")]);
  let clock = 0;
  // Each look at the clock is a minute later, so that every update is shown.
  const output = { write: onText, columns: () => undefined, now: () => clock += 60_000 };
  using paths = await openRunDirectory(config);
  await writeRunConfig(paths, config, device.info);
  await pretrain({
    device,
    config,
    paths,
    source: syntheticSource({
      size: 1024,
      seed: config.seed,
      samples: cropSamples(config.geometry),
    }),
    progress: new Progress({ output }),
    signal: new AbortController().signal,
  });
}

const detailsOf = (error: unknown): string => (error as { details: string }).details;

fullOnly(
  "a lost device exits 5 and names the checkpoint to go on from",
  () =>
    inTempDir(async (dir) => {
      const device = await openDevice();
      const words = ["--batch", "2", "--crop-frames", "48", "--steps", "5", "--save-every", "1"];
      const error = await assertRejects(
        () => runOn(device, dir, words, (text) => /^step 2\//.test(text) && device.gpu.destroy()),
        DeviceLostError,
      );
      assertEquals(exitCodeOf(error), 5);
      assertStringIncludes(detailsOf(error), "the checkpoint of step 1 is safe");
      assertStringIncludes(detailsOf(error), `--resume --out ${join(dir, "run")}`);
      // It is: another device goes on from it.
      assertEquals(await command("--resume", "--out", join(dir, "run"), "--steps", "2"), 0);
    }),
);

fullOnly(
  "a loss that is not finite exits 1 with the op it comes from and the checkpoint before",
  () =>
    inTempDir(async (dir) => {
      const out = join(dir, "run");
      // The weights after the first update are so large that the second overflows.
      const words = ["--steps", "9", "--lr", "1e30", "--warmup", "0", "--save-every", "1"];
      const error = await assertRejects(() => command(...words, "--out", out), DivergedError);
      assertEquals(exitCodeOf(error), 1);
      assertStringIncludes(error.message, "the loss of step 2 is NaN");
      assertStringIncludes(detailsOf(error), "first seen in ");
      assertStringIncludes(detailsOf(error), "(forward)");
      assertStringIncludes(detailsOf(error), "the checkpoint of step 1 is safe: ");
      assertStringIncludes(detailsOf(error), `--resume --out ${out}`);
      assertEquals((await metricsOf(out)).map(({ step }) => step), [1]);
    }),
);

fullOnly(
  "a full disk ends the run with what to do; what was written is whole and is gone on from",
  () =>
    inTempDir(async (dir) => {
      const [out, whole] = [join(dir, "run"), join(dir, "whole")];
      const words = ["--steps", "5", "--save-every", "2"];
      {
        using _ = fullDisk((path) => path.includes("step-00000004"));
        const error = await assertRejects(() => command(...words, "--out", out), DiskFullError);
        assertEquals(exitCodeOf(error), 1);
        assertStringIncludes(error.message, "step-00000004.safetensors could not be written");
        assertStringIncludes(detailsOf(error), "the checkpoint of step 2 is safe");
        assertStringIncludes(detailsOf(error), "make room");
      }
      // Neither is a row of metrics or of TensorBoard's file lost that a checkpoint is behind.
      for (const name of ["metrics.jsonl", "events.out"]) {
        using _ = fullDisk((path) => path.includes(name));
        const error = await assertRejects(() => command("--resume", "--out", out), DiskFullError);
        assertEquals(exitCodeOf(error), 1);
        assertStringIncludes(detailsOf(error), "the checkpoint of step 2 is safe");
      }
      assertEquals(await command("--resume", "--out", out), 0);
      assertEquals(await command(...words, "--out", whole), 0);
      assertEquals(await metricsOf(out), await metricsOf(whole));
    }),
);

test("a run that needs too much memory exits 5 and says what lowers the need", () =>
  inTempDir(async (dir) => {
    // Enough for parameters, moments and teachers (128 MiB), not for the activations.
    using device = await openDevice({ memoryLimit: 140 * 2 ** 20 });
    const error = await assertRejects(
      () => runOn(device, dir, ["--batch", "4", "--steps", "2"], () => {}),
      OutOfMemoryError,
    );
    assertEquals(exitCodeOf(error), 5);
    assertStringIncludes((error as Error).message, "above the limit of 140.0 MiB");
    assertStringIncludes(detailsOf(error), "--micro-batch");
    assertStringIncludes(detailsOf(error), "--recompute");
  }));

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"] as const) {
  fullOnly(
    `${signal} writes a checkpoint, exits 130, and the run can be resumed`,
    () =>
      inTempDir(async (dir) => {
        const out = join(dir, "run");
        const main = fromFileUrl(new URL("../../../train/main.ts", import.meta.url));
        const args = [
          "run",
          "--no-check",
          "--no-prompt",
          "--allow-read",
          "--allow-write",
          main,
          "pretrain",
          "--batch",
          "2",
          "--crop-frames",
          "48",
        ];
        const child = new Deno.Command(Deno.execPath(), {
          args: [...args, "--steps", "100000", "--out", out],
          stdout: "piped",
          stderr: "piped",
        }).spawn();
        const errors = new Response(child.stderr).text();
        let seen = "";
        for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
          seen += text;
          if (/step +\d+\/100000/.test(seen)) {
            child.kill(signal);
            break;
          }
        }
        const { code } = await child.status;
        assertEquals(code, 130, await errors);
        assertStringIncludes(await errors, "--resume");
        const latest = (await Deno.readTextFile(join(out, "checkpoints", "latest"))).trim();
        const { metadata } = readSafetensors(await Deno.readFile(join(out, "checkpoints", latest)));
        const step = Number(metadata.step);
        assert(step >= 1);
        assertEquals(await command("--resume", "--out", out, "--steps", String(step + 1)), 0);
        assertEquals((await metricsOf(out)).length, step + 1);
      }),
  );
}

fullOnly(
  "what waits is ended some seconds after a signal and says what is lost",
  () =>
    inTempDir(async (dir) => {
      const script = join(dir, "waiting.ts");
      const main = new URL("../../../train/main.ts", import.meta.url).href;
      const work = new URL("../../../train/io/unfinished_work.ts", import.meta.url).href;
      const signals = new URL("../../../train/io/interruption.ts", import.meta.url).href;
      const config = fromFileUrl(new URL("../../../deno.json", import.meta.url));
      // The signal comes while the thread computes for 4 s, which count.
      await Deno.writeTextFile(
        script,
        `import { listen } from "${main}";
      import { unfinishedWork } from "${work}";
      import { watchSignals } from "${signals}";
      listen(new AbortController());
      watchSignals();
      unfinishedWork(() => "two updates are lost");
      setInterval(() => {}, 1000);
      setTimeout(() => {
        console.log("ready");
        for (const end = Date.now() + 4000; Date.now() < end;);
      }, 500);`,
      );
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--no-check", "--no-prompt", "--config", config, script],
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const errors = new Response(child.stderr).text();
      let sent = 0;
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        if (!/ready/.test(text)) continue;
        sent = performance.now();
        child.kill("SIGTERM");
      }
      assertEquals((await child.status).code, 130);
      assert(performance.now() - sent < 10_000);
      assertEquals(await errors, "error: interrupted; two updates are lost\n");
    }),
);

fullOnly(
  "a signal that comes twice at once counts as one; a second one ends the process",
  () =>
    inTempDir(async (dir) => {
      const script = join(dir, "busy.ts");
      const main = new URL("../../../train/main.ts", import.meta.url).href;
      const config = fromFileUrl(new URL("../../../deno.json", import.meta.url));
      await Deno.writeTextFile(
        script,
        `import { listen } from "${main}";
      const controller = new AbortController();
      controller.signal.onabort = () => {
        for (const end = Date.now() + 300; Date.now() < end;);
        console.log("busy");
        while (true);
      };
      listen(controller);
      setInterval(() => {}, 1000);
      console.log("ready");`,
      );
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--no-check", "--no-prompt", "--config", config, script],
        stdout: "piped",
      }).spawn();
      let seen = "";
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        seen += text;
        if (/ready/.test(text)) {
          // Ctrl-C comes from the terminal and once more from `deno task`.
          child.kill("SIGTERM");
          await new Promise((resolve) => setTimeout(resolve, 50));
          child.kill("SIGTERM");
        }
        // The process computes then and can run no listener.
        if (/busy/.test(text)) child.kill("SIGTERM");
      }
      assertEquals([seen, (await child.status).signal], ["ready\nbusy\n", "SIGTERM"]);
    }),
);

fullOnly(
  "a refused --resume leaves configuration and list as they were",
  () =>
    inTempDir(async (dir) => {
      const out = join(dir, "run");
      assertEquals(await command("--steps", "1", "--out", out), 0);
      const config = await Deno.readTextFile(join(out, "config.json"));
      const skipped = `{"path":"a.wav","reason":"broken"}\n${
        "\0".repeat(9)
      }\n{"path":"b.wav","reason":"x"}\n`;
      await Deno.writeTextFile(join(out, "skipped.jsonl"), skipped);
      const error = await assertRejects(
        () =>
          pretrainCommand(
            ["--resume", "--out", out, "--crop-frames", "64"],
            new AbortController().signal,
          ),
        Error,
        "does not fit this run",
      );
      assertEquals(exitCodeOf(error), 2);
      assertEquals(await Deno.readTextFile(join(out, "config.json")), config);
      assertEquals(await command("--resume", "--out", out, "--steps", "2"), 0);
      assertEquals(
        (await Deno.readTextFile(join(out, "skipped.jsonl"))).trimEnd().split("\n").map((it) =>
          JSON.parse(it).path
        ),
        ["a.wav", "b.wav"],
      );
      assert(await Deno.readTextFile(join(out, "config.json")) !== config);
    }),
);

fullOnly(
  "a run whose directory is removed ends with an error that says so",
  () =>
    inTempDir(async (dir) => {
      const out = join(dir, "run");
      const running = command("--steps", "1000", "--out", out);
      const removed = (async () => {
        while (
          !await Deno.stat(join(out, "metrics.jsonl")).then((it) => it.size > 0, () => false)
        ) {
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        await Deno.remove(out, { recursive: true });
      })();
      const error = await assertRejects(() => running, Error, "was removed or renamed");
      await removed;
      assertEquals(exitCodeOf(error), 1);
      assertEquals(await Deno.stat(out).catch(() => undefined), undefined);
    }),
);
