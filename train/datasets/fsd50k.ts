/**
 * FSD50K (Fonseca and others 2022), https://zenodo.org/record/4060432: `FSD50K.ground_truth` with
 * `dev.csv` (its split into train and val), `eval.csv` and `vocabulary.csv`, and the WAV files in
 * `FSD50K.dev_audio` and `FSD50K.eval_audio`. Labels are those of the authors' lists, with all
 * classes above each in the hierarchy.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import { NoDataError } from "../errors.ts";
import { type Dataset, locate, readLines, readTable } from "./dataset.ts";

const PARTS: Readonly<Record<string, string>> = { train: "train", val: "validation" };

/** FSD50K. */
export const FSD50K: Dataset = {
  title: "FSD50K",
  about:
    "the authors' development set with its split into train and val; the evaluation set is the " +
    "test",
  metric: "mAP",
  column: "split",
  clips: 51_197,
  classes: 200,
  async read(dir) {
    const { root, audio, lists } = await locate(dir, "FSD50K", ["", "FSD50K", "fsd50k"], [{
      audio: "",
      lists: "FSD50K.ground_truth",
      dev: "FSD50K.dev_audio",
      eval: "FSD50K.eval_audio",
    }]);
    const classes = new Set(
      (await readLines(join(lists, "vocabulary.csv"))).map((line) => line.split(",")[1]),
    );
    const clip = (folder: string, list: string, fname: string, cell: string, part: string) => {
      const labels = cell.split(",");
      const unknown = labels.find((it) => !classes.has(it));
      if (unknown === undefined) return { file: `${folder}/${fname}.wav`, labels, part };
      throw new NoDataError(`${list}: clip ${fname} has "${unknown}", which vocabulary.csv lacks`);
    };
    const [dev, evaluation] = [join(lists, "dev.csv"), join(lists, "eval.csv")];
    const clips = [
      ...(await readTable(dev, ["fname", "labels", "split"])).map(({ fname, labels, split }) => {
        const part = PARTS[split];
        if (part !== undefined) return clip("FSD50K.dev_audio", dev, fname, labels, part);
        throw new NoDataError(`${dev}: clip ${fname} has split "${split}", neither train nor val`);
      }),
      ...(await readTable(evaluation, ["fname", "labels"]))
        .map(({ fname, labels }) => clip("FSD50K.eval_audio", evaluation, fname, labels, "test")),
    ];
    return { root, audio, folders: ["FSD50K.dev_audio", "FSD50K.eval_audio"], clips };
  },
};
