/**
 * Classification by the nearest neighbours, which learns nothing: what features are by themselves.
 *
 * @module
 */
import type { ClipClasses } from "./metrics.ts";
import type { Similarities } from "./similarity.ts";

/** Temperature of the votes, as in Wu et al. 2018 and DINO. */
const TEMPERATURE = 0.07;

/**
 * Scores of clips by the `neighbours` clips of highest cosine: the share that a class has of their
 * votes, each worth exp(cosine / 0.07). Of equal cosines the clip that comes first is nearer.
 *
 * @param similarities inner products, as {@link similaritiesOf} makes them
 * @param truth classes of the clips that are learned from; a class that is not known gets no vote
 * @param classes how many there are
 * @returns [test, classes]
 */
export function neighbourScores(
  { train, test, testSquares }: Similarities,
  truth: ClipClasses,
  classes: number,
  neighbours: number,
): Float32Array {
  const clips = truth.length;
  const lengths = truth.map((_, i) => Math.sqrt(Math.max(0, train[i * clips + i])));
  const scores = new Float32Array(testSquares.length * classes);
  testSquares.forEach((square, row) => {
    const cosines = lengths.map((length, i) => {
      const both = length * Math.sqrt(square);
      return both > 0 ? test[row * clips + i] / both : 0;
    });
    const nearest = cosines.map((_, i) => i)
      .sort((a, b) => cosines[b] - cosines[a] || a - b)
      .slice(0, neighbours);
    const votes = nearest.map((i) => Math.exp((cosines[i] - cosines[nearest[0]]) / TEMPERATURE));
    const total = votes.reduce((a, b) => a + b, 0);
    nearest.forEach((i, at) => {
      for (const k of truth[i]) if (k >= 0) scores[row * classes + k] += votes[at] / total;
    });
  });
  return scores;
}
