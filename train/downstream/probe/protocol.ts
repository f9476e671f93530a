/**
 * Protocols of linear probing: how a probe is trained, how often, and what it is judged by.
 *
 * @module
 */
import { UsageError } from "../../errors.ts";
import type { ProbeData } from "./splits.ts";

/** How a probe is trained and repeated. */
export interface Protocol {
  /**
   * Adam's learning rate; of several each layer takes the one that is best on its validation clips.
   */
  readonly rates: readonly number[];
  /** Clips of an update. */
  readonly batch: number;
  /** Most epochs. */
  readonly epochs: number;
  /** Epochs without a better one after which training stops. */
  readonly patience: number;
  /** How often everything is done, each time with other draws. */
  readonly repeats: number;
  /** Draws of repeat `r` come from `seed + r`. */
  readonly seed: number;
  /** What picks the epoch; see `TrainSettings`. */
  readonly criterion: "loss" | "metric";
  /** Whether of equally good epochs the last is taken. */
  readonly later: boolean;
  /** Whether features are standardised with mean and deviation of the training clips. */
  readonly standardise: boolean;
  /** L2 penalty. */
  readonly weightDecay: number;
  /** Share of the training clips that is validation where the folder names none. */
  readonly heldOut: number;
  /** Whether that has a clip of every class that can spare one. */
  readonly covering: boolean;
  /** Whether cross-entropy is divided by the number of classes. */
  readonly perClass: boolean;
}

/**
 * Named protocols: the paper's, and EVAR's but for its random crops (model/README.md, Probes).
 */
export const PROTOCOLS = {
  matpac: {
    rates: [1e-4],
    batch: 128,
    epochs: 200,
    patience: 20,
    repeats: 5,
    seed: 42,
    criterion: "loss",
    later: false,
    standardise: false,
    weightDecay: 0,
    heldOut: 0.1,
    covering: false,
    perClass: false,
  },
  evar: {
    rates: [3e-5],
    batch: 200,
    epochs: 200,
    patience: 20,
    repeats: 3,
    seed: 42,
    criterion: "metric",
    later: true,
    standardise: true,
    weightDecay: 1e-8,
    heldOut: 0.1,
    covering: true,
    perClass: true,
  },
} as const satisfies Record<string, Protocol>;

/** What a probe is judged by. */
export type Metric = "accuracy" | "balanced" | "mAP" | "AUC";

/**
 * The metric that fits the labels, if none is asked for.
 *
 * @throws {UsageError} for an accuracy where clips have several labels.
 */
export function metricFor({ multiLabel }: ProbeData, requested: Metric | undefined): Metric {
  if (multiLabel && (requested === "accuracy" || requested === "balanced")) {
    throw new UsageError(
      `--metric ${requested}: clips with several labels are judged by mAP or AUC`,
    );
  }
  return requested ?? (multiLabel ? "mAP" : "accuracy");
}
