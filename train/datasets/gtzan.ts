/**
 * GTZAN (Tzanetakis, Cook 2002) with the fault-filtered split of Kereliuk, Sturm, Larsen, "Deep
 * Learning and Music Adversaries" (2015): 930 of the 1000 clips, without the repeated and distorted
 * ones that Sturm found, and no artist in two parts. `genres/blues/blues.00000.wav` and so on, as
 * the original archive or Kaggle's copy has them; neither has the split, so its numbers are here.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import { NoDataError } from "../errors.ts";
import { type Dataset, exists, type ListedClip, locate } from "./dataset.ts";

/**
 * Numbers of the clips of each part, as in their file names: those of `train_filtered.txt`,
 * `valid_filtered.txt` and `test_filtered.txt` of the authors
 * (https://github.com/coreyker/dnn-mgr), which count all genres through from 1.
 */
const SPLIT: Readonly<Record<string, Readonly<Record<"train" | "validation" | "test", string>>>> = {
  blues: {
    train: "29-49 73-97",
    validation: "0-11 50-60",
    test: "12-28 61-72 98-99",
  },
  classical: {
    train: "30-33 43-48 50-67 80-99",
    validation: "0-10 68-76",
    test: "11-29 34-41 49 77-79",
  },
  country: {
    train: "19-26 28-29 65-99",
    validation: "0-7 9-18 27 41-42 45 49",
    test: "30-40 43-44 46-48 50-51 53-64",
  },
  disco: {
    train: "5 15-20 22-37 39-45 47 49 53-54 56-57 59 61 70 73-74 89",
    validation: "0 2-4 6-14 46 48 52 67-68 72 75 90 95",
    test: "1 21 58 62-66 69 76-88 91-94 96-97 99",
  },
  hiphop: {
    train: "2-25 28-29 31-38 41-42 55-61 77-80",
    validation: "81-98",
    test: "0 26-27 30 40 43-45 51-54 62-75 99",
  },
  jazz: {
    train: "0-1 11-24 41 47-72",
    validation: "2-10 25-32",
    test: "73-99",
  },
  metal: {
    train: "2-3 5 21 24 35 46-57 59-66 69 71-72 79-80 84 86 89-99",
    validation: "0-1 6-11 16-20 36-37 68 76-77 81-82",
    test: "12-15 22-23 25-33 38-39 67 70 73-75 78 83 85 87-88",
  },
  pop: {
    train: "2-9 11-12 16-20 23-29 31-36 38-42 44 46 49-50 80 97-99",
    validation: "10 53 55 58-62 81 83-86",
    test: "0-1 13-14 43 63-66 69-79 82 88-96",
  },
  reggae: {
    train: "0-2 4 6 9 11-12 14-32 42-45 49-51 54-60 63 69",
    validation: "61-62 70 72 74 76-78 85 92-99",
    test: "34-40 46-48 52-53 64-68 71 79 82-84 87-90",
  },
  rock: {
    train: "0-9 16-26 57-70 91-99",
    validation: "38 49-56 71-85",
    test: "10-15 27-37 39-48 86-90",
  },
};

/** GTZAN. */
export const GTZAN: Dataset = {
  title: "GTZAN",
  about:
    "fault-filtered split of Kereliuk, Sturm and Larsen (443, 197, 290), which comes with Tessera",
  metric: "accuracy",
  column: "split",
  clips: 930,
  classes: 10,
  async read(dir) {
    const { root, audio } = await locate(
      dir,
      "GTZAN",
      ["", "gtzan", "GTZAN", "archive"],
      ["genres", "genres_original", "Data/genres_original", ""].map((audio) => ({
        audio,
        genre: join(audio, "blues"),
      })),
    );
    if (await exists(join(audio, "blues", "blues.00000.au"))) {
      throw new NoDataError(
        `${audio}: has .au files, which are not read; turn them into WAV beside them, in each ` +
          `of the folders:\n` +
          '  for f in *.au; do ffmpeg -i "$f" "${f%.au}.wav" && rm "$f"; done',
      );
    }
    return { root, audio, folders: Object.keys(SPLIT), clips: gtzanClips() };
  },
};

/** All 1000 clips, those outside the split without a part. */
export function gtzanClips(): ListedClip[] {
  return Object.entries(SPLIT).flatMap(([genre, parts]) => {
    const partOf = new Map(
      Object.entries(parts).flatMap(([part, ranges]) =>
        numbersOf(ranges).map((number) => [number, part] as const)
      ),
    );
    return Array.from({ length: 100 }, (_, number) => ({
      file: `${genre}/${genre}.${String(number).padStart(5, "0")}.wav`,
      labels: [genre],
      part: partOf.get(number),
    }));
  });
}

/** "3 7-9" to 3, 7, 8, 9. */
function numbersOf(ranges: string): number[] {
  return ranges.split(" ").flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}
