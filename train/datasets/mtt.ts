/**
 * MagnaTagATune (Law and others 2009), https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset:
 * `annotations_final.csv` (188 tags, tab between columns) and the folders `0` to `f` of MP3 files,
 * here or in `mp3/`.
 *
 * Classes are the 50 most frequent tags of the whole list, as in most work on it since Dieleman and
 * Schrauwen (2014); tags of the same meaning ("vocal", "vocals") stay apart there, and so they do
 * here. Equal counts go by column. The split is by folder, which keeps songs together: 0 to b to
 * learn from, c for validation, d to f for the test (12:1:3).
 *
 * @module
 */
import { NoDataError } from "../errors.ts";
import { type Dataset, locate, readList } from "./dataset.ts";

const TAGS = 50;
const FOLDERS = [..."0123456789abcdef"];

/** MagnaTagATune, 50 most frequent tags. */
export const MTT: Dataset = {
  title: "MagnaTagATune",
  about: "the 50 most frequent tags, equal meanings not merged; folders 0-b, c and d-f (12:1:3)",
  metric: "mAP",
  column: "split",
  clips: 25_863,
  classes: TAGS,
  async read(dir) {
    const places = ["", "MagnaTagATune", "magnatagatune"];
    const { root, audio, list } = await locate(
      dir,
      "MagnaTagATune",
      places,
      ["", "mp3", "mp3s", "audio", "MagnaTagATune"].map((audio) => ({
        list: "annotations_final.csv",
        audio,
        folder: audio === "" ? "0" : `${audio}/0`,
      })),
    );
    // No cell has a tab, a quote or a line break within: five million cells need no CSV parser.
    const [header = [], ...rows] = (await readList(list)).split(/\r?\n/)
      .filter((line) => line !== "")
      .map((line) => line.split("\t").map((cell) => cell.replace(/^"(.*)"$/, "$1")));
    const path = header.indexOf("mp3_path");
    if (path < 0 || rows.length === 0) {
      throw new NoDataError(`${list}: has no clips, or lacks mp3_path in its header`);
    }
    const tags = header.map((tag, column) => ({ tag, column, count: 0 }))
      .filter(({ tag }) => tag !== "clip_id" && tag !== "mp3_path");
    for (const row of rows) for (const it of tags) if (row[it.column] === "1") it.count++;
    const kept = tags.toSorted((a, b) => b.count - a.count || a.column - b.column).slice(0, TAGS)
      .sort((a, b) => a.column - b.column);
    const clips = rows.map((row) => {
      const file = row[path] ?? "";
      return {
        file,
        labels: kept.filter(({ column }) => row[column] === "1").map(({ tag }) => tag),
        part: partOf(list, file),
      };
    });
    return { root, audio, folders: FOLDERS, clips };
  },
};

/** The part that a file's folder is in. @throws {NoDataError} if it is in none */
function partOf(list: string, file: string): string {
  const folder = FOLDERS.indexOf(file.split("/")[0]);
  if (folder < 0) {
    throw new NoDataError(`${list}: mp3_path ${file} is in none of the folders 0 to f`);
  }
  return folder < 12 ? "train" : folder < 13 ? "validation" : "test";
}
