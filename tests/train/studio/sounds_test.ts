/** Answers of the studio about sounds: what they hold, and what is refused. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import type { MapAnswer, SoundAnswer } from "../../../train/studio/api.ts";
import { openDevice } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { resample } from "../../../model/frontend/resample.ts";
import { loadPretrained } from "../../../model/pretrained/load.ts";
import { fileDigest } from "../../../train/downstream/probe/feature_cache.ts";
import { saveProbe } from "../../../train/downstream/probe/probe_file.ts";
import { binaryMask, drawMask } from "../../../model/objectives/masking.ts";
import { STREAMS } from "../../../train/run/loop.ts";
import { confined, masksOf } from "../../../train/studio/batch.ts";
import { bodyOf, type RequestError } from "../../../train/studio/guard.ts";
import { MODEL_KEY } from "../../../train/studio/page/client.ts";
import { cosine } from "../../../train/studio/collection.ts";
import { isInside } from "../../../train/studio/confined.ts";
import { openStudio, type Studio } from "../../../train/studio/server.ts";
import { Sounds, type SoundsOptions } from "../../../train/studio/sounds.ts";
import { syntheticClip } from "../../../train/data/synthetic.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { encoderFile } from "../../support/golden_encoder.ts";
import { htsatFile } from "../../support/htsat_file.ts";
import { fullOnly } from "../../support/tier.ts";

/**
 * A folder with an encoder, labelled sounds and an empty folder of runs, and a studio for it, of
 * the encoder in `file`.
 */
async function serving(
  body: (studio: Studio, dir: string) => Promise<void>,
  file: Uint8Array = encoderFile(),
  options: (checkpoint: string, dir: string) => Promise<Partial<SoundsOptions>> = () =>
    Promise.resolve({}),
): Promise<void> {
  await inTempDir(async (dir) => {
    const [runs, collection] = [join(dir, "runs"), join(dir, "clips")];
    const checkpoint = join(dir, "encoder.safetensors");
    Deno.mkdirSync(runs);
    Deno.writeFileSync(checkpoint, file);
    for (const [i, label] of ["low", "low", "low", "high", "high", "high"].entries()) {
      Deno.mkdirSync(join(collection, label), { recursive: true });
      const sound = wav(syntheticClip(1, i, 9_000).waveform);
      Deno.writeFileSync(join(collection, label, `${i}.wav`), sound);
    }
    Deno.writeTextFileSync(join(collection, "low", "broken.wav"), "no audio");
    Deno.writeTextFileSync(join(dir, "secret.wav"), "SECRET");
    Deno.symlinkSync(join(dir, "secret.wav"), join(collection, "link.wav"));
    using sounds = new Sounds({
      ...{ folder: runs, collection, checkpoint, adapter: "auto", workers: 0, clips: 100 },
      ...await options(checkpoint, dir),
    });
    const studio = await openStudio({ folder: runs, sounds });
    try {
      await body(studio, dir);
    } finally {
      await studio.close();
    }
  });
}

async function json<Value>(studio: Studio, path: string, init?: RequestInit): Promise<Value> {
  const answer = await fetch(studio.address + path, init);
  const value = await answer.json();
  assertEquals(answer.status, 200, JSON.stringify(value));
  return value;
}

