/**
 * UrbanSound8K (Salamon, Jacoby, Bello 2014), https://urbansounddataset.weebly.com: `audio/fold1`
 * to `fold10` and `metadata/UrbanSound8K.csv`. The ten folds are the authors'; shuffling them puts
 * slices of one recording on both sides. Kaggle's copy has list and folds side by side.
 *
 * @module
 */
import { type Dataset, locate, readTable } from "./dataset.ts";

/** UrbanSound8K. */
export const US8K: Dataset = {
  title: "UrbanSound8K",
  about: "the authors' ten folds; classes are the names in class",
  metric: "accuracy",
  column: "fold",
  clips: 8732,
  classes: 10,
  async read(dir) {
    const { root, list, audio } = await locate(dir, "UrbanSound8K", ["", "UrbanSound8K"], [
      { list: "metadata/UrbanSound8K.csv", audio: "audio", fold: "audio/fold1" },
      { list: "UrbanSound8K.csv", audio: "", fold: "fold1" },
    ]);
    const rows = await readTable(list, ["slice_file_name", "fold", "class"]);
    const clips = rows.map(({ slice_file_name, fold, class: name }) => ({
      file: `fold${fold}/${slice_file_name}`,
      labels: [name],
      part: fold,
    }));
    const folders = Array.from({ length: 10 }, (_, i) => `fold${i + 1}`);
    return { root, audio, folders, clips };
  },
};
