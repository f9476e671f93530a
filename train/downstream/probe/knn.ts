/**
 * Classes by nearest neighbours: what embeddings tell without any training.
 *
 * @module
 */
import { type Device, linear, noGrad, scope } from "../../../engine/mod.ts";
import { yieldToEventLoop } from "../../io/event_loop.ts";
import { InterruptedError } from "../../errors.ts";
import type { Scores } from "./metrics.ts";
import type { ProbeContext } from "./probe.ts";
import { type ProbeData, type Trial, trialsOf } from "./splits.ts";
import { type ProbeResult, summaryOf } from "./summary.ts";

/** Neighbours that vote, and how steeply their votes fall with distance. */
export const KNN = { neighbours: 20, temperature: 0.07 } as const;

/** Values of a matrix on the device, of which rows are taken at a time. */
const MOST_VALUES = 1 << 24;
/** Clips whose neighbours are looked for together. */
const ROWS = 128;

/**
 * Tests embeddings by their nearest neighbours in all folds: of the most similar training clips by
 * the cosine each votes for its classes with exp(similarity / temperature), as Wu et al.
 * (arXiv:1805.01978) do. Validation clips that a folder names are left out, others are neighbours.
 *
 * @returns one repeat, as nothing is drawn
 * @throws {NoDataError} as `trialsOf`
 * @throws {InterruptedError} when the signal aborted.
 */
export async function runKnn(
  { device, data, features, protocol, metric, onProgress, signal }: ProbeContext,
): Promise<ProbeResult> {
  const dim = features.length / data.clips.length;
  const unit = unitRows(features, dim);
  const trials = trialsOf(data, { ...protocol, repeats: 1 });
  const found = [];
  for (const [done, trial] of trials.entries()) {
    const test = await votes(device, data, unit, dim, trial, (share) => {
      if (signal?.aborted) throw new InterruptedError("interrupted");
      onProgress?.((done + share) / trials.length);
    });
    found.push({ test, epoch: 0, rate: 0 });
  }
  return summaryOf({ data, metric, dim }, trials, found);
}

/** Rows of length 1; zeros stay. */
function unitRows(features: Float32Array, dim: number): Float32Array {
  const unit = new Float32Array(features.length);
  for (let at = 0; at < features.length; at += dim) {
    let squares = 0;
    for (let i = at; i < at + dim; i++) squares += features[i] ** 2;
    const factor = squares > 0 ? 1 / Math.sqrt(squares) : 0;
    for (let i = at; i < at + dim; i++) unit[i] = features[i] * factor;
  }
  return unit;
}

/** Votes for all classes of the clips of a trial. */
async function votes(
  device: Device,
  { clips, classes, truth }: ProbeData,
  unit: Float32Array,
  dim: number,
  { train, validation, test }: Trial,
  onProgress: (share: number) => void,
): Promise<Scores> {
  const known = [...train, ...validation.filter((i) => clips[i].part !== "validation")];
  const rowsOf = (own: readonly number[]) => {
    const rows = new Float32Array(own.length * dim);
    own.forEach((clip, i) => rows.set(unit.subarray(clip * dim, (clip + 1) * dim), i * dim));
    return rows;
  };
  const values = new Float32Array(test.length * classes.length);
  const perPart = Math.max(1, Math.floor(MOST_VALUES / dim));
  const best = test.map((): [similarity: number, clip: number][] => []);
  const parts = Math.ceil(known.length / perPart);
  for (let part = 0; part < parts; part++) {
    const own = known.slice(part * perPart, (part + 1) * perPart);
    using matrix = device.tensor(rowsOf(own), [own.length, dim]);
    for (let first = 0; first < test.length; first += ROWS) {
      await yieldToEventLoop();
      onProgress((part + first / test.length) / parts);
      const some = test.slice(first, first + ROWS);
      using similar = noGrad(() =>
        scope(() => linear(device.tensor(rowsOf(some), [some.length, dim]), matrix))
      );
      const all = await similar.data();
      some.forEach((_, i) => {
        const row = all.subarray(i * own.length, (i + 1) * own.length);
        nearest(best[first + i], row, own);
      });
    }
  }
  best.forEach((neighbours, i) => {
    for (const [similarity, clip] of neighbours) {
      // The largest similarity is 1: nothing overflows.
      const vote = Math.exp((similarity - 1) / KNN.temperature);
      for (const k of truth[clip]) if (k >= 0) values[i * classes.length + k] += vote;
    }
  });
  return { values, classes: classes.length };
}

/** Adds to the most similar clips so far, the most similar first; of equal ones the first stays. */
function nearest(
  best: [similarity: number, clip: number][],
  row: Float32Array,
  clips: readonly number[],
): void {
  row.forEach((similarity, j) => {
    if (best.length === KNN.neighbours && similarity <= best[best.length - 1][0]) return;
    let at = best.length;
    while (at > 0 && best[at - 1][0] < similarity) at--;
    best.splice(at, 0, [similarity, clips[j]]);
    if (best.length > KNN.neighbours) best.pop();
  });
}
