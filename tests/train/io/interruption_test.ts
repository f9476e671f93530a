/** Signals that come while the script can hear none: during computation and first compiles. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { openDevice } from "../../../engine/device.ts";
import { mul } from "../../../engine/ops/elementwise.ts";
import { exp } from "../../../engine/ops/unary.ts";
import { KernelLine } from "../../../train/cli/kernel_line.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { writeEncoder } from "../../support/small_encoder.ts";
import { fullOnly, test } from "../../support/tier.ts";

const CONFIG = fromFileUrl(new URL("../../../deno.json", import.meta.url));
const MAIN = fromFileUrl(new URL("../../../train/main.ts", import.meta.url));

test("who watches kernels hears of each once, and ends the call by an error", async () => {
  using device = await openDevice();
  using x = device.tensor([0, 1, 2]);
  const heard: number[] = [];
  device.watchKernels((ready) => void heard.push(ready));
  assertEquals([...await mul(x, x).data()], [0, 1, 4]);
  assertEquals([...await mul(x, x).data()], [0, 1, 4]);
  assertEquals(heard, [1]);
  device.watchKernels(() => {
    throw new Error("no more");
  });
  assertThrows(() => exp(x), Error, "no more");
  device.watchKernels(undefined);
  assertAlmostEquals((await exp(x).data())[2], Math.exp(2), 1e-5);
});

test("a wait for kernels is said after three seconds, and goes when the script is free", async () => {
  const written: string[] = [];
  let time = 0;
  const output = { write: (it: string) => void written.push(it), columns: () => 14 };
  const line = new KernelLine({ ...output, now: () => time });
  line.update(1);
  time = 3500;
  line.update(2);
  assertEquals(written, ["\r\x1b[Kcompiling ker"]);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(written.length, 2);
  assertEquals(written[1], "\r\x1b[K");
  // The next wait is a new one.
  line.update(3);
  assertEquals(written.length, 2);
});

Deno.test({
  name: "a signal is known to a script that only computes; a second one ends it",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inTempDir(async (dir) => {
      const script = join(dir, "busy.ts");
      const module = new URL("../../../train/io/interruption.ts", import.meta.url).href;
      await Deno.writeTextFile(
        script,
        `import { isInterrupted, watchSignals } from "${module}";
        watchSignals();
        await new Promise((resolve) => setTimeout(resolve, 300));
        console.log("ready");
        while (!isInterrupted());
        for (const end = Date.now() + 400; Date.now() < end;);
        console.log("heard");
        while (true);`,
      );
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--no-check", "--no-prompt", "--config", CONFIG, script],
        stdout: "piped",
      }).spawn();
      let seen = "";
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        seen += text;
        child.kill("SIGTERM");
      }
      assertEquals([seen, (await child.status).signal], ["ready\nheard\n", "SIGTERM"]);
    }),
});

fullOnly(
  "a signal while kernels are compiled ends each command within 10 s",
  () =>
    inTempDir(async (dir) => {
      const checkpoint = join(dir, "encoder.safetensors");
      await writeEncoder(checkpoint, 1);
      await Deno.mkdir(join(dir, "set", "audio"), { recursive: true });
      const rows = ["filename,fold,category"];
      for (let i = 0; i < 10; i++) {
        const tone = Float32Array.from({ length: 32000 }, (_, t) => Math.sin(t * (i + 1) / 50));
        await Deno.writeFile(join(dir, "set", "audio", `${i}.wav`), wav(tone));
        rows.push(`${i}.wav,${1 + i % 5},${i % 2 ? "a" : "b"}`);
      }
      await Deno.writeTextFile(join(dir, "set", "meta.csv"), rows.join("\n"));
      const [set, clip] = [join(dir, "set"), join(dir, "set", "audio", "0.wav")];
      const given = ["--checkpoint", checkpoint];
      for (
        const [words, signal] of [
          [["pretrain", "--out", join(dir, "run")], "SIGINT"],
          [["pretrain", "--out", join(dir, "run"), "--resume"], "SIGHUP"],
          [["embed", ...given, set, "--out", join(dir, "e.npz")], "SIGTERM"],
          [["probe", ...given, "--dataset", set, "--cache", join(dir, "cache")], "SIGINT"],
          [["visualize", ...given, clip, "--out", join(dir, "v.html")], "SIGTERM"],
        ] as const
      ) {
        const child = new Deno.Command(Deno.execPath(), {
          args: ["run", "--no-check", "--no-prompt", "-RW", MAIN, ...words],
          env: { MESA_SHADER_CACHE_DIR: await Deno.makeTempDir({ dir }) },
          stdout: "piped",
          stderr: "piped",
        }).spawn();
        const errors = new Response(child.stderr).text();
        let [seen, sent] = ["", 0];
        for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
          seen += text;
          if (sent > 0 || !/compiling kernels/.test(seen)) continue;
          sent = performance.now();
          child.kill(signal);
        }
        const { code } = await child.status;
        const command = `${words[0]}, ${signal}: ${seen}${await errors}`;
        // Drivers that are quick, or keep what they compiled elsewhere, give no time for a signal.
        if (sent === 0 && code === 0) continue;
        assertEquals(code, 130, command);
        assert(performance.now() - sent < 10_000, command);
        assertStringIncludes(await errors, "error: interrupted");
      }
    }),
);
