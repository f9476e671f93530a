/**
 * OpenMIC-2018 (Humphrey, Durand, McFee 2018), https://zenodo.org/record/1432913:
 * `audio/000/000046_3840.ogg` and so on, `openmic-2018-aggregated-labels.csv`,
 * `openmic-2018-metadata.csv`, and `partitions/split01_train.csv` and `_test.csv`.
 *
 * The aggregated labels are what `openmic-2018.npz` has as Y_true where Y_mask is set, so the
 * archive with its features is not needed. As in the authors' own example an instrument is there
 * where its relevance is at least 0.5. Of most instruments of a clip nobody was asked: the column
 * `known` of the labelled folder names the others.
 *
 * The set has no validation part. It is taken from the training part by artists, whom the authors
 * keep apart between training and test as well: all clips of artists whose number in the Free Music
 * Archive ends in 9, about a tenth.
 *
 * @module
 */
import { NoDataError } from "../errors.ts";
import { type Dataset, locate, readLines, readTable } from "./dataset.ts";

const THRESHOLD = 0.5;

/** OpenMIC-2018. */
export const OPENMIC: Dataset = {
  title: "OpenMIC-2018",
  about:
    "the authors' split01; validation is the training clips of artists whose number ends in 9; " +
    "a class is there at a relevance of 0.5",
  metric: "mAP",
  column: "split",
  clips: 20_000,
  classes: 20,
  async read(dir) {
    const { root, audio, ...lists } = await locate(dir, "OpenMIC-2018", ["", "openmic-2018"], [{
      audio: "audio",
      labels: "openmic-2018-aggregated-labels.csv",
      metadata: "openmic-2018-metadata.csv",
      train: "partitions/split01_train.csv",
      test: "partitions/split01_test.csv",
    }]);
    const labels = new Map<string, { readonly labels: string[]; readonly known: string[] }>();
    const answers = await readTable(lists.labels, ["sample_key", "instrument", "relevance"]);
    for (const { sample_key, instrument, relevance } of answers) {
      const own = labels.get(sample_key) ?? { labels: [], known: [] };
      labels.set(sample_key, own);
      own.known.push(instrument);
      if (Number(relevance) >= THRESHOLD) own.labels.push(instrument);
    }
    const artists = new Map(
      (await readTable(lists.metadata, ["sample_key", "artist_id"]))
        .map(({ sample_key, artist_id }) => [sample_key, Number(artist_id)]),
    );
    const clip = (key: string, part: string) => {
      const own = labels.get(key);
      const artist = artists.get(key);
      if (own === undefined || artist === undefined || Number.isNaN(artist)) {
        throw new NoDataError(`${dir}: labels or metadata lack clip ${key}, which partitions has`);
      }
      return {
        file: `${key.slice(0, 3)}/${key}.ogg`,
        ...own,
        part: part === "train" && artist % 10 === 9 ? "validation" : part,
      };
    };
    const clips = [
      ...(await readLines(lists.train)).map((key) => clip(key, "train")),
      ...(await readLines(lists.test)).map((key) => clip(key, "test")),
    ];
    return { root, audio, folders: [""], clips };
  },
};
