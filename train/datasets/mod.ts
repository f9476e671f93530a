/**
 * The data sets by the names that `deno task dataset` takes (train/README.md, Labelled data sets:
 * also how to add one). Each has a file that reads its lists with the means of dataset.ts;
 * write_labelled.ts holds the lists against the files and writes the labelled folder.
 *
 * @module
 */
import type { Dataset } from "./dataset.ts";
import { CREMAD, SURGE, VOXFORGE } from "./evar_list.ts";
import { ESC50 } from "./esc50.ts";
import { FSD50K } from "./fsd50k.ts";
import { GTZAN } from "./gtzan.ts";
import { HEAR_TASK } from "./hear.ts";
import { MTT } from "./mtt.ts";
import { NSYNTH } from "./nsynth.ts";
import { OPENMIC } from "./openmic.ts";
import { SPCV1, SPCV2 } from "./speech_commands.ts";
import { US8K } from "./us8k.ts";
import { VC1 } from "./voxceleb1.ts";

/** By name, in lower case and without dashes. */
export const DATASETS: Readonly<Record<string, Dataset>> = {
  esc50: ESC50,
  us8k: US8K,
  gtzan: GTZAN,
  nsynth: NSYNTH,
  openmic: OPENMIC,
  mtt: MTT,
  fsd50k: FSD50K,
  spcv1: SPCV1,
  spcv2: SPCV2,
  cremad: CREMAD,
  voxforge: VOXFORGE,
  surge: SURGE,
  vc1: VC1,
  hear: HEAR_TASK,
};
