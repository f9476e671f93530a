/**
 * What the server answers, and what a saved page holds.
 *
 * @module
 */
import type { ProbeFile } from "../downstream/probe/probe_layer.ts";
import type { ListedRun } from "../run/run_list.ts";

/** A run in the list. */
export interface RunItem extends Omit<ListedRun, "dir"> {
  /** By which it is asked for. */
  readonly id: string;
  /** Its path inside the folder. */
  readonly name: string;
  /** Rows that were read so far. */
  readonly rows: number;
  /** Share of metrics.jsonl that was read. */
  readonly read: number;
  /** Lines of metrics.jsonl that hold no row. */
  readonly damaged: number;
  /** Metrics that its rows have. */
  readonly metrics: readonly string[];
  /** Values of the newest row. */
  readonly newest: Readonly<Record<string, number>>;
  /** Seconds until it is done, of a run that is being written. */
  readonly left: number | null;
  /** What is wrong with it. */
  readonly message?: string;
}

/** What the page is told first. */
export interface Overview {
  /** The folder, as it was given. */
  readonly folder: string;
  /** Its runs. */
  readonly runs: readonly RunItem[];
  /** The checkpoint that sounds are looked at with, as it was given. */
  readonly checkpoint: string | null;
  /** The folder of sounds, as it was given. */
  readonly collection: string | null;
  /** The probe that names sounds, as it was given. */
  readonly probe: string | null;
  /** Things to know: a folder that is not there and the like. */
  readonly notes: readonly string[];
}

/** A file that was skipped. */
export interface SkippedRow {
  readonly path: string;
  readonly reason: string;
}

/** More of a run. */
export interface RunDetails {
  /** The options of config.json by name; null where it cannot be read. */
  readonly options: Readonly<Record<string, unknown>> | null;
  /** What config.json says of machine and versions. */
  readonly machine: Readonly<Record<string, string>>;
  /** The command that goes on with it; null where there is nothing to go on with. */
  readonly resume: string | null;
  /** The first skipped files. */
  readonly skipped: readonly SkippedRow[];
  /** How many there are. */
  readonly skippedCount: number;
  /** Scores by step. */
  readonly evaluations: readonly { readonly step: number; readonly score: number }[];
  /** accuracy or mAP. */
  readonly metric: string | null;
}

/** Which curves are asked for. */
export interface SeriesQuery {
  readonly runs: readonly string[];
  readonly metric: string;
  /** Along which axis. */
  readonly x: "step" | "seconds";
  readonly from?: number;
  readonly to?: number;
  readonly columns: number;
  readonly log: boolean;
  readonly smooth: number;
}

/** What happens. */
export type StudioEvent =
  | { readonly kind: "runs"; readonly runs: readonly RunItem[] }
  | { readonly kind: "rows"; readonly runs: readonly string[] };

/** A run as a saved page holds it. */
export interface SavedRun {
  readonly item: RunItem;
  readonly details: RunDetails;
  /** Points of each metric: places along both axes and values, each f32 in base64. */
  readonly curves: Readonly<Record<string, { step: string; seconds: string; y: string }>>;
  /** When it was saved. */
  readonly date: string;
}

/** Values as bytes: 0 to 255 from the low to the high end of a range. */
export interface Picture {
  readonly rows: number;
  readonly columns: number;
  /** Row by row, the lowest first, in base64. */
  readonly bytes: string;
  /** Values at 0 and 255. */
  readonly range: readonly [low: number, high: number];
}

/** What sounds can be looked at with. */
export interface ModelItem {
  readonly id: string;
  readonly title: string;
}

/** Where pictures were computed. */
export interface Computed {
  /** The model, in words. */
  readonly model: string;
  /** Who computed, in words. */
  readonly by: string;
  readonly seconds: number;
}

/** A clip of a batch. */
export interface BatchClip {
  readonly name: string;
  /** In decibels. */
  readonly input: Picture;
  /** The same, predictions where it is masked; null for models that paint none. */
  readonly painted: Picture | null;
  /** [patches]: 0 visible, 1 masked, row by row, low frequencies first. */
  readonly mask: readonly number[];
}

