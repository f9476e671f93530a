/**
 * A linear probe that was saved: puts names to embeddings.
 *
 * @module
 */
import type { FeatureOptions } from "./features.ts";
import { probabilitiesOf } from "./metrics.ts";

/** What a probe file holds. */
export interface ProbeFile {
  /** Names of the classes. */
  readonly classes: readonly string[];
  /** Whether a clip can be of several: probabilities are of each class by itself then. */
  readonly multiLabel: boolean;
  /** How embeddings are made. */
  readonly features: FeatureOptions;
  /** SHA-256 of the encoder's file. */
  readonly checkpoint: string;
  /** Where it comes from: dataset, protocol, score. */
  readonly about: Readonly<Record<string, string | number | null>>;
  /** [classes, dim]. */
  readonly weight: Float32Array;
  /** [classes]. */
  readonly bias: Float32Array;
  /** [dim] each; embeddings are standardised with them. */
  readonly statistics?: { readonly mean: Float32Array; readonly std: Float32Array };
}

/** A class with its probability. */
export interface Prediction {
  /** Name. */
  readonly label: string;
  /** From 0 to 1. */
  readonly probability: number;
}

/** A probe that predicts. */
export class Probe {
  /** Takes what a file holds. */
  constructor(readonly file: ProbeFile) {}

  /** Values of an embedding. */
  get dim(): number {
    return this.file.weight.length / this.file.classes.length;
  }

  /**
   * The likeliest classes of a clip, the likeliest first.
   *
   * @param embedding [dim], made with the probe's `features` by its encoder
   * @param top how many at most
   * @throws {RangeError} for an embedding of another size.
   */
  predict(embedding: ArrayLike<number>, top: number): Prediction[] {
    const { classes, multiLabel } = this.file;
    const loss = multiLabel ? "binary" : "cross-entropy";
    const probabilities = probabilitiesOf(this.logits(embedding), classes.length, loss);
    return classes
      .map((label, k): Prediction => ({ label, probability: probabilities[k] }))
      .sort((a, b) => b.probability - a.probability)
      .slice(0, top);
  }

  /** Logits of all classes, in order. */
  logits(embedding: ArrayLike<number>): Float64Array {
    const { weight, bias, statistics } = this.file;
    const { dim } = this;
    if (embedding.length !== dim) {
      throw new RangeError(`the probe takes ${dim} values, not ${embedding.length}`);
    }
    if (!Array.from(embedding).every(Number.isFinite)) {
      throw new RangeError("the embedding holds a NaN or an infinity");
    }
    const x = Float64Array.from(
      embedding,
      (value, i) => statistics ? (value - statistics.mean[i]) / statistics.std[i] : value,
    );
    return Float64Array.from(
      bias,
      (offset, k) => x.reduce((sum, value, i) => sum + value * weight[k * dim + i], offset),
    );
  }
}
