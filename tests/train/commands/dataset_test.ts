/**
 * `deno task dataset`: each data set on a made miniature with the real layout, names and headers;
 * what it refuses.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { dirname, fromFileUrl, join, toFileUrl } from "@std/path";
import { run } from "../../../train/commands/dataset.ts";
import { labelledFolder } from "../../../train/data/labelled_folder.ts";
import { gtzanClips } from "../../../train/datasets/gtzan.ts";
import type { Dataset } from "../../../train/datasets/dataset.ts";
import { DATASETS } from "../../../train/datasets/mod.ts";
import { probeData } from "../../../train/downstream/probe/splits.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { runWords } from "../../support/tasks.ts";
import { inTempDir } from "../../support/audio_files.ts";

const ROOT = fromFileUrl(new URL("../../..", import.meta.url));

/** Files of a download by name; audio is its own name. */
type Download = Readonly<Record<string, string>>;

function unpack(dir: string, files: Download): void {
  for (const [name, text] of Object.entries(files)) {
    const path = join(dir, name);
    Deno.mkdirSync(dirname(path), { recursive: true });
    Deno.writeTextFileSync(path, text);
  }
}

function audio(...names: string[]): Download {
  return Object.fromEntries(names.map((name) => [name, name]));
}

/** Runs the command in this process; what it prints, line by line. */
async function dataset(...argv: string[]): Promise<{ out: string[]; err: string[] }> {
  const { log, error } = console;
  const [out, err]: [string[], string[]] = [[], []];
  console.log = (text: string) => out.push(text);
  console.error = (text: string) => err.push(text);
  try {
    assertEquals(await run(argv, new AbortController().signal), 0);
  } finally {
    Object.assign(console, { log, error });
  }
  return { out, err };
}

/**
 * What {@link labelledFolder} reads from the folder: [name below audio/, labels, part]; every file
 * must be there.
 */
function clipsOf(folder: string): [string, string, string][] {
  return labelledFolder(folder).clips.map(({ path, labels, part }) => {
    const name = path.slice(join(folder, "audio").length + 1).replaceAll("\\", "/");
    assert(Deno.readTextFileSync(path).endsWith(name), path);
    return [name, labels.join(";"), part];
  });
}

const ESC: Download = {
  "meta/esc50.csv": "filename,fold,target,category,esc10,src_file,take\n" +
    "1-100032-A-0.wav,1,0,dog,True,100032,A\n" +
    "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A\n" +
    "2-114280-A-0.wav,2,0,dog,True,114280,A\n" +
    "5-9032-A-0.wav,5,0,dog,True,9032,A\n",
  "README.md": "",
  ...audio("audio/1-100032-A-0.wav", "audio/1-100038-A-14.wav", "audio/2-114280-A-0.wav"),
};

const ESC_META = "filename,label,fold\n1-100032-A-0.wav,dog,1\n" +
  "1-100038-A-14.wav,chirping_birds,1\n2-114280-A-0.wav,dog,2\n";

Deno.test("dataset: ESC-50, with the archive's folder, a missing file and a surplus one", () =>
  inTempDir(async (dir) => {
    unpack(join(dir, "ESC-50-master"), { ...ESC, ...audio("audio/new.wav") });
    const [out, json] = [join(dir, "out", "esc"), join(dir, "reports", "esc.json")];
    const { out: lines, err } = await dataset(
      "ESC-50",
      dir,
      "--out",
      out,
      "--json",
      json,
    );
    assertEquals(lines, [
      "ESC-50: 3 of 2000 clips, 2 of 50 classes; fold 1 2, fold 2 1",
      `${out}: labelled folder, judged by accuracy`,
    ]);
    assertEquals(err, [
      "1 listed clips have no file:",
      "  5-9032-A-0.wav",
      "1 files are in no list:",
      "  new.wav",
    ]);
    assertEquals(JSON.parse(Deno.readTextFileSync(json)), {
      dataset: "esc50",
      metric: "accuracy",
      clips: 3,
      folds: { 1: 2, 2: 1 },
      classes: ["chirping_birds", "dog"],
      left_out: [],
      missing: ["5-9032-A-0.wav"],
      surplus: ["new.wav"],
      unread: [],
    });
    assertEquals(Deno.readTextFileSync(join(out, "meta.csv")), ESC_META);
    assertEquals(labelledFolder(out).protocol, "leave-one-part-out");
    assertEquals(clipsOf(out).map(([, , part]) => part), ["1", "1", "2"]);
  }));