/** A batch as a run sees it. */
export interface BatchAnswer extends Computed {
  readonly clips: readonly BatchClip[];
  readonly grid: { readonly rows: number; readonly columns: number };
  readonly seconds: number;
  /** Seconds of a clip. */
  readonly length: number;
  /** What is seen, in words. */
  readonly words: string;
}

/** A clip of the collection. */
export interface CollectionClip {
  /** By which it is asked for. */
  readonly n: number;
  readonly name: string;
  readonly labels: readonly string[];
}

/** The map, or how far it is. */
export type MapAnswer =
  | { readonly state: "busy"; readonly words: string; readonly share: number }
  | { readonly state: "failed"; readonly error: string }
  | ({
    readonly state: "ready";
    readonly clips: readonly CollectionClip[];
    /** Coordinates along two components, one clip after the other. */
    readonly components: readonly (readonly number[])[];
    /** Shares of the variance. */
    readonly shares: readonly number[];
    /** Coordinates of UMAP; null where there are too few clips. */
    readonly neighbours: readonly (readonly number[])[] | null;
    readonly skipped: readonly SkippedRow[];
  } & Computed);

/** The part of a sound whose patches can be chosen. */
export interface Chunk {
  /** Seconds. */
  readonly start: number;
  /** Seconds. */
  readonly length: number;
  readonly rows: number;
  readonly columns: number;
  readonly loudest: number;
  readonly classToken: boolean;
  readonly layers: number;
  readonly heads: number;
}

/** A probe as the page takes it, or why its labels cannot be shown. */
export type ProbeAnswer =
  | { readonly lacking: string }
  | (Pick<ProbeFile, "classes" | "multiLabel" | "features"> & {
    /** Values of f32 in base64. */
    readonly weight: string;
    readonly bias: string;
    readonly statistics?: { readonly mean: string; readonly std: string };
  });

/** What was found in a sound. */
export interface SoundAnswer extends Computed {
  /** By which more is asked for. */
  readonly id: string;
  readonly length: number;
  /** What the model's own front end gives. */
  readonly spectrogram: Picture;
  /** The front end in words. */
  readonly frontend: string;
  /** Frequencies that are marked beside it, and where: from 0 at the bottom to 1. */
  readonly hertz: readonly (readonly [hz: number, share: number])[];
  /** The part whose patches can be chosen; null where no attention is shown. */
  readonly chunk: Chunk | null;
  /** Embeddings along principal components, a step each; null for fewer than three steps. */
  readonly path: {
    readonly points: readonly (readonly number[])[];
    readonly shares: readonly number[];
    readonly times: readonly number[];
    readonly step: number;
  } | null;
  /** Probabilities of the likeliest classes, window by window; null without a probe. */
  readonly labels: {
    readonly classes: readonly string[];
    readonly values: readonly (readonly number[])[];
    /** Middles of the windows, seconds. */
    readonly times: readonly number[];
    /** Seconds of a window. */
    readonly window: number;
  } | null;
  /** What is not shown, and why, in words. */
  readonly lacking: readonly string[];
  /** Whether there is a reconstruction to ask for. */
  readonly paints: boolean;
}

/** Weights with which a token attends to others. */
export interface AttentionAnswer {
  readonly layers: number;
  readonly heads: number;
  readonly tokens: number;
  readonly classTokens: number;
  /** [layers, heads, tokens] f32 in base64. */
  readonly weights: string;
}

/** A chunk whose patches were hidden and painted. */
export interface PaintedAnswer {
  readonly input: Picture;
  readonly painted: Picture;
  readonly mask: readonly number[];
  readonly grid: { readonly rows: number; readonly columns: number };
  readonly words: string;
  /** The chunk as it was recorded, what its log-mel keeps, the reconstruction: addresses of WAV. */
  readonly sounds: readonly string[];
}

/** Clips near to a sound. */
export interface NearestAnswer {
  readonly clips: readonly (CollectionClip & { readonly similarity: number })[];
}
