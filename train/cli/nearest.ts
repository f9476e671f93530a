/**
 * The nearest of the words that are allowed, for messages about one that is not.
 *
 * @module
 */

/**
 * What other programs call an option, and what it may be called here: the first that a command has.
 */
const SYNONYMS: Readonly<Record<string, readonly string[]>> = {
  "batch-size": ["batch"],
  ckpt: ["checkpoint", "init", "resume"],
  cpu: ["adapter"],
  cuda: ["adapter"],
  destination: ["out"],
  device: ["adapter"],
  encoder: ["checkpoint"],
  fp16: ["precision"],
  gpu: ["adapter"],
  input: ["data", "dataset"],
  iterations: ["steps"],
  jobs: ["workers"],
  "learning-rate": ["lr"],
  loss: ["objective"],
  "max-steps": ["steps"],
  "micro-batch-size": ["micro-batch"],
  model: ["checkpoint", "preset", "objective"],
  "num-workers": ["workers"],
  output: ["out"],
  "output-dir": ["out"],
  restart: ["resume"],
  silent: ["quiet"],
  size: ["preset"],
  task: ["dataset"],
  threads: ["workers"],
  updates: ["steps"],
  verbose: ["quiet"],
  weights: ["checkpoint", "init"],
};

/**
 * Letters that have to be put in, left out, exchanged, or swapped with their neighbour to make one
 * word of another (optimal string alignment).
 */
export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      next[j] = Math.min(
        row[j] + 1,
        next[j - 1] + 1,
        row[j - 1] + Number(a[i - 1] !== b[j - 1]),
        isSwapped ? before[j - 2] + 1 : Infinity,
      );
    }
    [before, row] = [row, next];
  }
  return row[b.length];
}

/** The longest word that is compared letter by letter. */
const LONGEST = 40;

/**
 * The word that was probably meant: another name of the same, one that differs in case or in
 * underscores, the one with the fewest wrong letters (at most a third), or the only one that begins
 * so; undefined where none is near.
 */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const given = word.toLowerCase().replaceAll("_", "-");
  if (given.length > LONGEST) return undefined;
  if (words.includes(given)) return given;
  const synonym = Object.hasOwn(SYNONYMS, given)
    ? SYNONYMS[given].find((it) => words.includes(it))
    : undefined;
  if (synonym !== undefined) return synonym;
  const [best] = words
    .map((it) => ({ it, distance: editDistance(given, it) }))
    .filter(({ it, distance }) => distance <= Math.max(given.length, it.length) / 3)
    .sort((a, b) => a.distance - b.distance);
  if (best) return best.it;
  const longer = words.filter((it) => given.length > 1 && it.startsWith(given));
  return longer.length === 1 ? longer[0] : undefined;
}

/** "; did you mean X?" where a word is near, else nothing. */
export function suggestion(word: string, words: readonly string[], prefix = ""): string {
  const meant = nearest(word, words);
  return meant === undefined ? "" : `; did you mean ${prefix}${meant}?`;
}