Deno.test("studio: a sound, its attention and its neighbours; the map; faults are said", () =>
  serving(async (studio, dir) => {
    assertEquals(await json(studio, "api/models"), [
      { id: "", title: join(dir, "encoder.safetensors") },
    ]);
    // The fourth clip of the collection, as it is there.
    const body = Deno.readFileSync(join(dir, "clips", "high", "3.wav"));
    const sound = await json<SoundAnswer>(studio, "api/listen", { method: "POST", body });
    const { rows, columns, classToken } = sound.chunk!;
    assertEquals([rows, columns, classToken], [5, 3, true]);
    assertEquals([sound.spectrogram.rows, sound.spectrogram.columns], [80, 54]);
    assertStringIncludes(sound.by, "this server (");
    assertEquals([sound.paints, sound.labels, sound.path?.points.length], [false, null, 4]);
    const bytes = Uint8Array.fromBase64(sound.spectrogram.bytes);
    assertEquals(bytes.length, 80 * 54);
    for (const patch of ["class", "7"]) {
      const it = await json<{ layers: number; heads: number; tokens: number; weights: string }>(
        studio,
        `api/attention?id=${sound.id}&patch=${patch}`,
      );
      assertEquals([it.layers, it.heads, it.tokens], [3, 2, 16]);
      const weights = new Float32Array(Uint8Array.fromBase64(it.weights).buffer);
      for (let i = 0; i < 6; i++) {
        const sum = weights.subarray(16 * i, 16 * (i + 1)).reduce((a, b) => a + b, 0);
        // Sums of 16 weights in f32.
        assertAlmostEquals(sum, 1, 1e-5);
      }
    }
    const { clips } = await json<
      { clips: { name: string; labels: string[]; similarity: number }[] }
    >(
      studio,
      `api/nearest?id=${sound.id}`,
    );
    assertEquals([clips.length, clips[0].name, clips[0].labels], [6, "high/3.wav", ["high"]]);
    // The same sound by the same weights.
    assertAlmostEquals(clips[0].similarity, 1, 1e-5);
    let map = await json<MapAnswer>(studio, "api/map");
    while (map.state === "busy") {
      await new Promise((resolve) => setTimeout(resolve, 50));
      map = await json<MapAnswer>(studio, "api/map");
    }
    if (map.state !== "ready") throw new Error(JSON.stringify(map));
    assertEquals([map.clips.length, map.components.length, map.neighbours?.length], [6, 6, 6]);
    assertEquals(map.skipped.map(({ path }) => path.split("/").at(-1)), ["broken.wav"]);

    const clip = await fetch(`${studio.address}api/clip?n=${map.clips[0].n}`);
    const part = await fetch(`${studio.address}api/clip?n=${map.clips[0].n}`, {
      headers: { range: "bytes=4-7" },
    });
    const whole = await clip.bytes();
    assertEquals(clip.headers.get("content-type"), "audio/wav");
    assertEquals([part.status, await part.bytes()], [206, whole.slice(4, 8)]);
    const none = await fetch(`${studio.address}api/clip?n=${map.clips[0].n}`, {
      headers: { range: "bytes=7-4" },
    });
    assertEquals([none.status, await none.bytes()], [200, whole]);
    for (let n = 0; n < 9; n++) {
      const text = await (await fetch(`${studio.address}api/clip?n=${n}`)).text();
      assert(!text.includes("SECRET"));
    }
    const faults: [string, number, string, RequestInit?][] = [
      ["api/listen", 415, "", { method: "POST", body: "no audio" }],
      ["api/listen", 405, "a sound is to be sent"],
      ["api/map", 405, "nothing can be changed", { method: "POST" }],
      ["api/listen?model=gone", 404, "not there any more", { method: "POST", body }],
      [`api/attention?id=${sound.id}&patch=15`, 400, "patch: must be 0 to 14 or class"],
      [`api/attention?id=${sound.id}&patch=x`, 400, "patch: must be a whole number"],
      ["api/attention?id=none&patch=0", 404, "not kept any more"],
      [`api/painted?id=${sound.id}&seed=0`, 409, "MATPAC predicts latent values"],
      ["api/clip?n=99", 404, "no such clip"],
      ["api/clip?n=..%2f..", 400, "n: must be a whole number"],
      ["api/batch?run=none", 404, "not there any more"],
    ];
    for (const [path, status, words, init] of faults) {
      const answer = await fetch(studio.address + path, init);
      const text = await answer.text();
      assertEquals(answer.status, status, `${path}: ${text}`);
      assertStringIncludes(text, words);
    }
    // What the page embeds itself says by which model: its key is that of the encoder's file.
    const encoder = await fetch(`${studio.address}api/encoder?model=`);
    const key = encoder.headers.get(MODEL_KEY)!;
    assertEquals(await encoder.bytes(), encoderFile());
    const same = await fetch(`${studio.address}api/encoder?model=&key=${encodeURIComponent(key)}`);
    assertEquals([same.status, same.headers.get(MODEL_KEY)], [204, key]);
    const near = (body: BodyInit, by = key) =>
      fetch(`${studio.address}api/near?model=&key=${encodeURIComponent(by)}`, {
        method: "POST",
        body,
      });
    const wrong = await near(new Float32Array(3));
    assertStringIncludes((await wrong.json()).error, "the embedding has 3 values");
    const other = await near(new Float32Array(3), "another");
    assertEquals(other.status, 409);
    assertStringIncludes((await other.json()).error, "choose the sound again");
    // A foreign file in the model's place is said, and a good one is taken again.
    Deno.writeTextFileSync(join(dir, "encoder.safetensors"), "no checkpoint");
    const foreign = await fetch(`${studio.address}api/listen`, { method: "POST", body });
    assertEquals(foreign.status, 400);
    assertStringIncludes((await foreign.json()).error, "encoder.safetensors");
    Deno.writeFileSync(join(dir, "encoder.safetensors"), encoderFile());
    await json(studio, "api/listen", { method: "POST", body });
    // Embeddings of two models are not held against each other.
    const old = await fetch(`${studio.address}api/nearest?id=${sound.id}`);
    assertEquals(old.status, 409);
    assertStringIncludes((await old.json()).error, "choose the sound again");
  }));

