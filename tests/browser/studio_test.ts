/** The page of `deno task studio` in Chromium: a click through each view, and a saved run. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Prng } from "../../engine/prng.ts";
import { fileDigest } from "../../train/downstream/probe/feature_cache.ts";
import { saveProbe } from "../../train/downstream/probe/probe_file.ts";
import { openStudio, type Studio } from "../../train/studio/server.ts";
import { Sounds, type SoundsOptions } from "../../train/studio/sounds.ts";
import { syntheticClip } from "../../train/data/synthetic.ts";
import { Chromium, findChromium } from "../support/browser.ts";
import { inTempDir, wav } from "../support/audio_files.ts";
import { encoderFile } from "../support/golden_encoder.ts";
import { htsatFile } from "../support/htsat_file.ts";
import { autoencoderFile } from "../support/small_autoencoder.ts";
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
      makeCollection(collection, 9_000);
      using sounds = new Sounds({
        ...{ folder: runs, collection, adapter: "auto", workers: 0, clips: 100 },
      });
      const studio = await openStudio({ folder: runs, sounds });
      try {
        await using browser = await Chromium.start(chromium!);
        // Charts of loss, its part, a score and the spread of targets, each when it is seen.
        const drawn = async (): Promise<void> => {
          for (let i = 0; i < 4; i++) {
            const card = `document.querySelectorAll(".curve")[${i}]`;
            await browser.until(card);
            await browser.evaluate(`${card}.scrollIntoView()`);
            await browser.until(`${card}.querySelector(".uplot canvas")`);
          }
          await browser.evaluate("scrollTo(0, 0)");
        };
        const named = async () => assertEquals(await browser.evaluate(NAMELESS), []);

        await browser.open(studio.address);
        await browser.until(`document.querySelectorAll(".run.on").length === 2`);
        await drawn();
        await browser.says("a looks collapsed: targets spread by 0.0010");
        await named();
        for (const words of ["Time", "log y", "log x", "Steps"]) await browser.click(words);
        await drawn();
        await browser.press(".curve", "+");
        await browser.click("Show all");
        await browser.says("0.1");
        for (
          const [tab, words] of [
            ["Evaluation", "75.0 % accuracy"],
            ["Skipped files", "no audio"],
            ["Go on", "deno task pretrain --resume --out"],
            ["Batch", "clips 1 to 4; the masks are the run's (random, 60 % hidden)"],
          ]
        ) {
          await browser.click(tab);
          await browser.says(words);
        }
        assertEquals(
          await browser.evaluate(`document.querySelectorAll(".clips canvas").length`),
          8,
        );
        // A row that is written now, and a run that comes.
        Deno.writeTextFileSync(join(runs, "a", "metrics.jsonl"), row(1000), { append: true });
        makeRun(join(runs, "c"), 0.3);
        await browser.says("0.009");
        await browser.until(`document.querySelectorAll(".run").length === 3`);
        await browser.click("Dark");
        assertEquals(await browser.evaluate("document.documentElement.dataset.theme"), "dark");
        await named();
        Deno.removeSync(join(runs, "b"), { recursive: true });
        await browser.says("b was removed while it was watched");

        await browser.click("Listen");
        await browser.says("Drop a sound here");
        await browser.choose('(await fetch("api/clip?n=3")).arrayBuffer()', "some.wav");
        await browser.says("computed by this server");
        await browser.until(`document.querySelector(".overlay")`);
        for (let i = 0; i < 5; i++) await browser.press(".spectrogram", "ArrowDown");
        await browser.until(`document.querySelector(".patch").style.bottom === "0%"`);
        await browser.press(".spectrogram", "ArrowUp");
        await browser.until(`document.querySelector(".patch").style.bottom === "20%"`);
        await browser.until(`document.querySelectorAll(".sounds li").length === 6`);
        assertStringIncludes(
          await browser.evaluate<string>(`document.querySelector(".sounds li").innerText`),
          "1.000",
        );
        await browser.click("Class token");
        await browser.says("Whom the class token attends to");
        await named();
        // The same by the page itself: the nearest clip is the sound.
        await browser.click("In this page");
        await browser.says("computed by this page (WebGPU");
        await browser.until(`document.querySelector(".overlay")`);
        await browser.until(`document.querySelectorAll(".sounds li").length === 6`);
        assertStringIncludes(
          await browser.evaluate<string>(`document.querySelector(".sounds li").innerText`),
          "1.000",
        );

        // The microphone, which beeps in this browser.
        await browser.click("By the server");
        await browser.click("Record");
        await browser.until(`document.querySelector("button[aria-pressed=true].main")`);
        await new Promise((resolve) => setTimeout(resolve, 1500));
        await browser.click("End recording");
        // All other sounds here are shorter than a second.
        await browser.until(`document.querySelector(".now strong")?.textContent ===
          "recording.wav" && /[1-9][\\d.]* s; computed by this server/.test(
          document.querySelector(".now").innerText)`);
        // Not silence: the beep is far above the noise. The picture may come after the words.
        const loud = `(() => {
          const { width, height } = document.querySelector(".spectrogram .raster");
          const copy = new OffscreenCanvas(width, height).getContext("2d",
            { willReadFrequently: true });
          copy.drawImage(document.querySelector(".spectrogram .raster"), 0, 0);
          const { data } = copy.getImageData(0, 0, width, height);
          return new Set(Array.from(data).filter((_, i) => i % 4 === 1)).size;
        })()`;
        await browser.until(`${loud} > 50`);

        await browser.click("Map");
        await browser.until(`document.querySelector(".points canvas")`);
        await browser.press(".points canvas", "ArrowRight");
        await browser.until(`document.querySelector(".tip")?.textContent.includes(".wav: ")`);
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
        await browser.says("Save 6 as list");
        await browser.click("Principal components");
        await browser.click("high");
        await named();
        assertEquals(browser.complaints, []);

        const saved = await (await fetch(`${studio.address}api/saved?run=a`)).text();
        const file = join(dir, "saved.html");
        Deno.writeTextFileSync(file, saved);
        await browser.open(`file://${file}`);
        await drawn();
        await browser.click("Evaluation");
        await browser.says("75.0 % accuracy");
        const text = await browser.evaluate<string>("document.body.innerText");
        assert(text.includes("saved 20") && !text.includes("Listen"), text);
        assertEquals(browser.complaints, []);
      } finally {
        await studio.close();
      }
    }),
});

const golden = (name: string) =>
  Deno.readFileSync(new URL(`../golden/compared/${name}`, import.meta.url));

/** A folder of six clips in two groups. */
function makeCollection(folder: string, samples = 48_000): void {
  for (const [i, label] of ["low", "low", "low", "high", "high", "high"].entries()) {
    Deno.mkdirSync(join(folder, label), { recursive: true });
    Deno.writeFileSync(join(folder, label, `${i}.wav`), wav(syntheticClip(1, i, samples).waveform));
  }
}