Deno.test("dataset: the manual's example of another set reads its part of ESC-50's list", () =>
  inTempDir(async (dir) => {
    const manual = Deno.readTextFileSync(join(ROOT, "train/README.md"));
    const code = manual.split("```ts").map((it) => it.split("```")[0])
      .find((it) => it.includes("const ESC10"))!;
    const file = join(dir, "esc10.ts");
    const own = toFileUrl(join(ROOT, "train/datasets/dataset.ts")).href;
    Deno.writeTextFileSync(file, code.replace("./dataset.ts", own));
    const { ESC10 }: { ESC10: Dataset } = await import(toFileUrl(file).href);
    unpack(join(dir, "ESC-50-master"), ESC);
    const { clips } = await ESC10.read(dir);
    assertEquals(clips.map(({ file, labels, part }) => [file, ...labels, part]), [
      ["1-100032-A-0.wav", "dog", "1"],
      ["1-100038-A-14.wav", "chirping_birds", undefined],
      ["2-114280-A-0.wav", "dog", "2"],
      ["5-9032-A-0.wav", "dog", "5"],
    ]);
    assertEquals([ESC10.clips, ESC10.classes, ESC10.metric], [400, 10, "accuracy"]);
  }));

Deno.test("dataset: UrbanSound8K, slices in fold folders, and Kaggle's layout", () =>
  inTempDir(async (dir) => {
    const list = "slice_file_name,fsID,start,end,salience,fold,classID,class\n" +
      "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n" +
      "100263-2-0-117.wav,100263,58.5,62.5,1,5,2,children_playing\n" +
      "99812-1-0-0.wav,99812,0,3,2,10,1,car_horn\n" +
      "7061-6-0-0.wav,7061,0,4,1,1,6,gun_shot\n";
    const names = [
      "fold5/100032-3-0-0.wav",
      "fold5/100263-2-0-117.wav",
      "fold10/99812-1-0-0.wav",
      "fold1/7061-6-0-0.wav",
    ];
    const expected = [
      [names[0], "dog_bark", "5"],
      [names[1], "children_playing", "5"],
      [names[2], "car_horn", "10"],
      [names[3], "gun_shot", "1"],
    ];
    unpack(dir, {
      "a/UrbanSound8K/metadata/UrbanSound8K.csv": list,
      ...audio(...names.map((it) => `a/UrbanSound8K/audio/${it}`)),
      "b/UrbanSound8K.csv": list,
      ...audio(...names.map((it) => `b/${it}`)),
    });
    for (const [name, folder] of [["a", "a/UrbanSound8K"], ["b", "b"]]) {
      const { out } = await dataset("us8k", join(dir, name));
      assertEquals(out[0].split("; ")[1], "fold 1 1, fold 5 2, fold 10 1");
      assertEquals(
        clipsOf(join(dir, `${folder}-labelled`)),
        expected as [string, string, string][],
      );
    }
  }));

