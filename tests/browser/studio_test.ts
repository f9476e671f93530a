/** The page of `deno task studio` in Chromium: a click through each view, and a saved run. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { openStudio } from "../../train/studio/server.ts";
import { Sounds } from "../../train/studio/sounds.ts";
import { syntheticClip } from "../../train/data/synthetic.ts";
import { Chromium, findChromium } from "../support/browser.ts";
import { inTempDir, wav } from "../support/audio_files.ts";
import { encoderFile } from "../support/golden_encoder.ts";
import { full } from "../support/tier.ts";

const row = (step: number) =>
  `${
    JSON.stringify({
      ...{ step, seconds: step, samples: 4 * step, samples_per_s: 4, loss: 9 / step },
      ...{ loss_pred: 1, target_std: 0.001, ...(step === 9 && { eval_accuracy: 0.75 }) },
    })
  }\n`;

function makeRun(dir: string, lr: number): void {
  Deno.mkdirSync(join(dir, "checkpoints"), { recursive: true });
  Deno.writeTextFileSync(
    join(dir, "metrics.jsonl"),
    Array.from({ length: 9 }, (_, i) => row(i + 1)).join(""),
  );
  Deno.writeTextFileSync(join(dir, "skipped.jsonl"), '{"path":"x.wav","reason":"no audio"}\n');
  Deno.writeTextFileSync(
    join(dir, "config.json"),
    JSON.stringify({
      ...{ objective: "matpac", preset: "tiny", length: { steps: 99 }, options: { lr, seed: 1 } },
      ...{ data: [], seed: 1, geometry: { maskRatio: 0.6 } },
    }),
  );
  Deno.writeFileSync(join(dir, "encoder.safetensors"), encoderFile());
  Deno.writeFileSync(join(dir, "checkpoints", "step-00000009.safetensors"), encoderFile());
}

/** Names of all that can be operated; empty ones are a fault. */
const NAMELESS = `[...document.querySelectorAll(
  "button, input, select, audio, canvas[role], svg[role], [role=application], [tabindex='0']")]
  .filter((it) => !(it.ariaLabel || it.textContent.trim() || it.placeholder ||
    it.closest("label")?.textContent.trim()))
  .map((it) => it.outerHTML.slice(0, 200))`;

const chromium = findChromium();
if (full && !chromium) console.log("skipped: there is no Chromium (apt-get install chromium)");

