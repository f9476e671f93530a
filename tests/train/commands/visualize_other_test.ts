/** `deno task visualize` with encoders of other systems. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { run } from "../../../train/commands/visualize.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { test } from "../../support/tier.ts";

test("visualize: an encoder of another system shows attention and path, at its rate", () =>
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
    // Two queries in three blocks of four heads.
    assertEquals(page.match(/layer \d, head \d: largest weight/g)?.length, 24);
    assert(page.includes("Softmax weights of the patch at"), page.slice(0, 3000));
    const refused = async (option: string, value: string, message: string, ...more: string[]) => {
      const error = await assertRejects(() => visualize(option, value, ...more), Error, message);
      assertEquals(exitCodeOf(error), 2);
    };
    await refused("--wav", join(dir, "b.wav"), "--wav: is not");
    await refused("--patch", "999", "the chunk has patches 0 to");
    await refused("--patch", "3,1000", "the chunk is 0.00 to 0.");
    await refused("--patch", "0.2,17000", "0 to 16000 Hz");
    await refused("--start", "0.25", "the chunk is 0.25 to", "--patch", "0.1,400");
    await refused("--layer", "4", "the encoder has 3");
    // A place is a patch of the map's own numbers, which point back to it.
    assertEquals(await visualize("--patch", "0.2,400", "--layer", "2", "--head", "3"), 0);
    const place = /Attention of the patch at ([\d.]+) to ([\d.]+) s, bands (\d+) to (\d+)</
      .exec(await Deno.readTextFile(out))!;
    assert(Number(place[1]) <= 0.2 && 0.2 < Number(place[2]), place[0]);
  }));
