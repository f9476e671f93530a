/**
 * Published scores of linear probes, in percent, to stand beside ours.
 *
 * @module
 */

/** An encoder that scores were published of. */
export type PublishedEncoder =
  | "matpac"
  | "matpac-plus"
  | "m2d"
  | "msm-mae"
  | "atst-clip"
  | "atst-frame"
  | "beats-iter3"
  | "beats-iter3-plus"
  | "mae-ast"
  | "passt"
  | "htsat";

/** A data set that scores were published on, by the name that `deno task dataset` has for it. */
export type PublishedSet =
  | "openmic"
  | "nsynth"
  | "gtzan"
  | "mtt"
  | "fsd50k"
  | "esc50"
  | "us8k"
  | "spcv2"
  | "vc1"
  | "voxforge"
  | "cremad"
  | "surge";

/** A score and where it is from. */
export interface Published {
  /** Percent. */
  readonly value: number;
  /** The table. */
  readonly source: string;
  /** How it was made otherwise than the rest of that table. */
  readonly note?: string;
}

/** A published table; † marks what it took from a system's own paper. */
interface PublishedTable {
  readonly source: string;
  readonly columns: readonly PublishedSet[];
  readonly rows: Readonly<Partial<Record<PublishedEncoder, string>>>;
}

const MUSIC_FIRST: readonly PublishedSet[] = [
  ...["openmic", "nsynth", "gtzan", "mtt", "fsd50k", "esc50", "us8k"] as const,
];

const MATPAC: PublishedTable = {
  source: "MATPAC, Table II (arXiv:2502.12031)",
  columns: MUSIC_FIRST,
  rows: {
    matpac: "85.3 74.3 85.3 41.1 55.2 93.5 89.4",
    m2d: "84.8 76.9† 83.9† 40.6 52.8 89.8† 87.1†",
    "atst-clip": "84.2 76.2† 79.9 39.1 58.5† 91.4 85.8†",
    "atst-frame": "83.1 75.9† 80.7 39.1 55.1† 87.5 85.8†",
    "beats-iter3": "82.7 72.4 80.0 38.3 46.7 87.5 85.4",
    "mae-ast": "79.4 71.2 64.1 36.9 41.1 84.4 81.3",
    passt: "86.5 72.9 87.4 40.4 61.3 97.0 89.1",
    htsat: "86.4 68.6 85.9 40.1 59.4 95.9 85.3",
    "beats-iter3-plus": "86.7 71.6 86.0 40.3 60.6 96.1 89.5",
  },
};

const MATPAC_PLUS: PublishedTable = {
  source: "MATPAC++, linear probes (arXiv:2508.12709)",
  columns: MUSIC_FIRST,
  rows: {
    "matpac-plus": "85.6 76.8 87.6 40.8 56.1 93.1 89.7",
    matpac: "85.5 76.2 85.5 41.1 55.6 93.0 89.7",
    m2d: "84.8 76.2 84.3 40.6 53.4 92.1 88.5",
  },
};

const EVAR: PublishedTable = {
  source: "EVAR, README (nttcslab/eval-audio-repr)",
  columns: ["esc50", "us8k", "spcv2", "vc1", "voxforge", "cremad", "gtzan", "nsynth", "surge"],
  rows: {
    "atst-clip": "94.1 85.8† 95.1† 72.0† 97.6 68.8 78.9 76.2† 32.8",
    "atst-frame": "90.9 85.8† 94.9† 77.4† 98.8 72.3 82.9 75.9† 40.6",
    "beats-iter3": "86.9 84.8 89.4 41.4 94.1 64.7 72.6 75.9 39.3",
    "beats-iter3-plus": "95.5 87.6 86.7 37.0 92.5 67.6 84.6 73.1 35.7",
    htsat: "95.7 83.8 82.1 18.1 82.3 56.2 85.1 73.3 26.3",
    m2d: "91.3 87.6 96.0 73.4 98.3 73.0 84.1 75.7 42.1",
    "msm-mae": "89.2 87.4 96.0 73.6 97.8 71.2 79.2 74.6 43.3",
  },
};

/** Tables by protocol, the one to be held against first. */
const TABLES: Readonly<Record<"matpac" | "evar" | "hear", readonly PublishedTable[]>> = {
  matpac: [MATPAC, MATPAC_PLUS, EVAR],
  evar: [EVAR, MATPAC, MATPAC_PLUS],
  // HEAR's perceptrons: nothing of linear probes compares with them.
  hear: [],
};

const OWN_PAPER = "from the system's own paper: other vectors, another protocol";

/** What was published of an encoder on a data set, the protocol's own table first. */
export function publishedOf(
  encoder: PublishedEncoder | undefined,
  set: PublishedSet | undefined,
  protocol: keyof typeof TABLES,
): Published[] {
  if (encoder === undefined || set === undefined) return [];
  return TABLES[protocol].flatMap(({ source, columns, rows }): Published[] => {
    const cell = rows[encoder]?.split(" ")[columns.indexOf(set)];
    if (cell === undefined) return [];
    const note = cell.endsWith("†") ? { note: OWN_PAPER } : {};
    return [{ value: parseFloat(cell), source, ...note }];
  });
}

/** Sets as folders are called, with the classes of the whole and the seconds that EVAR cuts to. */
const SETS: readonly {
  readonly name: PublishedSet;
  readonly folder: RegExp;
  readonly classes: number;
  readonly seconds?: number;
}[] = [
  { name: "esc50", folder: /esc-?50/, classes: 50, seconds: 5 },
  { name: "us8k", folder: /us8k|urbansound/, classes: 10, seconds: 4 },
  { name: "fsd50k", folder: /fsd-?50k/, classes: 200, seconds: 7.6358 },
  { name: "gtzan", folder: /gtzan|genres/, classes: 10, seconds: 30 },
  { name: "nsynth", folder: /nsynth/, classes: 11, seconds: 4 },
  { name: "openmic", folder: /openmic/, classes: 20 },
  { name: "mtt", folder: /mtt|magna-?tag/, classes: 50 },
  { name: "spcv2", folder: /spc-?v2|speech_?commands.*0?[._]0?2/, classes: 35, seconds: 1 },
  { name: "vc1", folder: /vc1|voxceleb-?1/, classes: 1251, seconds: 8.2 },
  { name: "voxforge", folder: /voxforge/, classes: 6, seconds: 5.8 },
  { name: "cremad", folder: /crema-?d/, classes: 6, seconds: 2.5 },
  { name: "surge", folder: /surge/, classes: 88, seconds: 4 },
];

/** Which published set a labelled folder is, by its name and its number of classes. */
export function setOf(
  folder: string,
  classes: number,
): { readonly name: PublishedSet; readonly seconds?: number } | undefined {
  return SETS.find((it) => it.classes === classes && it.folder.test(folder.toLowerCase()));
}
