/**
 * VoxCeleb1 (Nagrani, Chung, Zisserman 2017), https://www.robots.ox.ac.uk/~vgg/data/voxceleb/:
 * `wav/` with a folder for each speaker, and the authors' `iden_split.txt` of the identification
 * task, whose lines are the part (1 train, 2 validation, 3 test) and the file.
 *
 * @module
 */
import { NoDataError } from "../errors.ts";
import { type Dataset, locate, readLines } from "./dataset.ts";

const PARTS: Readonly<Record<string, string>> = { "1": "train", "2": "validation", "3": "test" };

/** VoxCeleb1. */
export const VC1: Dataset = {
  title: "VoxCeleb1",
  about: "the authors' identification split in iden_split.txt; classes are the speakers",
  metric: "accuracy",
  column: "split",
  clips: 153_516,
  classes: 1251,
  async read(dir) {
    const { root, audio, list } = await locate(dir, "VoxCeleb1", ["", "VoxCeleb1", "voxceleb1"], [
      { list: "iden_split.txt", audio: "wav" },
    ]);
    const clips = (await readLines(list)).map((line, i) => {
      const [number, file] = line.split(/\s+/);
      const part = PARTS[number];
      if (part === undefined || !file?.includes("/")) {
        throw new NoDataError(`${list}: line ${i + 1} is not a part (1 to 3) and a file`);
      }
      return { file, labels: [file.split("/")[0]], part };
    });
    return { root, audio, folders: [""], clips };
  },
};