/** Opens a studio for a checkpoint at the view of a sound. */
async function listening(
  browser: Chromium,
  options: Partial<SoundsOptions>,
  body: (studio: Studio) => Promise<void>,
): Promise<void> {
  await inTempDir(async (folder) => {
    using sounds = new Sounds({ folder, adapter: "auto", workers: 0, clips: 100, ...options });
    const studio = await openStudio({ folder, sounds });
    try {
      await browser.open(`${studio.address}#listen`);
      await browser.says("Drop a sound here");
      await body(studio);
      assertEquals(browser.complaints.filter((it) => !/status of 4\d\d/.test(it)), []);
    } finally {
      browser.complaints.length = 0;
      await browser.open("about:blank");
      await studio.close();
    }
  });
}

/** A probe of random weights for an encoder's file. */
async function makeProbe(path: string, encoder: string, dim: number): Promise<void> {
  const random = new Prng(3);
  const normal = (length: number) => Float32Array.from({ length }, () => random.normal());
  await saveProbe(path, {
    classes: ["dog", "rain", "siren"],
    multiLabel: false,
    features: { pool: "mean" },
    checkpoint: await fileDigest(encoder),
    about: {},
    ...{ weight: normal(3 * dim), bias: normal(3) },
    statistics: { mean: normal(dim), std: normal(dim).map((it) => 0.5 + Math.abs(it)) },
  });
}

/** What the page asked the server to compute. */
const ASKED = `performance.getEntriesByType("resource").map(({ name }) => name)
  .filter((it) => /api\\/(listen|painted|attention|nearest)/.test(it))`;
