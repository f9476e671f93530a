/**
 * ESC-50 (Piczak 2015), https://github.com/karolpiczak/ESC-50: `audio/*.wav` and `meta/esc50.csv`
 * with the authors' five folds, which keep clips of one recording together.
 *
 * @module
 */
import { type Dataset, locate, readTable } from "./dataset.ts";

/** ESC-50. */
export const ESC50: Dataset = {
  title: "ESC-50",
  about: "the authors' five folds; classes are the names in category",
  metric: "accuracy",
  column: "fold",
  clips: 2000,
  classes: 50,
  async read(dir) {
    const { root, list, audio } = await locate(dir, "ESC-50", ["", "ESC-50-master", "ESC-50"], [
      { list: "meta/esc50.csv", audio: "audio" },
    ]);
    const rows = await readTable(list, ["filename", "fold", "category"]);
    const clips = rows.map(({ filename, fold, category }) => ({
      file: filename,
      labels: [category],
      part: fold,
    }));
    return { root, audio, folders: [""], clips };
  },
};
