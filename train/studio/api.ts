/**
 * What the server answers, and what a saved page holds.
 *
 * @module
 */
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