const FIRST_CLIP = `fetch("api/clip?n=0").then((it) => it.arrayBuffer())`;
const textOf = (selector: string) =>
  `[...document.querySelectorAll("${selector}")].map((it) => it.innerText)`;

Deno.test({
  name: "studio: encoders of other systems, labels and reconstructions by page and server alike",
  ignore: !full || chromium === undefined,
  fn: () =>
    inTempDir(async (dir) => {
      const at = (name: string) => join(dir, name);
      makeCollection(at("clips"));
      Deno.writeFileSync(at("beats.pt"), golden("beats.pt"));
      Deno.writeFileSync(at("htsat.safetensors"), htsatFile());
      Deno.writeFileSync(at("msm-mae.safetensors"), await autoencoderFile());
      await makeProbe(at("probe"), at("beats.pt"), 32);
      const collection = at("clips");
      await using browser = await Chromium.start(chromium!);
      const both = async (look: () => Promise<void>): Promise<void> => {
        for (const [where, by] of [["In this page", "page (WebGPU"], ["By the server", "server"]]) {
          await browser.click(where);
          await browser.says(`computed by this ${by}`);
          await look();
          if (by !== "server") assertEquals(await browser.evaluate(ASKED), []);
        }
      };

      const beats = { checkpoint: at("beats.pt"), collection, probe: at("probe") };
      await listening(browser, beats, async () => {
        await browser.click("In this page");
        await browser.choose(FIRST_CLIP, "some.wav");
        const said: string[][] = [];
        await both(async () => {
          await browser.says("Kaldi filter bank, 128 bands from 20 to 8000 Hz");
          await browser.until(`document.querySelector(".overlay")`);
          await browser.says("Whom the patch at");
          await browser.until(`document.querySelectorAll(".sounds li").length === 6`);
          const [nearest] = await browser.evaluate<string[]>(textOf(".sounds li"));
          assertStringIncludes(nearest, "1.000");
          assertStringIncludes(
            await browser.evaluate<string>("document.body.innerText"),
            "Reconstruction: of BEATs the encoder alone is read",
          );
          said.push(await browser.evaluate<string[]>(textOf(".label-row")));
        });
        assertEquals(said[0].length, 3);
        assertEquals(said[0], said[1]);
      });
      await listening(browser, { checkpoint: at("htsat.safetensors"), collection }, async () => {
        await browser.click("In this page");
        await browser.choose(FIRST_CLIP, "some.wav");
        await both(async () => {
          await browser.says("Attention: none is shown of HTS-AT");
          await browser.until(`document.querySelectorAll(".sounds li").length === 6`);
          assertEquals(await browser.evaluate(`document.querySelector(".overlay")`), null);
        });
      });
      await listening(browser, { checkpoint: at("msm-mae.safetensors"), collection }, async () => {
        await browser.click("In this page");
        await browser.choose(FIRST_CLIP, "some.wav");
        const said: string[] = [];
        await both(async () => {
          await browser.says("60 % of the patches are hidden and painted");
          await browser.until(`document.querySelectorAll(".players audio").length === 3`);
          const [words] = /mean squared error [^\n]*/.exec(
            await browser.evaluate<string>("document.body.innerText"),
          )!;
          said.push(words);
        });
        assertEquals(said[0], said[1]);
      });
    }),
});

Deno.test({
  name: "studio: foreign and damaged files are said in the page, and a good one is taken after",
  ignore: !full || chromium === undefined,
  fn: () =>
    inTempDir(async (dir) => {
      makeCollection(join(dir, "clips"), 9_000);
      const collection = join(dir, "clips");
      const [checkpoint, good] = [join(dir, "model.pt"), golden("beats.pt")];
      const foreign = ["no checkpoint", good.slice(0, 100_000), golden("audio.safetensors")];
      await using browser = await Chromium.start(chromium!);
      const alert = `document.querySelector(".note.error")?.innerText ?? ""`;
      Deno.writeFileSync(checkpoint, good);
      await listening(browser, { checkpoint, collection }, async () => {
        for (const where of ["In this page", "By the server"]) {
          await browser.click(where);
          for (const bytes of foreign) {
            const file = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
            Deno.writeFileSync(checkpoint, file);
            await browser.choose(FIRST_CLIP, "some.wav");
            await browser.until(`${alert}.includes("model.pt")`);
            assertEquals(await browser.evaluate(`document.querySelector(".spectrogram")`), null);
            // As a file it may be of the same time and size as the one before.
            Deno.removeSync(checkpoint);
            Deno.writeFileSync(checkpoint, good);
            await browser.choose(FIRST_CLIP, "some.wav");
            await browser.until(`document.querySelectorAll(".sounds li").length === 6`);
            assertEquals(await browser.evaluate(alert), "");
            await browser.choose("new Uint8Array(999)", "broken.wav");
            await browser.until(`${alert}.includes("broken.wav: ")`);
          }
        }
        await browser.click("Map");
        await browser.until(`document.querySelector(".points canvas")`);
      });
      Deno.writeTextFileSync(checkpoint, "no checkpoint");
      await listening(browser, { checkpoint, collection }, async () => {
        await browser.click("Map");
        await browser.until(`${alert}.includes("model.pt")`);
        Deno.removeSync(checkpoint);
        Deno.writeFileSync(checkpoint, good);
        await browser.click("Try again");
        await browser.until(`document.querySelector(".points canvas")`);
      });
    }),
});

