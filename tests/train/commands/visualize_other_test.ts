/** `deno task visualize` with encoders of other systems. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { run } from "../../../train/commands/visualize.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { test } from "../../support/tier.ts";

test("visualize: an encoder of another system shows its path, at its rate", () =>
  inTempDir(async (dir) => {
    const encoder = fromFileUrl(
      new URL("../../golden/compared/passt_encoder.safetensors", import.meta.url),
    );
    const [sound, out] = [join(dir, "a.wav"), join(dir, "r.html")];
    await Deno.writeFile(sound, wav(Float32Array.from({ length: 8000 }, (_, n) => Math.sin(n))));
    const words = ["--checkpoint", encoder, sound, "--out", out, "--quiet"];
    const visualize = (...more: string[]) => run([...words, ...more], new AbortController().signal);
    assertEquals(await visualize(), 0);
    const page = await Deno.readTextFile(out);
    // Half a second has 11 windows every 50 ms.
    assert(page.includes("11 time steps of 0.05 s (32 values)"), page.slice(0, 3000));
    assert(page.includes("PaSST: width 32, 3 blocks, 4 heads"));
    const error = await assertRejects(
      () => visualize("--patch", "class"),
      Error,
      "--patch: is not",
    );
    assertEquals(exitCodeOf(error), 2);
  }));