Deno.test("studio: what does not say how long it is is read up to a limit", async () => {
  let read = 0;
  const endless = () =>
    new ReadableStream<Uint8Array>({
      pull(controller) {
        read += 1 << 16;
        controller.enqueue(new Uint8Array(1 << 16));
      },
    }, { highWaterMark: 0 });
  const post = (body: BodyInit) => new Request("http://x/", { method: "POST", body });
  const error = await assertRejects(() => bodyOf(post(endless()), 1 << 20, "the sound"));
  assertStringIncludes((error as Error).message, "the sound is above 1 MB");
  assertEquals((error as RequestError).status, 413);
  // One part is above the limit, and perhaps one more is on its way.
  assert(read <= (1 << 20) + 3 * (1 << 16), `${read} bytes`);
  assertEquals(await bodyOf(post(Uint8Array.of(1, 2, 3)), 3, "it"), Uint8Array.of(1, 2, 3));
  assertEquals(await bodyOf(new Request("http://x/"), 3, "it"), new Uint8Array());
});

Deno.test("studio: the masks of a batch are those that the run has drawn", () => {
  const grid = { rows: 5, columns: 7 };
  for (const kind of ["random", "structured", "time"] as const) {
    for (const masksPerClip of [1, 2]) {
      const masking = kind === "time" ? { kind, run: 2 } : { kind };
      // As the run draws them: two passes of three clips.
      const random = new Prng(9, STREAMS.masks);
      const uniform = () => random.uniform();
      const wanted = [0, 1].flatMap(() => {
        const hidden = binaryMask(drawMask(masking, uniform, 3 * masksPerClip, grid, 0.6));
        return [0, 1, 2].map((clip) => hidden.slice(35 * masksPerClip * clip).subarray(0, 35));
      });
      const config = { masking, masksPerClip, geometry: { maskRatio: 0.6 } };
      const masks = masksOf(config, 9, grid);
      assertEquals(wanted.map(() => binaryMask(masks.next().value)), wanted, kind);
    }
  }
});

Deno.test("studio: a file is inside a folder if it really is", () =>
  inTempDir(async (dir) => {
    Deno.mkdirSync(join(dir, "a"));
    Deno.mkdirSync(join(dir, "ab"));
    Deno.writeTextFileSync(join(dir, "ab", "x"), "");
    Deno.symlinkSync(join(dir, "ab", "x"), join(dir, "a", "x"));
    assertEquals(isInside(join(dir, "a"), join(dir, "ab", "x")), false);
    assertEquals(isInside(join(dir, "a"), join(dir, "a", "x")), false);
    assertEquals(isInside(dir, join(dir, "a", "x")), true);
    assertEquals(isInside(dir, join(dir, "a", "..", "..")), false);
    assertEquals(isInside(dir, join(dir, "none")), false);
    // A run's data may lead out of a folder by a manifest or a link: that is passed over unread.
    const clip = { kind: "waveform", values: new Float32Array(3) } as const;
    const link = join(dir, "a", "x");
    const files = {
      ...{ size: 1, name: "files", skipped: [], describe: () => link },
      crop: () => Promise.resolve(clip),
    };
    const [own, other] = ["ab", "a"].map((it) => confined(files, [join(dir, it)]));
    const place = { frames: 3, position: 0 };
    assertEquals([await own.crop(0, place), await other.crop(0, place)], [clip, undefined]);
    assertEquals([own, other].map(({ skipped }) => skipped.map(({ path }) => path)), [[], [link]]);
    assertEquals(
      [cosine([1, 0], [0, 2]), cosine([1, 1], [2, 2]), cosine([0], [1])].map((it) =>
        Math.round(1e9 * it) / 1e9
      ),
      [0, 1, 0],
    );
  }));

/** The systems of the reference sets, with what is shown of them. */
const SYSTEMS: readonly {
  readonly file: string;
  readonly rate: number;
  readonly bands: number;
  readonly frontend: string;
  readonly hz: number;
  readonly attention?: { readonly rows: number; readonly own: number };
}[] = [
  {
    ...{ file: "beats.pt", rate: 16_000, bands: 128, hz: 4000 },
    ...{ frontend: "Kaldi filter bank", attention: { rows: 8, own: 0 } },
  },
  {
    ...{ file: "mae_ast_patch.pt", rate: 16_000, bands: 128, hz: 4000 },
    ...{ frontend: "Kaldi filter bank", attention: { rows: 8, own: 0 } },
  },
  {
    ...{ file: "atst_clip_encoder.safetensors", rate: 16_000, bands: 64, hz: 4000 },
    ...{ frontend: "64 HTK bands", attention: { rows: 1, own: 1 } },
  },
  {
    ...{ file: "passt_encoder.safetensors", rate: 32_000, bands: 128, hz: 8000 },
    ...{ frontend: "up to 15 kHz", attention: { rows: 12, own: 2 } },
  },
  {
    ...{ file: "htsat", rate: 32_000, bands: 64, hz: 8000 },
    frontend: "mel decibels by the file's own transform",
  },
];