/**
 * What is wrong with a page as it is laid out: wider than the window, text that is cut off though
 * nothing tells the rest, marks of an axis over each other, text of little contrast (WCAG's 4.5,
 * what is switched off aside).
 */
const FAULTS = `(() => {
  const faults = [];
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) faults.push("wider than the window: " + root.scrollWidth);
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((it) =>
      it <= 10.31475 ? it / 255 / 12.92 : ((it / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const colourOf = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (let it = element; it; it = it.parentElement) {
      const colour = colourOf(getComputedStyle(it).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
    return [255, 255, 255];
  };
  for (const it of document.body.querySelectorAll("*")) {
    const text = [...it.childNodes].filter((node) => node.nodeType === 3)
      .map((node) => node.data.trim()).join("");
    const aside = ".unseen, option, .legend [aria-pressed=false]";
    if (text === "" || it.closest(aside) || !it.offsetParent) continue;
    const style = getComputedStyle(it);
    if (style.overflowX !== "visible" && it.scrollWidth > it.clientWidth + 1 && !it.title &&
      style.display !== "inline") faults.push("cut off: " + text);
    const [a, b] = [light(colourOf(style.color)), light(ground(it))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faults.push("contrast " + contrast.toFixed(2) + ": " + text);
  }
  for (const axis of [".hertz", ".seconds"]) {
    const marks = [...document.querySelectorAll(axis + " span")]
      .map((it) => [it.innerText, it.getBoundingClientRect()]);
    marks.forEach(([a, one], i) => marks.slice(i + 1).forEach(([b, other]) => {
      if (one.left < other.right && other.left < one.right && one.top < other.bottom - 2 &&
        other.top < one.bottom - 2) faults.push("over each other: " + a + ", " + b);
    }));
  }
  return faults;
})()`;

Deno.test({
  name: "studio: sounds and maps fit narrow and wide windows, light and dark",
  ignore: !full || chromium === undefined,
  fn: () =>
    inTempDir(async (dir) => {
      const at = (name: string) => join(dir, name);
      const collection = at("clips with a long name");
      makeCollection(collection);
      Deno.writeFileSync(at("passt.safetensors"), golden("passt_encoder.safetensors"));
      await makeProbe(at("probe"), at("passt.safetensors"), 32);
      await using browser = await Chromium.start(chromium!);
      const options = { checkpoint: at("passt.safetensors"), collection, probe: at("probe") };
      await listening(browser, options, async () => {
        await browser.choose(FIRST_CLIP, "a sound with a rather long name, recorded outside.wav");
        await browser.says("computed by this server");
        await browser.until(`document.querySelectorAll(".sounds li").length === 6`);
        for (const [view, ready] of [["Listen", ".overlay"], ["Map", ".points canvas"]]) {
          await browser.click(view);
          for (const width of [390, 1280, 2560]) {
            await browser.resize(width, 900);
            for (const theme of ["Light", "Dark"]) {
              await browser.click(theme);
              await browser.until(`document.querySelector("${ready}")`);
              await browser.evaluate("new Promise((done) => setTimeout(done, 100))");
              const faults = await browser.evaluate<string[]>(FAULTS);
              assertEquals(faults, [], `${view}, ${width} pixels, ${theme}`);
            }
          }
        }
      });
    }),
});
