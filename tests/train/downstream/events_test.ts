/**
 * From probabilities to events, scores of onsets, and AUC: known answers and definitions written
 * anew.
 */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { Prng } from "../../../engine/prng.ts";
import {
  eventsOf,
  frameTargets,
  matchedOnsets,
  medianFilter,
  onsetScores,
} from "../../../train/downstream/hear/events.ts";
import { macroAuc, rocAuc } from "../../../train/downstream/probe/metrics.ts";

const times = (frames: number, hop: number) =>
  Float32Array.from({ length: frames }, (_, t) => t * hop);

Deno.test("events: the median filter is scipy's", () => {
  // What scipy.ndimage.median_filter(x, size) gives.
  const x = Float32Array.of(3, 1, 4, 1, 5, 9, 2, 6);
  assertEquals([...medianFilter(x, 1)], [...x]);
  assertEquals([...medianFilter(x, 2)], [3, 3, 4, 4, 5, 9, 9, 6]);
  assertEquals([...medianFilter(x, 3)], [3, 3, 1, 4, 5, 5, 6, 6]);
  assertEquals([...medianFilter(x, 4)], [3, 3, 3, 4, 5, 5, 6, 6]);
  assertEquals([...medianFilter(x, 5)], [3, 3, 3, 4, 4, 5, 6, 6]);
  // Wider than the signal: [b a | a b | b a].
  assertEquals([...medianFilter(Float32Array.of(1, 2), 5)], [2, 1]);
});

Deno.test("events: frames become events, short ones are dropped, gaps and specks are smoothed away", () => {
  const column = (text: string) => Float32Array.from(text, (it) => it === "x" ? 0.9 : 0.1);
  const found = (text: string, hop: number, median: number, least: number) =>
    eventsOf(column(text), times(text.length, hop), { median, least })
      .map(({ onset, offset }) => [onset, offset]);
  assertEquals(found("..xxx..x.xx", 50, 0, 0), [[100, 200], [350, 350], [450, 500]]);
  assertEquals(found("..xxx..x.xx", 50, 0, 50), [[100, 200], [450, 500]]);
  assertEquals(found("..xxx..x.xx", 50, 0, 100), [[100, 200]], "the limit itself is long enough");
  assertEquals(found("..xxx..x.xx", 50, 0, 101), []);
  // Five frames wide: a speck of two goes, a gap of two is filled.
  assertEquals(found("..xx......xxxx..xxxx..", 50, 250, 125), [[500, 950]]);
  assertEquals(found("xxxx......", 50, 250, 0), [[0, 150]], "ends are mirrored");
  // 250 ms of 160 ms frames are two of them: the maximum of a frame and the one before.
  assertEquals(found("..x.x..", 160, 250, 0), [[320, 800]]);
  // 2.5 frames are two and 3.5 are four, as in Python.
  assertEquals(found("..x....", 100, 250, 0), [[200, 300]]);
  assertEquals(found("..xx...", 100, 350, 0), [[200, 400]]);
  assertEquals(found("x", 100, 250, 0), [[0, 0]]);
  assertEquals(eventsOf(Float32Array.of(0.5, 0.51), [0, 10], { median: 0, least: 0 }), [
    { label: 0, onset: 10, offset: 10 },
  ], "one half is not above one half");
  const two = eventsOf(Float32Array.of(0, 0.9, 0.9, 0.9), [0, 10], { median: 0, least: 0 });
  assertEquals(two, [
    { label: 1, onset: 0, offset: 10 },
    { label: 0, onset: 10, offset: 10 },
  ]);
});

Deno.test("events: targets of frames are the events that sound when they begin, ends included", () => {
  const events = [{ label: 0, onset: 100, offset: 200 }, { label: 1, onset: 150, offset: 160 }];
  assertEquals([...frameTargets(events, [0, 100, 150, 200, 201], 2)], [
    0,
    0,
    1,
    0,
    1,
    1,
    1,
    0,
    0,
    0,
  ]);
});