fullOnly("studio: encoders of other systems through their own front ends and rates", async (t) => {
  for (const { file, rate, bands, frontend, hz, attention } of SYSTEMS) {
    const bytes = file === "htsat"
      ? htsatFile()
      : Deno.readFileSync(new URL(`../../golden/compared/${file}`, import.meta.url));
    using device = await openDevice();
    using encoder = await loadPretrained(device, bytes);
    const dim = encoder.embeddingSize();
    const random = new Prng(5);
    const normal = (length: number) => Float32Array.from({ length }, () => random.normal());
    const [weight, bias] = [normal(2 * dim), normal(2)];
    const probe = async (checkpoint: string, dir: string) => {
      await saveProbe(join(dir, "probe"), {
        ...{ classes: ["a", "b"], multiLabel: true, features: { pool: "mean" as const } },
        ...{ checkpoint: await fileDigest(checkpoint), about: {}, weight, bias },
      });
      return { probe: join(dir, "probe") };
    };
    await t.step(file, () =>
      serving(
        async (studio, dir) => {
          const path = join(dir, "clips", "high", "3.wav");
          // A second and a half of 16 kHz.
          const wave = syntheticClip(1, 7, 24_000).waveform;
          Deno.writeFileSync(path, wav(wave));
          const body = Deno.readFileSync(path);
          const sound = await json<SoundAnswer>(studio, "api/listen", { method: "POST", body });
          assertEquals([sound.length, sound.spectrogram.rows], [1.5, bands]);
          assertStringIncludes(sound.frontend, frontend);
          assertStringIncludes(sound.model, encoder.info.title);
          // Frequencies go up, and the highest that is marked is the highest that there can be.
          const shares = sound.hertz.map(([, share]) => share);
          assertEquals(shares, shares.toSorted((a, b) => a - b));
          assertEquals([sound.hertz.at(-1)![0], new Set(shares).size], [hz, shares.length]);
          assert(sound.lacking.some((it) => it.startsWith("Reconstruction: of ")));
          const painted = await fetch(`${studio.address}api/painted?id=${sound.id}&seed=0`);
          assertEquals(painted.status, 409);
          await painted.body?.cancel();

          // The sound among the collection is the sound itself.
          const { clips } = await json<{ clips: { name: string; similarity: number }[] }>(
            studio,
            `api/nearest?id=${sound.id}`,
          );
          assertEquals(clips[0].name, "high/3.wav");
          assertAlmostEquals(clips[0].similarity, 1, 1e-5);

          // The probe on windows of a second, every half.
          const { labels } = sound;
          assertEquals([labels!.window, [...labels!.times]], [1, [0.5, 1]]);
          // As the file's 16 bits have it.
          const rounded = wave.map((it) => Math.round(it * 32767) / 32768);
          const whole = resample(rounded, 16_000, rate);
          for (const [i, start] of [0, 0.5].entries()) {
            const part = whole.slice(start * rate, (start + 1) * rate);
            const { values } = await encoder.embed(part);
            for (const [k, label] of ["a", "b"].entries()) {
              const logit = values.reduce((sum, it, j) => sum + it * weight[k * dim + j], bias[k]);
              const said = labels!.values[labels!.classes.indexOf(label)][i];
              assertAlmostEquals(said, 1 / (1 + Math.exp(-logit)), 1e-3);
            }
          }

          const ask = (patch: string) =>
            fetch(`${studio.address}api/attention?id=${sound.id}&patch=${patch}`);
          if (!attention) {
            assertEquals(sound.chunk, null);
            assert(sound.lacking.some((it) => it.startsWith("Attention: none is shown of HTS-AT")));
            const refused = await ask("0");
            assertEquals(refused.status, 409);
            await refused.body?.cancel();
            return;
          }
          const { rows, columns, classToken, loudest } = sound.chunk!;
          assertEquals([rows, classToken], [attention.rows, attention.own > 0]);
          assert(columns > 1 && loudest < rows * columns);
          for (const patch of [`${loudest}`, ...classToken ? ["class"] : []]) {
            const answer = await (await ask(patch)).json();
            assertEquals(answer.tokens, attention.own + rows * columns);
            assertEquals([answer.layers, answer.heads], [encoder.depth, encoder.info.heads]);
            const weights = new Float32Array(Uint8Array.fromBase64(answer.weights).buffer);
            assertAlmostEquals(
              weights.reduce((a, b) => a + b, 0),
              encoder.depth * encoder.info.heads,
              1e-3,
            );
          }
          const none = await ask(`${rows * columns}`);
          assertEquals(none.status, 400);
          await none.body?.cancel();
        },
        bytes,
        probe,
      ));
  }
});
