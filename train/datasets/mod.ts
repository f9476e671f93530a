/**
 * The data sets by the names that `deno task dataset` takes (train/README.md, Labelled data sets:
 * also how to add one). Each has a file that reads its lists with the means of dataset.ts;
 * write_labelled.ts holds the lists against the files and writes the labelled folder.
 *
 * @module
 */
import type { Dataset } from "./dataset.ts";
import { ESC50 } from "./esc50.ts";
import { FSD50K } from "./fsd50k.ts";
import { GTZAN } from "./gtzan.ts";
import { MTT } from "./mtt.ts";
import { NSYNTH } from "./nsynth.ts";
import { OPENMIC } from "./openmic.ts";
import { US8K } from "./us8k.ts";

/** By name, in lower case and without dashes. */
export const DATASETS: Readonly<Record<string, Dataset>> = {
  esc50: ESC50,
  us8k: US8K,
  gtzan: GTZAN,
  nsynth: NSYNTH,
  openmic: OPENMIC,
  mtt: MTT,
  fsd50k: FSD50K,
};
