/**
 * Clips of one length brought together, of any number that come one by one.
 *
 * @module
 */

/** A clip that waits for others of its length. */
export interface Waiting<Key> {
  /** Which clip. */
  readonly key: Key;
  /** Its samples. */
  readonly wave: Float32Array;
  /** Takes what goes wrong with it. */
  readonly failed?: (error: unknown) => void;
}

/** So many times as much as goes through together may wait for clips of the same length. */
const WAITING = 4;

/** The length that has most samples waiting. */
function largestOf(waiting: ReadonlyMap<number, readonly unknown[]>): number {
  const size = ([length, group]: readonly [number, readonly unknown[]]) => length * group.length;
  return [...waiting].reduce((a, b) => size(b) > size(a) ? b : a)[0];
}

/**
 * Groups of clips of one length, which come one after the other or not far behind.
 *
 * @param together samples of a group; four times as many may wait
 * @param most clips of a group; default what `together` holds, at least one
 */
export async function* equalLengths<Key>(
  clips: AsyncIterable<Waiting<Key>>,
  together: number,
  most?: number,
): AsyncGenerator<readonly Waiting<Key>[]> {
  /** By their length. */
  const waiting = new Map<number, Waiting<Key>[]>();
  let samples = 0;
  for await (const clip of clips) {
    const { length } = clip.wave;
    const group = waiting.get(length) ?? [];
    waiting.set(length, group);
    group.push(clip);
    samples += length;
    const full = group.length >= Math.max(1, most ?? Math.floor(together / length))
      ? length
      : samples > WAITING * together
      ? largestOf(waiting)
      : undefined;
    if (full === undefined) continue;
    const taken = waiting.get(full)!;
    waiting.delete(full);
    samples -= full * taken.length;
    yield taken;
  }
  yield* waiting.values();
}
