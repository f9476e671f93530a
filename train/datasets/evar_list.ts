/**
 * Data sets whose split only EVAR has (https://github.com/nttcslab/eval-audio-repr, evar/metadata):
 * CREMA-D (Cao and others 2014), VoxForge as EVAR has it, and tones of the synthesizer Surge
 * (https://zenodo.org/records/4677097). Its list has to lie in the folder of the audio; nothing of
 * EVAR is here.
 *
 * @module
 */
import { relative } from "../deps/path.ts";
import { NoDataError } from "../errors.ts";
import { walkFiles } from "../io/folders.ts";
import { type Dataset, type ListedClip, locate, readTable } from "./dataset.ts";

const PARTS: Readonly<Record<string, string>> = {
  train: "train",
  valid: "validation",
  test: "test",
};

/** A part under the name that it has here. @throws {NoDataError} if it is none */
function partOf(list: string, split: string): string {
  const part = PARTS[split];
  if (part !== undefined) return part;
  throw new NoDataError(`${list}: split "${split}" is none of train, valid and test`);
}

/** A set with a list of file_name, label and split. */
function listedSet(
  title: string,
  list: string,
  folders: readonly string[],
  classes: Pick<Dataset, "clips" | "classes">,
  about: string,
): Dataset {
  return {
    title,
    about: `${about} in EVAR's ${list}, to be put into the folder`,
    metric: "accuracy",
    column: "split",
    ...classes,
    async read(dir) {
      const found = await locate(dir, title, ["", ...folders], [{ list, audio: "" }]);
      const rows = await readTable(found.list, ["file_name", "label", "split"]);
      const clips = rows.map(({ file_name: file, label, split }): ListedClip => ({
        file,
        labels: [label],
        part: partOf(found.list, split),
      }));
      return { root: found.root, audio: found.audio, folders: [""], clips };
    },
  };
}

/** CREMA-D. */
export const CREMAD: Dataset = listedSet(
  "CREMA-D",
  "cremad.csv",
  ["CREMA-D", "CREMA-D-master"],
  { clips: 7438, classes: 6 },
  "EVAR's split by actors; classes are the emotions",
);

/** VoxForge. */
export const VOXFORGE: Dataset = listedSet(
  "VoxForge",
  "voxforge.csv",
  ["VoxForge", "voxforge"],
  { clips: 176_428, classes: 6 },
  "EVAR's split by recording sessions; classes are the languages",
);

const TONES = "dataset_surge_tone_splits.csv";

/** Surge. */
export const SURGE: Dataset = {
  title: "Surge",
  about: `EVAR's split by tones in its ${TONES}, to be put into the folder; classes are pitches`,
  metric: "accuracy",
  column: "split",
  clips: 2084 * 88,
  classes: 88,
  async read(dir) {
    const { root, list } = await locate(dir, "Surge", ["", "surge"], [{ list: TONES }]);
    const rows = await readTable(list, ["tone", "split"]);
    const parts = new Map(rows.map(({ tone, split }) => [tone, partOf(list, split)]));
    const clips: ListedClip[] = [];
    for await (const path of walkFiles(root, [".ogg", ".wav", ".flac"])) {
      const file = relative(root, path).replaceAll("\\", "/");
      const [tone, name, ...deeper] = file.split("/");
      if (name === undefined || deeper.length > 0) continue;
      const pitch = name.replace(/\.[^.]*$/, "");
      clips.push({ file, labels: [pitch], part: parts.get(tone) });
    }
    return { root, audio: root, folders: [...parts.keys()], clips };
  },
};