Deno.test("dataset: GTZAN has the fault-filtered split of 443, 197 and 290 clips", () =>
  inTempDir(async (dir) => {
    const clips = gtzanClips();
    assertEquals(new Set(clips.map(({ file }) => file)).size, 1000);
    const count = (part?: string) => clips.filter((it) => it.part === part).length;
    assertEquals(["train", "validation", "test", undefined].map(count), [443, 197, 290, 70]);
    // Read off torchaudio's lists, which have the split from another copy.
    const partOf = new Map(clips.map(({ file, part }) => [file.split("/")[1], part]));
    for (
      const [name, part] of [
        ["blues.00029", "train"],
        ["blues.00098", "test"],
        ["classical.00042", undefined],
        ["country.00008", undefined],
        ["country.00027", "validation"],
        ["reggae.00091", undefined],
        ["country.00028", "train"],
        ["disco.00001", "test"],
        ["disco.00089", "train"],
        ["hiphop.00099", "test"],
        ["jazz.00054", "train"],
        ["metal.00039", "test"],
        ["pop.00097", "train"],
        ["reggae.00090", "test"],
        ["rock.00099", "train"],
        ["blues.00000", "validation"],
        ["classical.00068", "validation"],
      ]
    ) assertEquals(partOf.get(`${name}.wav`), part, name);

    const genres = join(dir, "Data", "genres_original");
    unpack(genres, {
      ...audio("blues/blues.00029.wav", "blues/blues.00000.wav", "rock/rock.00010.wav"),
      // In no part; Finder's companion of a file.
      ...audio("classical/classical.00042.wav", "rock/._rock.00010.wav"),
    });
    const { out, err } = await dataset("gtzan", dir, "--out", `${dir}-out`);
    assertEquals(out, [
      "GTZAN: 3 of 930 clips, 2 of 10 classes; validation 1, train 1, test 1",
      `${dir}-out: labelled folder, judged by accuracy`,
      "70 clips are not in the split",
    ]);
    assertEquals([err[0], err.length, err.at(-1)], [
      "927 listed clips have no file:",
      22,
      "  and 907 more",
    ]);
    assertEquals(clipsOf(`${dir}-out`), [
      ["blues/blues.00000.wav", "blues", "validation"],
      ["blues/blues.00029.wav", "blues", "train"],
      ["rock/rock.00010.wav", "rock", "test"],
    ]);
    await Deno.remove(`${dir}-out`, { recursive: true });
    unpack(genres, audio("blues/blues.00000.au"));
    const error = await assertRejects(() => dataset("gtzan", dir), Error, ".au files");
    assertEquals(exitCodeOf(error), 4);
  }));

Deno.test({
  name: "dataset: what has no end in the place of a list or of audio is refused, not read",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inTempDir(async (dir) => {
      const download = join(dir, "ESC-50-master");
      unpack(download, ESC);
      // As for a named pipe, which needs another program to be made: no regular file.
      const endless = async (name: string) => {
        await Deno.remove(join(download, name));
        await Deno.symlink("/dev/zero", join(download, name));
      };
      await endless("audio/1-100038-A-14.wav");
      const copied = ["esc50", download, "--out", join(dir, "out"), "--copy"];
      const audio = await assertRejects(() => dataset(...copied), Error, "not a regular file");
      await endless("meta/esc50.csv");
      const list = await assertRejects(
        () => dataset("esc50", download),
        Error,
        "not a regular file",
      );
      assertEquals([audio, list].map(exitCodeOf), [4, 4]);
    }),
});

