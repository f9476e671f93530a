/**
 * The engine and the encoder in Chromium, on its software adapter: ops against float64, golden
 * sets, recorded updates, and the page of the README. Skipped where there is no Chromium.
 */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { openDevice } from "../../engine/mod.ts";
import { loadEncoder, type WarmUpProgress } from "../../model/mod.ts";
import { encodeWav } from "../../train/audio/wav_write.ts";
import { bundle } from "../../train/bundle/bundle.ts";
import { Chromium, FileServer, findChromium } from "../support/browser.ts";
import { encoderFile } from "../support/golden_encoder.ts";
import { README } from "../support/markdown.ts";
import { composedOps, sampledOps } from "../support/samples.ts";
import { full } from "../support/tier.ts";
import type { OpsOutcome } from "./page/ops.ts";

const ROOT = fromFileUrl(new URL("../..", import.meta.url));

const program = findChromium();
if (full && !program) console.log("skipped: there is no Chromium (apt-get install chromium)");

const names = (folder: string): string[] =>
  [...Deno.readDirSync(join(ROOT, folder))].map(({ name }) => name).sort();

/** The page's module: its functions with the samples of all files. */
async function testModule(): Promise<string> {
  const tables = names("tests/samples").map((it) => join(ROOT, "tests/samples", it));
  const ops = names("engine/ops").map((it) => join(ROOT, "engine/ops", it));
  const text = [
    ...tables.map((it, i) => `import * as table${i} from "${it}";`),
    ...ops.map((it, i) => `import * as ops${i} from "${it}";`),
    `import { TESTS } from "${join(ROOT, "tests/browser/page/page.ts")}";`,
    // Ops register when their modules run: what uses all that they export keeps them.
    `globalThis.OPS = [${ops.map((_, i) => `ops${i}`)}];`,
    `const tables = [${tables.map((_, i) => `table${i}`)}];`,
    "globalThis.TESTS = { ...TESTS, ops: () => TESTS.ops(tables) };",
  ].join("\n");
  return (await bundle(join(ROOT, "tests/browser/tests.js"), { references: true, text })).code;
}

/** README's page, and the names of what lies beside it. */
async function readmePage(): Promise<string> {
  return /```html\n([\s\S]*?)```/.exec(await Deno.readTextFile(README))![1];
}

/** How long README's page may take; kernels of an encoder compile in a minute where all is slow. */
const README_MS = 300_000;

/** A second of a rising tone. */
const TONE = Float32Array.from({ length: 16_000 }, (_, i) => Math.sin(i * i * 1e-5) / 2);

Deno.test({
  name: "Chromium computes what Deno does",
  ignore: !full || !program,
  fn: async (t) => {
    const golden = (name: string) => Deno.readFileSync(join(ROOT, "tests/golden", name));
    const encoder = encoderFile();
    const files: Record<string, string | Uint8Array> = {
      "index.html": '<!DOCTYPE html><link rel="icon" href="data:,">' +
        '<script type="module" src="tests.js"></script>',
      "encoder.safetensors": encoder,
      "tone.f32": new Uint8Array(TONE.buffer),
      "dog.wav": encodeWav(TONE),
      "readme.html": '<!DOCTYPE html><link rel="icon" href="data:,">' + await readmePage(),
    };
    for (const name of ["vit_ops", "frontend", "matpac_step"]) {
      for (const ending of ["json", "safetensors"]) {
        files[`${name}.${ending}`] = golden(`${name}.${ending}`);
      }
    }
    files["tests.js"] = await testModule();
    files["model.js"] = (await bundle(join(ROOT, "train/bundle/model.ts"))).code;
    await using server = new FileServer(files);
    await using browser = await Chromium.start(program!);
    await browser.open(`${server.address}index.html`);

    await t.step("on the adapter that was asked for", async () => {
      const found = await browser.evaluate<Record<string, unknown>>("TESTS.adapter()");
      assert(found.software, JSON.stringify(found));
    });

    await t.step(
      "every op and composed function against float64; the latter captured, too",
      async () => {
        const { ops, compared, faults } = await browser.evaluate<OpsOutcome>("TESTS.ops()");
        assertEquals(faults, []);
        const composed = (await composedOps()).filter(({ samples }) => samples.length > 0);
        const sampled = [...await sampledOps(), ...composed].map(({ op }) => op.name);
        assertEquals([...ops].sort(), sampled.sort());
        // Some have no gradient, some several results.
        assert(compared > 1.5 * ops.length, `${compared} of ${ops.length} ops`);
      },
    );

    for (
      const [set, least] of [["vit_ops", 100], ["frontend", 10], ["matpac_step", 60]] as const
    ) {
      await t.step(`the golden set ${set}`, async () => {
        type Outcome = { checks: number; failed: unknown[] };
        const { checks, failed } = await browser.evaluate<Outcome>(`TESTS.${set}()`);
        assertEquals(failed, []);
        assert(checks >= least, `${checks} checks`);
      });
    }

    await t.step("an encoder's embedding is Deno's", async () => {
      using device = await openDevice();
      using here = await loadEncoder(device, encoder);
      const wanted = (await here.embed(TONE)).values;
      const call = 'TESTS.embed("encoder.safetensors", "tone.f32")';
      type Embedded = { values: number[]; progress: WarmUpProgress[]; compiledLater: number };
      const { values, progress, compiledLater } = await browser.evaluate<Embedded>(call);
      assertClose(values, wanted);
      // Each kernel was told of; the clip, shorter than what was prepared for, needs few more.
      const left = progress.map(({ kernelsLeft }) => kernelsLeft);
      assert(left.length > 10, left.join());
      assertEquals(left, [...Array.from(left.slice(1), (_, i) => left.length - 2 - i), 0]);
      assert(compiledLater < left.length / 2, `${compiledLater} of ${left.length}`);
    });

    await t.step("README's page", async () => {
      // Browsers differ in how they scale 16-bit samples.
      const wave = await browser.evaluate<number[]>(
        `fetch("dog.wav").then((it) => it.arrayBuffer())
            .then((it) => new OfflineAudioContext(1, 1, 16000).decodeAudioData(it))
            .then((it) => [...it.getChannelData(0)])`,
      );
      await browser.open(`${server.address}readme.html`);
      const text = await browser.evaluate<string>(
        `new Promise((done, fail) => {
            const end = performance.now() + ${README_MS};
            const look = () => document.body.textContent.trim() !== ""
              ? done(document.body.textContent)
              : performance.now() < end
              ? setTimeout(look, 100)
              : fail(new Error("README's page shows nothing: " + document.title));
            look();
          })`,
      );
      using device = await openDevice();
      using here = await loadEncoder(device, encoder);
      const wanted = (await here.embed(Float32Array.from(wave))).values;
      assertClose(text.split(" ").map(Number), wanted);
    });

    await t.step("without a complaint of the browser", () => {
      assertEquals(browser.complaints, []);
    });
  },
});

/** Within 1e-5 of the largest value: other compilers round sums in other places. */
function assertClose(actual: readonly number[], expected: ArrayLike<number>): void {
  assertEquals(actual.length, expected.length);
  const scale = Math.max(...Array.from(expected, Math.abs));
  const error = Math.max(...actual.map((value, i) => Math.abs(value - expected[i])));
  assert(error <= 1e-5 * scale, `${error} of ${scale}`);
}
