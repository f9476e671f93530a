/**
 * Sound events: from probabilities of frames to events, and how well their onsets are found
 * (model/README.md, HEAR; task_predictions.py and score.py of hear-eval-kit, sound_event.py of
 * sed_eval).
 *
 * @module
 */

/** A sound that begins and ends. */
export interface SoundEvent {
  /** Its class, by number. */
  readonly label: number;
  /** ms. */
  readonly onset: number;
  /** ms. */
  readonly offset: number;
}

/** How probabilities become events. */
export interface EventRule {
  /** Width of the median filter over time, ms; 0 for none. */
  readonly median: number;
  /** Events whose last frame begins less than this after the first one, ms, are dropped. */
  readonly least: number;
}

/** Frames above it are active. */
const THRESHOLD = 0.5;

/**
 * Which classes are active when a frame begins: those of events from onset to offset, both
 * included.
 *
 * @param times where frames begin, ms
 * @returns [frames, classes], 1 or 0
 */
export function frameTargets(
  events: readonly SoundEvent[],
  times: ArrayLike<number>,
  classes: number,
): Float32Array {
  const targets = new Float32Array(times.length * classes);
  for (let t = 0; t < times.length; t++) {
    for (const { label, onset, offset } of events) {
      if (onset <= times[t] && times[t] <= offset) targets[t * classes + label] = 1;
    }
  }
  return targets;
}

/**
 * Median of `width` neighbours, as scipy.ndimage.median_filter: beyond the ends values are mirrored
 * (d c b a | a b c d), and of an even number, which reaches one further back than ahead, the upper
 * one of the two in the middle is taken.
 */
export function medianFilter(values: Float32Array, width: number): Float32Array {
  const { length } = values;
  const mirrored = (i: number): number => {
    const at = ((i % (2 * length)) + 2 * length) % (2 * length);
    return values[at < length ? at : 2 * length - 1 - at];
  };
  const back = Math.floor(width / 2);
  return values.map((_, i) =>
    Float32Array.from({ length: width }, (_, k) => mirrored(i - back + k)).sort()[back]
  );
}

/** Rounds as Python does: halves go to the even number. */
function rounded(x: number): number {
  const below = Math.floor(x);
  return x - below === 0.5 ? below + below % 2 : Math.round(x);
}

/**
 * Events in a file, by onset: filtered probabilities above one half, neighbouring frames together.
 * An event begins and ends where its first and its last frame begin, so that a single frame lasts 0
 * ms.
 *
 * @param probabilities [frames, classes]
 * @param times where frames begin, ms, equally far apart
 */
export function eventsOf(
  probabilities: Float32Array,
  times: ArrayLike<number>,
  { median, least }: EventRule,
): SoundEvent[] {
  const frames = times.length;
  const classes = probabilities.length / frames;
  const hop = frames > 1 ? (times[frames - 1] - times[0]) / (frames - 1) : Infinity;
  const width = rounded(median / hop);
  const events: SoundEvent[] = [];
  for (let label = 0; label < classes; label++) {
    const column = Float32Array.from(
      { length: frames },
      (_, t) => probabilities[t * classes + label],
    );
    // No median is above what all values are not above.
    if (!column.some((it) => it > THRESHOLD)) continue;
    const smooth = width > 0 ? medianFilter(column, width) : column;
    for (let t = 0; t < frames; t++) {
      if (!(smooth[t] > THRESHOLD)) continue;
      const first = t;
      while (t + 1 < frames && smooth[t + 1] > THRESHOLD) t++;
      const [onset, offset] = [times[first], times[t]];
      if (offset - onset >= least) events.push({ label, onset, offset });
    }
  }
  return events.sort((a, b) => a.onset - b.onset);
}

/**
 * The most pairs of an onset that is true and one that was found, no more than `tolerance` apart,
 * each in one pair: a maximum bipartite matching. As all onsets have the same tolerance, pairing
 * them in order of time is one.
 */
export function matchedOnsets(
  truth: readonly number[],
  found: readonly number[],
  tolerance: number,
): number {
  const [a, b] = [truth, found].map((it) => [...it].sort((x, y) => x - y));
  let pairs = 0;
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (Math.abs(a[i] - b[j]) <= tolerance) {
      pairs++;
      i++;
      j++;
    } else if (a[i] < b[j]) i++;
    else j++;
  }
  return pairs;
}

/** How well onsets are found. */
export interface OnsetScore {
  /** Harmonic mean of precision and recall; 0 where nothing is right. */
  readonly f: number;
  /** Share of the events found that are true; 0 of none. */
  readonly precision: number;
  /** Share of the true events that are found; 0 of none. */
  readonly recall: number;
}

/** Events by number: true ones, found ones, and pairs of both. */
interface Counts {
  truth: number;
  found: number;
  pairs: number;
}

function scoreOf({ truth, found, pairs }: Counts): OnsetScore {
  const share = (all: number) => all === 0 ? 0 : pairs / all;
  return {
    f: pairs === 0 ? 0 : 2 * pairs / (truth + found),
    precision: share(found),
    recall: share(truth),
  };
}

/**
 * Event-based scores by onset: of all files and classes together (micro), and of each class.
 *
 * @param files true events of each file and those found in it
 * @param tolerance ms between onsets that count as the same, itself included
 */
export function onsetScores(
  files: readonly {
    readonly truth: readonly SoundEvent[];
    readonly found: readonly SoundEvent[];
  }[],
  classes: number,
  tolerance: number,
): OnsetScore & { readonly classes: readonly OnsetScore[] } {
  const counts = Array.from({ length: classes }, (_, k): Counts => {
    const onsets = (events: readonly SoundEvent[]) =>
      events.filter(({ label }) => label === k).map(({ onset }) => onset);
    return files.map(({ truth, found }) => [onsets(truth), onsets(found)] as const).reduce(
      (sum, [truth, found]) => ({
        truth: sum.truth + truth.length,
        found: sum.found + found.length,
        pairs: sum.pairs + matchedOnsets(truth, found, tolerance),
      }),
      { truth: 0, found: 0, pairs: 0 },
    );
  });
  const total = (key: keyof Counts) => counts.reduce((sum, it) => sum + it[key], 0);
  const all = { truth: total("truth"), found: total("found"), pairs: total("pairs") };
  return { ...scoreOf(all), classes: counts.map(scoreOf) };
}
