/** `deno task dataset`: Speech Commands, VoxCeleb1, EVAR's lists, HEAR's folders, tars. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { dirname, join } from "@std/path";
import { run } from "../../../train/commands/dataset.ts";
import { labelledFolder } from "../../../train/data/labelled_folder.ts";
import { eventFolder } from "../../../train/downstream/hear/event_folder.ts";
import { tarEntries } from "../../../train/datasets/webdataset.ts";
import { exitCodeOf, NoDataError } from "../../../train/errors.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { test } from "../../support/tier.ts";

const SOUND = wav(Float32Array.of(0, 0.5, -0.5));

/** Writes files below a folder; those without content are sounds. */
async function write(dir: string, files: Record<string, string | undefined>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    const path = join(dir, name);
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.writeFile(path, text === undefined ? SOUND : new TextEncoder().encode(text));
  }
}

const dataset = (...words: string[]) => run([...words, "--quiet"], new AbortController().signal);

/** Clips of a labelled folder: file, labels, part. */
function clipsOf(dir: string): [string, string, string][] {
  return labelledFolder(dir).clips.map(({ path, labels, part }) =>
    [
      ...[path.slice(join(dir, "audio").length + 1), labels.join(";")],
      part,
    ] as [string, string, string]
  );
}

test("Speech Commands, VoxCeleb1 and EVAR's lists become labelled folders", () =>
  inTempDir(async (dir) => {
    const out = join(dir, "out");
    await write(join(dir, "spc"), {
      "validation_list.txt": "yes/b.wav\n",
      "testing_list.txt": "no/a.wav\n",
      "yes/a.wav": undefined,
      "yes/b.wav": undefined,
      "no/a.wav": undefined,
      "_background_noise_/n.wav": undefined,
    });
    await dataset("spcv2", join(dir, "spc"), "--out", out);
    assertEquals(clipsOf(out), [
      ["no/a.wav", "no", "test"],
      ["yes/a.wav", "yes", "train"],
      ["yes/b.wav", "yes", "validation"],
    ]);
    await write(join(dir, "vc"), {
      "iden_split.txt": "1 id1/v/1.wav\n3 id2/v/1.wav\n2 id1/v/2.wav\n",
      "wav/id1/v/1.wav": undefined,
      "wav/id1/v/2.wav": undefined,
      "wav/id2/v/1.wav": undefined,
    });
    const speakers = join(dir, "speakers");
    await dataset("vc1", join(dir, "vc"), "--out", speakers);
    assertEquals(clipsOf(speakers)[1], ["id2/v/1.wav", "id2", "test"]);
    await write(join(dir, "cremad"), {
      "cremad.csv": "file_name,label,split\nAudioWAV/1.wav,ANG,train\nAudioWAV/2.wav,SAD,test\n",
      "AudioWAV/1.wav": undefined,
      "AudioWAV/2.wav": undefined,
    });
    const actors = join(dir, "actors");
    await dataset("CREMA-D", join(dir, "cremad"), "--out", actors);
    assertEquals(clipsOf(actors).map((it) => it.slice(1)), [["ANG", "train"], ["SAD", "test"]]);
    await write(join(dir, "surge"), {
      "dataset_surge_tone_splits.csv": "tone,split\nbass,train\nlead,test\n",
      "bass/60.ogg": undefined,
      "lead/61.ogg": undefined,
      "pad/61.ogg": undefined,
    });
    const tones = join(dir, "tones");
    await dataset("surge", join(dir, "surge"), "--out", tones);
    assertEquals(clipsOf(tones), [["bass/60.ogg", "60", "train"], ["lead/61.ogg", "61", "test"]]);
    await Deno.writeTextFile(join(dir, "vc", "iden_split.txt"), "4 id1/v/1.wav\n");
    const error = await assertRejects(() => dataset("vc1", join(dir, "vc")), NoDataError, "line 1");
    assertEquals(exitCodeOf(error), 4);
  }));