Deno.test({
  name: "studio: each view of the page in a browser, and a saved run",
  ignore: !full || chromium === undefined,
  fn: () =>
    inTempDir(async (dir) => {
      const [runs, collection] = [join(dir, "runs"), join(dir, "clips")];
      makeRun(join(runs, "a"), 0.1);
      makeRun(join(runs, "b"), 0.2);
      for (const [i, label] of ["low", "low", "low", "high", "high", "high"].entries()) {
        Deno.mkdirSync(join(collection, label), { recursive: true });
        const sound = wav(syntheticClip(1, i, 9_000).waveform);
        Deno.writeFileSync(join(collection, label, `${i}.wav`), sound);
      }
      using sounds = new Sounds({
        ...{ folder: runs, collection, adapter: "auto", workers: 0, clips: 100 },
      });
      const studio = await openStudio({ folder: runs, sounds });
      try {
        await using browser = await Chromium.start(chromium!);
        const until = async (expression: string): Promise<void> => {
          const end = performance.now() + 240_000;
          while (!await browser.evaluate<boolean>(`!!(${expression})`)) {
            const text = () => browser.evaluate<string>("document.body.innerText");
            if (performance.now() > end) throw new Error(`never ${expression}:\n${await text()}`);
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
        };
        const click = async (words: string): Promise<void> => {
          const button = `[...document.querySelectorAll("button, a, label")]
            .find((it) => it.textContent.trim() === ${JSON.stringify(words)})`;
          await until(button);
          await browser.evaluate(`${button}.click()`);
        };
        const says = (words: string) =>
          until(`document.body.innerText.includes(${JSON.stringify(words)})`);
        const key = (selector: string, name: string) =>
          browser.evaluate(`document.querySelector(${JSON.stringify(selector)}).dispatchEvent(
            new KeyboardEvent("keydown", { key: ${JSON.stringify(name)}, bubbles: true }))`);
        // Charts of loss, its part, a score and the spread of targets, each when it is seen.
        const drawn = async (): Promise<void> => {
          for (let i = 0; i < 4; i++) {
            const card = `document.querySelectorAll(".curve")[${i}]`;
            await until(card);
            await browser.evaluate(`${card}.scrollIntoView()`);
            await until(`${card}.querySelector(".uplot canvas")`);
          }
          await browser.evaluate("scrollTo(0, 0)");
        };
        const named = async () => assertEquals(await browser.evaluate(NAMELESS), []);

        await browser.open(studio.address);
        await until(`document.querySelectorAll(".run.on").length === 2`);
        await drawn();
        await says("a looks collapsed: targets spread by 0.0010");
        await named();
        for (const words of ["Time", "log y", "log x", "Steps"]) await click(words);
        await drawn();
        await key(".curve", "+");
        await click("Show all");
        await says("0.1");
        for (
          const [tab, words] of [
            ["Evaluation", "75.0 % accuracy"],
            ["Skipped files", "no audio"],
            ["Go on", "deno task pretrain --resume --out"],
            ["Batch", "clips 1 to 4; the masks are the run's (random, 60 % hidden)"],
          ]
        ) {
          await click(tab);
          await says(words);
        }
        assertEquals(
          await browser.evaluate(`document.querySelectorAll(".clips canvas").length`),
          8,
        );
        // A row that is written now, and a run that comes.
        Deno.writeTextFileSync(join(runs, "a", "metrics.jsonl"), row(1000), { append: true });
        makeRun(join(runs, "c"), 0.3);
        await says("0.009");
        await until(`document.querySelectorAll(".run").length === 3`);
        await click("Dark");
        assertEquals(await browser.evaluate("document.documentElement.dataset.theme"), "dark");
        await named();
        Deno.removeSync(join(runs, "b"), { recursive: true });
        await says("b was removed while it was watched");

        await click("Listen");
        await says("Drop a sound here");
        await browser.evaluate(`(async () => {
          const bytes = await (await fetch("api/clip?n=3")).arrayBuffer();
          const data = new DataTransfer();
          data.items.add(new File([bytes], "some.wav"));
          const input = document.querySelector("input[type=file]");
          input.files = data.files;
          input.dispatchEvent(new Event("change", { bubbles: true }));
        })()`);
        await says("computed by this server");
        await until(`document.querySelector(".overlay")`);
        for (let i = 0; i < 5; i++) await key(".spectrogram", "ArrowDown");
        await until(`document.querySelector(".patch").style.bottom === "0%"`);
        await key(".spectrogram", "ArrowUp");
        await until(`document.querySelector(".patch").style.bottom === "20%"`);
        await until(`document.querySelectorAll(".sounds li").length === 6`);
        assertStringIncludes(
          await browser.evaluate<string>(`document.querySelector(".sounds li").innerText`),
          "1.000",
        );
        await click("Class token");
        await says("Whom the class token attends to");
        await named();
        // The same by the page itself: the nearest clip is the sound.
        await click("In this page");
        await says("computed by this page (WebGPU");
        await until(`document.querySelector(".overlay")`);
        await until(`document.querySelectorAll(".sounds li").length === 6`);
        assertStringIncludes(
          await browser.evaluate<string>(`document.querySelector(".sounds li").innerText`),
          "1.000",
        );

        await click("Map");
        await until(`document.querySelector(".points canvas")`);
        await key(".points canvas", "ArrowRight");
        await until(`document.querySelector(".tip")?.textContent.includes(".wav: ")`);
        // Around everything.
        await browser.evaluate(`(() => {
          const canvas = document.querySelector(".points canvas");
          const { left, top, width, height } = canvas.getBoundingClientRect();
          canvas.setPointerCapture = () => {};
          const at = (type, x, y) => canvas.dispatchEvent(new PointerEvent(type, { bubbles: true,
            clientX: left + x * width, clientY: top + y * height, buttons: 1 }));
          const corners = [[0, 0], [1, 0], [1, 1], [0, 1]];
          at("pointerdown", 0, 0);
          return corners.reduce((before, [x, y]) => before.then(() => {
            at("pointermove", x, y);
            return new Promise(requestAnimationFrame);
          }), Promise.resolve()).then(() => at("pointerup", 0, 0.5));
        })()`);
        await says("Save 6 as list");
        await click("Principal components");
        await click("high");
        await named();
        assertEquals(browser.complaints, []);

        const saved = await (await fetch(`${studio.address}api/saved?run=a`)).text();
        const file = join(dir, "saved.html");
        Deno.writeTextFileSync(file, saved);
        await browser.open(`file://${file}`);
        await drawn();
        await click("Evaluation");
        await says("75.0 % accuracy");
        const text = await browser.evaluate<string>("document.body.innerText");
        assert(text.includes("saved 20") && !text.includes("Listen"), text);
        assertEquals(browser.complaints, []);
      } finally {
        await studio.close();
      }
    }),
});