/** The largest matching by trying all. */
function bruteForce(a: readonly number[], b: readonly number[], tolerance: number): number {
  if (a.length === 0) return 0;
  const [first, ...rest] = a;
  return Math.max(
    bruteForce(rest, b, tolerance),
    ...b.map((it, j) =>
      Math.abs(first - it) <= tolerance ? 1 + bruteForce(rest, b.toSpliced(j, 1), tolerance) : 0
    ),
  );
}

Deno.test("events: onsets are matched one to one, as many as can be", () => {
  assertEquals(matchedOnsets([100], [300], 200), 1, "the tolerance itself");
  assertEquals(matchedOnsets([100], [301], 200), 0);
  assertEquals(matchedOnsets([100, 110], [105], 50), 1, "one for one");
  // Nearest first would pair 100 with 90 and leave 0 alone.
  assertEquals(matchedOnsets([0, 100], [90, 180], 100), 2);
  assertEquals(matchedOnsets([], [1], 5), 0);
  const random = new Prng(1);
  for (let i = 0; i < 300; i++) {
    const draw = () => Array.from({ length: random.integer(7) }, () => random.integer(40));
    const [a, b, tolerance] = [draw(), draw(), random.integer(8)];
    assertEquals(matchedOnsets(a, b, tolerance), bruteForce(a, b, tolerance), `${a}; ${b}`);
  }
});

Deno.test("events: precision, recall and F of onsets, of all and by class", () => {
  const event = (label: number, onset: number) => ({ label, onset, offset: onset + 10 });
  const files = [
    { truth: [event(0, 0), event(0, 1000), event(1, 500)], found: [event(0, 40), event(1, 900)] },
    { truth: [event(1, 0)], found: [event(1, 50), event(0, 0), event(1, 60)] },
    { truth: [], found: [] },
  ];
  const { classes, ...all } = onsetScores(files, 3, 50);
  // Right: 0 in the first file, 1 in the second; 4 are true, 5 were found.
  assertEquals([all.precision, all.recall], [2 / 5, 2 / 4]);
  assertAlmostEquals(all.f, 2 * 0.4 * 0.5 / 0.9, 1e-15);
  assertEquals(classes[0], { f: 0.5, precision: 0.5, recall: 0.5 });
  assertEquals(classes[1], { f: 2 / 5, precision: 1 / 3, recall: 1 / 2 });
  assertEquals(classes[2], { f: 0, precision: 0, recall: 0 });
  // In another file, or of another class, it is not right.
  const apart = [{ truth: [event(0, 0)], found: [event(1, 0)] }, {
    truth: [],
    found: [event(0, 0)],
  }];
  assertEquals(onsetScores(apart, 2, 50).f, 0);
});

Deno.test("AUC is the chance that a positive scores higher, ties by half", () => {
  const random = new Prng(2);
  for (let i = 0; i < 50; i++) {
    const n = 2 + random.integer(40);
    // Few values, so that many are tied.
    const scores = Float32Array.from({ length: n }, () => random.integer(6) / 4);
    const positive = Array.from(
      { length: n },
      (_, k) => k === 0 || (k > 1 && random.uniform() < 0.4),
    );
    let [sum, pairs] = [0, 0];
    scores.forEach((a, p) =>
      scores.forEach((b, q) => {
        if (!positive[p] || positive[q]) return;
        sum += a > b ? 1 : a === b ? 0.5 : 0;
        pairs++;
      })
    );
    assertAlmostEquals(rocAuc(scores, (clip) => positive[clip]), sum / pairs, 1e-12);
  }
  assert(Number.isNaN(rocAuc([1, 2], () => true)) && Number.isNaN(rocAuc([1, 2], () => false)));
  // Class 0 is separated, 1 the wrong way round, 2 has no clips.
  const values = Float32Array.of(0.9, 0.1, 0, 0.2, 0.3, 0, 0.1, 0.4, 0);
  assertEquals(macroAuc({ values, classes: 3 }, [[0, 1], [], []]), (1 + 0) / 2);
});