test("HEAR's folders: scenes in folds, events with their times", () =>
  inTempDir(async (dir) => {
    const [scenes, events] = ["scenes", "events"].map((it) => join(dir, it));
    const about = (embedding_type: string, prediction_type: string) =>
      JSON.stringify({ task_name: "t", embedding_type, prediction_type, more: [1] });
    await write(scenes, {
      "task_metadata.json": about("scene", "multiclass"),
      "labelvocabulary.csv": "idx,label\n0,a\n1,b\n",
      "fold00.json": '{"1.wav": ["a"]}',
      "fold01.json": '{"2.wav": ["b"]}',
      "16000/fold00/1.wav": undefined,
      "48000/fold00/1.wav": undefined,
      "48000/fold01/2.wav": undefined,
    });
    await dataset("hear", scenes, "--out", `${scenes}-out`);
    assertEquals(clipsOf(`${scenes}-out`), [
      ["fold00/1.wav", "a", "fold00"],
      ["fold01/2.wav", "b", "fold01"],
    ]);
    assertEquals(labelledFolder(`${scenes}-out`).protocol, "leave-one-part-out");
    const real = await Deno.realPath(join(`${scenes}-out`, "audio"));
    assert(real.endsWith("48000"), real);
    await write(events, {
      "task_metadata.json": about("event", "multilabel"),
      "labelvocabulary.csv": "idx,label\n0,a\n",
      "train.json": '{"1.wav": [{"label": "a", "start": 10.5, "end": 20}]}',
      "valid.json": '{"2.wav": []}',
      "test.json": '{"3.wav": [{"label": "a", "start": 0, "end": 5}]}',
      "48000/train/1.wav": undefined,
      "48000/valid/2.wav": undefined,
      "48000/test/3.wav": undefined,
    });
    await dataset("hear", events, "--out", `${events}-out`);
    const folder = eventFolder(`${events}-out`);
    assertEquals(folder.events.get(join(`${events}-out`, "audio", "train/1.wav")), [
      { label: "a", onset: 10.5, offset: 20 },
    ]);
    await Deno.writeTextFile(join(events, "train.json"), '{"1.wav": [{"label": 3}]}');
    await assertRejects(() => dataset("hear", events), NoDataError, "train.json: is damaged");
  }));

/** A tar of files, as GNU tar writes it. */
function tar(files: readonly (readonly [name: string, bytes: Uint8Array])[]): Uint8Array {
  const blocks: Uint8Array[] = [];
  const entry = (name: string, bytes: Uint8Array, kind: string) => {
    const header = new Uint8Array(512);
    const put = (at: number, text: string) => header.set(new TextEncoder().encode(text), at);
    put(0, name.slice(0, 100));
    put(100, "0000644\0");
    put(124, `${bytes.length.toString(8).padStart(11, "0")}\0`);
    put(156, kind);
    put(257, "ustar  \0");
    put(148, "        ");
    const sum = header.reduce((a, b) => a + b, 0);
    put(148, `${sum.toString(8).padStart(6, "0")}\0 `);
    const padded = new Uint8Array(Math.ceil(bytes.length / 512) * 512);
    padded.set(bytes);
    blocks.push(header, padded);
  };
  for (const [name, bytes] of files) {
    if (name.length > 99) entry("././@LongLink", new TextEncoder().encode(`${name}\0`), "L");
    entry(name, bytes, "0");
  }
  blocks.push(new Uint8Array(1024));
  const all = new Uint8Array(blocks.reduce((sum, it) => sum + it.length, 0));
  let at = 0;
  for (const block of blocks) {
    all.set(block, at);
    at += block.length;
  }
  return all;
}

const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

test("WebDataset tars become labelled folders; damaged ones are told", () =>
  inTempDir(async (dir) => {
    const [data, out] = [join(dir, "wds"), join(dir, "out")];
    await Deno.mkdir(data);
    const long = `${"deep/".repeat(24)}b`;
    const first = tar([
      ["a.json", text({ labels: "dog", id: 3 })],
      ["a.wav", SOUND],
      [`${long}.wav`, SOUND],
      [`${long}.json`, text({ labels: ["cat"] })],
      ["lonely.json", text({ labels: "none" })],
    ]);
    assertEquals(first.length % 512, 0);
    await Deno.writeFile(join(data, "wds-audio-fold-1-0.tar"), first);
    await Deno.writeFile(
      join(data, "wds-audio-fold-2-0.tar"),
      tar([["a.wav", SOUND], ["a.json", text({ labels: "dog" })]]),
    );
    assertEquals(
      [...tarEntries(join(data, "wds-audio-fold-1-0.tar"))].map(({ name }) => name)[2],
      `${long}.wav`,
    );
    await dataset("webdataset", data, "--out", out);
    assertEquals(clipsOf(out), [
      ["wds-audio-fold-1-0/a.wav", "dog", "1"],
      [`wds-audio-fold-1-0/${long}.wav`, "cat", "1"],
      ["wds-audio-fold-2-0/a.wav", "dog", "2"],
    ]);
    assertEquals(await Deno.readFile(join(out, "audio", "wds-audio-fold-2-0", "a.wav")), SOUND);
    const byId = dataset("webdataset", data, "--out", `${out}2`, "--label", "id");
    await assertRejects(() => byId, NoDataError, "has no label in id");
    const cases: [string, Uint8Array, string][] = [
      ["train.tar", first.subarray(0, 700), "cut off"],
      ["train.tar", first.map((it, i) => i === 3 ? it ^ 1 : it), "damaged at byte 0"],
      ["some.tar", first, "neither a fold"],
      ["train.tar", tar([["../a.wav", SOUND]]), "is not taken"],
      ["train.tar", tar([["a.json", text([1])]]), "no JSON object"],
      ["train.tar", tar([["a.wav", SOUND]]), "has no label"],
    ];
    for (const [i, [name, bytes, message]] of cases.entries()) {
      const bad = join(dir, `bad${i}`);
      await Deno.mkdir(bad);
      await Deno.writeFile(join(bad, name), bytes);
      await assertRejects(() => dataset("webdataset", bad), NoDataError, message);
    }
  }));