Deno.test("dataset: NSynth, families from examples.json", () =>
  inTempDir(async (dir) => {
    const example = (note: string, family: number, family_str: string) => ({
      [note]: {
        note: 201034,
        sample_rate: 16000,
        instrument_family: family,
        qualities: [0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        instrument_source_str: "synthetic",
        note_str: note,
        qualities_str: ["dark"],
        instrument_family_str: family_str,
        pitch: 100,
        instrument: 417,
        velocity: 127,
      },
    });
    const [lead, bass, organ, vocal] = [
      "synth_lead_synthetic_001-055-100",
      "bass_synthetic_033-022-050",
      "organ_electronic_104-045-127",
      "vocal_acoustic_000-060-025",
    ];
    const examples = (...them: object[]) => JSON.stringify(Object.assign({}, ...them), null, 4);
    unpack(dir, {
      "nsynth-train/examples.json": examples(
        example(lead, 9, "synth_lead"),
        example(bass, 0, "bass"),
      ),
      "nsynth-valid/examples.json": examples(example(organ, 6, "organ")),
      "nsynth-test/examples.json": examples(example(vocal, 10, "vocal")),
      ...audio(`nsynth-train/audio/${lead}.wav`, `nsynth-train/audio/${bass}.wav`),
      ...audio(`nsynth-valid/audio/${organ}.wav`, `nsynth-test/audio/${vocal}.wav`),
    });
    const out = `${dir}-out`;
    const { err } = await dataset("nsynth", dir, "--out", out);
    assertEquals(err, []);
    assertEquals(clipsOf(out), [
      [`nsynth-train/audio/${lead}.wav`, "synth_lead", "train"],
      [`nsynth-train/audio/${bass}.wav`, "bass", "train"],
      [`nsynth-valid/audio/${organ}.wav`, "organ", "validation"],
      [`nsynth-test/audio/${vocal}.wav`, "vocal", "test"],
    ]);
    await Deno.remove(out, { recursive: true });
    Deno.writeTextFileSync(join(dir, "nsynth-valid", "examples.json"), '{"a": {');
    const error = await assertRejects(() => dataset("nsynth", dir), Error, "is damaged");
    assertEquals(exitCodeOf(error), 4);
  }));

const OPENMIC: Download = {
  "openmic-2018/class-map.json": '{"accordion": 0, "banjo": 1, "mallet_percussion": 9}',
  "openmic-2018/openmic-2018.npz": "not needed",
  "openmic-2018/vggish/000/000046_3840.json": "{}",
  "openmic-2018/openmic-2018-aggregated-labels.csv":
    "sample_key,instrument,relevance,num_responses\n" +
    "000046_3840,clarinet,0.17105,3\n000046_3840,flute,0.0,3\n" +
    "000046_3840,trumpet,0.5,3\n000046_3840,mallet_percussion,1.0,4\n" +
    "000135_483840,voice,1.0,3\n" +
    "155310_372480,banjo,0.49,3\n" +
    "155314_76800,banjo,0.75,4\n",
  // The column of genres has commas, quotes and brackets.
  "openmic-2018/openmic-2018-metadata.csv":
    "license_url,artist_id,track_genres,track_id,sample_key,start_time\n" +
    "http://x,1,\"[{'genre_id': '21', 'genre_title': \"\"Hip-Hop\"\"}, {}]\"," +
    "46,000046_3840,3.84\n" +
    "http://x,99,[],135,000135_483840,483.84\n" +
    "http://x,19,[],155310,155310_372480,372.48\n" +
    "http://x,9,[],155314,155314_76800,76.8\n",
  "openmic-2018/partitions/split01_train.csv": "000046_3840\n000135_483840\n155310_372480\n",
  "openmic-2018/partitions/split01_test.csv": "155314_76800\n",
  ...audio("openmic-2018/audio/000/000046_3840.ogg", "openmic-2018/audio/000/000135_483840.ogg"),
  ...audio("openmic-2018/audio/155/155310_372480.ogg", "openmic-2018/audio/155/155314_76800.ogg"),
};

Deno.test("dataset: OpenMIC, relevance from 0.5, validation by artist, clips without a class", () =>
  inTempDir(async (dir) => {
    unpack(dir, OPENMIC);
    const out = `${dir}-out`;
    const { out: lines, err } = await dataset("openmic", dir, "--out", out);
    assertEquals(lines[0].split("; ")[1], "train 1, validation 2, test 1");
    assertEquals(err, []);
    assertEquals(Deno.readTextFileSync(join(out, "meta.csv")).split("\n").slice(0, 2), [
      "filename,label,known,split",
      "000/000046_3840.ogg,trumpet;mallet_percussion," +
      "clarinet;flute;trumpet;mallet_percussion,train",
    ]);
    const folder = labelledFolder(out);
    const { classes, truth } = probeData(folder, folder.clips);
    assertEquals(classes, ["banjo", "mallet_percussion", "trumpet", "voice"]);
    // Nobody asked about the banjo in the first two, which is not in the third.
    assertEquals(truth, [[2, 1, ~0, ~3], [3, ~0, ~1, ~2], [~1, ~2, ~3], [0, ~1, ~2, ~3]]);
    assertEquals(clipsOf(out), [
      ["000/000046_3840.ogg", "trumpet;mallet_percussion", "train"],
      ["000/000135_483840.ogg", "voice", "validation"],
      ["155/155310_372480.ogg", "", "validation"],
      ["155/155314_76800.ogg", "banjo", "test"],
    ]);
    await Deno.remove(out, { recursive: true });
    Deno.writeTextFileSync(
      join(dir, "openmic-2018", "partitions", "split01_test.csv"),
      "000190_9600\n",
    );
    await assertRejects(() => dataset("openmic", dir), Error, "lack clip 000190_9600");
  }));

Deno.test("dataset: MagnaTagATune, 50 most frequent tags, parts by folder", () =>
  inTempDir(async (dir) => {
    // Tag i of 52 is in clips i to 59, but the last three once each: one of them is kept, the first
    // by column.
    const tags = Array.from({ length: 52 }, (_, i) => i === 3 ? "no vocals" : `tag ${i}`);
    const folders = [..."0123456789abcdef"];
    const paths = Array.from(
      { length: 60 },
      (_, i) => `${folders[i % 16]}/american_bach_soloists-cantatas-${i}-bwv1060-30-59.mp3`,
    );
    const has = (tag: number, clip: number) => tag > 48 ? clip === 50 : clip >= tag && clip < 59;
    const rows = paths.map((path, clip) => [
      String(clip + 2),
      ...tags.map((_, tag) => has(tag, clip) ? "1" : "0"),
      path,
    ]);
    const text = [["clip_id", ...tags, "mp3_path"], ...rows]
      .map((row) => row.map((cell) => `"${cell}"`).join("\t")).join("\r\n") + "\r\n";
    unpack(dir, {
      "annotations_final.csv": text,
      "clip_info_final.csv": "clip_id\ttrack_number\n",
      // One was converted.
      ...audio(...paths.map((it) => `mp3/${it}`).with(1, `mp3/${paths[1].slice(0, -3)}wav`)),
    });
    const out = `${dir}-out`;
    const { out: lines, err } = await dataset("mtt", dir, "--out", out);
    // 60 clips are 3 rounds of 16 folders and the folders 0 to b once more; the last clip has no
    // tag.
    assertEquals(
      lines[0],
      "MagnaTagATune: 60 of 25863 clips, 50 of 50 classes; train 48, validation 3, test 9",
    );
    assertEquals(err, []);
    const clips = clipsOf(out);
    assertEquals(clips[1], [`${paths[1].slice(0, -3)}wav`, "tag 0;tag 1", "train"]);
    assertEquals(clips[3][1], "tag 0;tag 1;tag 2;no vocals");
    assertEquals([12, 13, 15].map((i) => clips[i][2]), ["validation", "test", "test"]);
    assertEquals(clips[50][1], tags.slice(0, 50).join(";"));
    assertEquals(clips[59][1], "");
    await Deno.remove(out, { recursive: true });
  }));

const FSD: Download = {
  "FSD50K.ground_truth/vocabulary.csv": "0,Accelerating_and_revving_and_vroom,/m/07q2z82\n" +
    "1,Electric_guitar,/m/02sgy\n2,Guitar,/m/0342h\n",
  "FSD50K.ground_truth/dev.csv": "fname,labels,mids,split\n" +
    '64760,"Electric_guitar,Guitar","/m/02sgy,/m/0342h",train\n' +
    "16399,Guitar,/m/0342h,val\n",
  "FSD50K.ground_truth/eval.csv":
    "fname,labels,mids\n37199,Accelerating_and_revving_and_vroom,/m/07q2z82\n",
  ...audio("FSD50K.dev_audio/64760.wav", "FSD50K.dev_audio/16399.wav"),
  ...audio("FSD50K.eval_audio/37199.wav"),
};

Deno.test("dataset: FSD50K, development set with its split, evaluation set as test", () =>
  inTempDir(async (dir) => {
    unpack(dir, FSD);
    const out = `${dir}-out`;
    await dataset("fsd50k", dir, "--out", out);
    assertEquals(clipsOf(out), [
      ["FSD50K.dev_audio/64760.wav", "Electric_guitar;Guitar", "train"],
      ["FSD50K.dev_audio/16399.wav", "Guitar", "validation"],
      ["FSD50K.eval_audio/37199.wav", "Accelerating_and_revving_and_vroom", "test"],
    ]);
    await Deno.remove(out, { recursive: true });
    const lists = join(dir, "FSD50K.ground_truth");
    const dev = join(lists, "dev.csv");
    for (
      const [text, message] of [
        ["fname,labels,mids,split\n1,Guitar,x,dev\n", 'split "dev"'],
        ["fname,labels,mids,split\n1,Flute,x,val\n", '"Flute", which vocabulary.csv lacks'],
        ["fname,labels\n1,Guitar\n", "lacks split"],
        ['fname,labels,mids,split\n1,"Guitar\n', "is damaged"],
        ["", "is damaged"],
        ["fname,labels,mids,split\n", "has no clips"],
      ]
    ) {
      Deno.writeTextFileSync(dev, text);
      const error = await assertRejects(() => dataset("fsd50k", dir), Error, message);
      assertEquals(exitCodeOf(error), 4);
    }
  }));

/** Every name below a folder with what is in it; links as what they point to. */
function contents(dir: string): Record<string, string> {
  return Object.fromEntries(
    [...Deno.readDirSync(dir)].flatMap(({ name, isDirectory, isSymlink }) => {
      const path = join(dir, name);
      if (isSymlink) return [[name, `-> ${Deno.readLinkSync(path)}`]];
      if (!isDirectory) return [[name, Deno.readTextFileSync(path)]];
      return Object.entries(contents(path)).map(([below, text]) => [`${name}/${below}`, text]);
    }).sort(([a], [b]) => a < b ? -1 : 1),
  );
}

Deno.test("dataset: a repeated run gives the same, links and copies replace each other, the download stays", () =>
  inTempDir(async (dir) => {
    const [download, out] = [join(dir, "esc"), join(dir, "esc-labelled")];
    unpack(download, ESC);
    const before = contents(download);
    const linked = { "audio": "-> ../esc/audio", "meta.csv": ESC_META };
    const copied = {
      ...Object.fromEntries(Object.entries(before).filter(([name]) => name.startsWith("audio/"))),
      "meta.csv": ESC_META,
    };
    const make = async (expected: object, ...words: string[]) => {
      await dataset("esc-50", download, "--quiet", ...words);
      assertEquals(contents(out), { ...expected });
      assertEquals(contents(download), before);
    };
    // Windows has a junction there, which is absolute.
    if (Deno.build.os !== "windows") {
      await make(linked);
      await make(linked);
    }
    await make(copied, "--copy");
    // One copy is kept, one was cut off.
    const [whole, cut] = Object.keys(copied);
    Deno.writeTextFileSync(join(out, whole), before[whole].toUpperCase());
    Deno.writeTextFileSync(join(out, cut), "cut");
    await make({ ...copied, [whole]: before[whole].toUpperCase() }, "--copy");
    const error = await assertRejects(() => make({}), Error, "is no link");
    assertEquals(exitCodeOf(error), 2);

    // A link elsewhere, or to nothing, is renewed.
    await Deno.remove(join(out, "audio"), { recursive: true });
    await Deno.symlink(join(dir, "nothing"), join(out, "audio"), { type: "dir" });
    await dataset("esc-50", download, "--quiet");
    assertEquals(await Deno.realPath(join(out, "audio")), await Deno.realPath(`${download}/audio`));

    // In place only meta.csv comes, also where copies are asked for.
    for (const words of [[], ["--copy"]]) {
      await dataset("esc-50", download, "--out", download, ...words);
      assertEquals(contents(download), { ...before, "meta.csv": ESC_META });
    }
    assertEquals(clipsOf(download).length, 3);
  }));

Deno.test("dataset: what is refused, and how it ends", () =>
  inTempDir(async (dir) => {
    const esc = join(dir, "esc");
    const fsd = join(dir, "fsd");
    unpack(esc, ESC);
    unpack(fsd, FSD);
    unpack(dir, { file: "", "taken/meta.csv/x": "" });
    const before = [contents(esc), contents(fsd)];
    for (
      const [code, message, ...argv] of [
        [2, "DIR: is needed", "esc-50"],
        [2, "NAME esc10: must be one of esc50, us8k", "esc10", esc],
        [4, "no such folder", "esc-50", join(dir, "none")],
        [4, "looked for all of\n  meta/esc50.csv, audio\nin ", "esc-50", fsd],
        [4, "no FSD50K here", "fsd50k", esc],
        [2, "is in the download", "fsd50k", fsd, "--out", fsd],
        [2, "is in the download", "fsd50k", fsd, "--out", fsd, "--copy"],
        [2, "is in the download", "fsd50k", fsd, "--out", join(fsd, "new", "folder")],
        [2, "is in the download", "esc-50", esc, "--out", join(esc, "meta")],
        [2, "cannot be written", "esc-50", esc, "--out", join(dir, "file")],
        [2, "cannot be written", "esc-50", esc, "--out", join(dir, "taken")],
        [2, "cannot be written", "esc-50", esc, "--json", join(dir, "file", "x.json")],
      ] as const
    ) {
      const error = await assertRejects(() => dataset(...argv), Error, message);
      assertEquals(exitCodeOf(error), code, message);
    }
    assertEquals([contents(esc), contents(fsd)], before);
    // Too little is there to learn from one part and test another.
    await Deno.remove(join(esc, "audio", "2-114280-A-0.wav"));
    await assertRejects(
      () => dataset("esc-50", esc),
      Error,
      "2 clips, folds: 1; 2 have no file",
    );
    await Deno.remove(join(fsd, "FSD50K.dev_audio", "64760.wav"));
    await assertRejects(() => dataset("fsd50k", fsd), Error, "splits: validation, test");
    const stopped = AbortSignal.abort(new Error("stopped"));
    unpack(esc, ESC);
    await assertRejects(
      () => run(["esc-50", esc, "--copy", "--quiet", "--out", join(dir, "new")], stopped),
      Error,
      "stopped",
    );
    assertEquals([...Deno.readDirSync(join(dir, "new"))], []);
  }));

Deno.test("dataset: the task's permissions are reading and writing, and suffice", () =>
  inTempDir(async (dir) => {
    unpack(dir, OPENMIC);
    const words = runWords("dataset");
    assertEquals(words, "run --no-prompt -RW train/main.ts dataset".split(" "));
    const out = `${dir}-out`;
    const { code, stdout } = await new Deno.Command(Deno.execPath(), {
      args: [...words, "openmic", dir, "--out", out],
      cwd: ROOT,
    }).output();
    assertEquals(code, 0);
    assert(new TextDecoder().decode(stdout).endsWith("judged by mAP\n"));
    assertEquals(clipsOf(out).length, 4);
    await Deno.remove(out, { recursive: true });
  }));

Deno.test("dataset: sets have the published clips, classes and metrics", () => {
  const table = Object.entries(DATASETS).map(([name, it]) => [
    name,
    it.clips,
    it.classes,
    it.column,
    it.metric,
  ]);
  assertEquals(table, [
    ["esc50", 2000, 50, "fold", "accuracy"],
    ["us8k", 8732, 10, "fold", "accuracy"],
    ["gtzan", 930, 10, "split", "accuracy"],
    ["nsynth", 305_979, 11, "split", "accuracy"],
    ["openmic", 20_000, 20, "split", "mAP"],
    ["mtt", 25_863, 50, "split", "mAP"],
    ["fsd50k", 51_197, 200, "split", "mAP"],
    // EVAR's and HEAR's.
    ["spcv1", 64_721, 30, "split", "accuracy"],
    ["spcv2", 105_829, 35, "split", "accuracy"],
    ["cremad", 7438, 6, "split", "accuracy"],
    ["voxforge", 176_428, 6, "split", "accuracy"],
    ["surge", 183_392, 88, "split", "accuracy"],
    ["vc1", 153_516, 1251, "split", "accuracy"],
    ["hear", undefined, undefined, "split", "accuracy"],
  ]);
});
