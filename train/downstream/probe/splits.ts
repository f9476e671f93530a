/**
 * Which clips a probe learns from, validates with and is tested on.
 *
 * @module
 */
import { NoDataError } from "../../errors.ts";
import { type LabelledClip, type LabelledFolder, trials } from "../../data/labelled_folder.ts";
import { Prng } from "../../../engine/prng.ts";
import type { ClipClasses } from "./metrics.ts";
import type { Protocol } from "./protocol.ts";

/** A labelled folder as probes take it: clips that can be used, classes as numbers. */
export interface ProbeData {
  /** How parts are used. */
  readonly protocol: LabelledFolder["protocol"];
  /** Clips in order. */
  readonly clips: readonly LabelledClip[];
  /** Names of the classes, sorted. */
  readonly classes: readonly string[];
  /** Classes of each clip. */
  readonly truth: ClipClasses;
  /** Whether a clip has several. */
  readonly multiLabel: boolean;
}

/** Sorts as people do: 2 before 10. */
const byName = new Intl.Collator("en", { numeric: true }).compare;

/**
 * Numbers the classes of a folder.
 *
 * @param usable clips that have features
 */
export function probeData(folder: LabelledFolder, usable: readonly LabelledClip[]): ProbeData {
  const classes = [...new Set(folder.clips.flatMap(({ labels }) => labels))].sort(byName);
  const numbers = new Map(classes.map((name, k) => [name, k]));
  return {
    protocol: folder.protocol,
    clips: usable,
    classes,
    truth: usable.map(({ labels, known }) => [
      ...new Set(labels.map((name) => numbers.get(name)!)),
      ...known === undefined
        ? []
        : classes.flatMap((name, k) => known.includes(name) || labels.includes(name) ? [] : [~k]),
    ]),
    multiLabel: folder.clips.some(({ labels, known }) => known !== undefined || labels.length > 1),
  };
}

/** One repeat of one fold; clips by number. */
export interface Trial {
  /** From 0. */
  readonly repeat: number;
  /** The part that is tested. */
  readonly fold: string;
  /** Clips to learn from. */
  readonly train: readonly number[];
  /** Clips that pick the epoch. */
  readonly validation: readonly number[];
  /** Clips to score. */
  readonly test: readonly number[];
}

/**
 * All repeats of all folds. Where the folder has no validation clips, each draws its own from its
 * training clips.
 *
 * @throws {NoDataError} if nothing is left to learn from, to validate with or to test.
 */
export function trialsOf(
  data: ProbeData,
  protocol: Pick<Protocol, "repeats" | "seed" | "heldOut" | "covering">,
): Trial[] {
  const { clips } = data;
  const numbers = clips.map((_, i) => i);
  const folds = trials(data, numbers, (i) => clips[i].part)
    .map(({ tried, known }) => ({
      fold: tried.length > 0 ? clips[tried[0]].part : "test",
      tried,
      known,
    }))
    .sort((a, b) => byName(a.fold, b.fold));
  const given = data.protocol === "split" && clips.some(({ part }) => part === "test")
    ? numbers.filter((i) => clips[i].part === "validation")
    : [];
  return Array.from(
    { length: protocol.repeats },
    (_, repeat) =>
      folds.map(({ fold, tried, known }, at): Trial => {
        const random = new Prng(protocol.seed + repeat, STREAMS.split, at);
        const [validation, train] = given.length > 0
          ? [given, known]
          : heldOut(known, data.truth, protocol, random);
        if (Math.min(train.length, validation.length, tried.length) === 0) {
          throw new NoDataError(
            `nothing is left to learn from, to validate with or to test when ${fold} is tested: ` +
              `${train.length}, ${validation.length} and ${tried.length} clips`,
          );
        }
        return { repeat, fold, train, validation, test: tried };
      }),
  ).flat();
}

/**
 * The trial of a probe that is to be used: trained on all folds but some clips for validation, or
 * where the folder has parts on its training part; tested on its validation clips.
 *
 * @throws {NoDataError} as {@link trialsOf}.
 */
export function finalTrial(
  data: ProbeData,
  protocol: Pick<Protocol, "seed" | "heldOut" | "covering">,
): Trial {
  const [first] = trialsOf(data, { ...protocol, repeats: 1 });
  if (data.protocol === "split") return { ...first, test: first.validation };
  const random = new Prng(protocol.seed, STREAMS.split, -1);
  const all = data.clips.map((_, i) => i);
  const [validation, train] = heldOut(all, data.truth, protocol, random);
  return { ...first, fold: "all folds", train, validation, test: validation };
}

/** Streams of random numbers that are independent of each other. */
export const STREAMS = { split: 1, initial: 2, order: 3, shots: 4 } as const;

/** Draws of one repeat of one fold. */
export function trialRandom(
  { seed }: Pick<Protocol, "seed">,
  { repeat, fold }: Trial,
  stream: number,
): Prng {
  return new Prng(seed + repeat, stream, ...[...fold].map((it) => it.codePointAt(0)!));
}

/** Takes validation clips away; returns them and the rest, both in order. */
function heldOut(
  known: readonly number[],
  truth: ClipClasses,
  { heldOut, covering }: Pick<Protocol, "heldOut" | "covering">,
  random: Prng,
): [validation: number[], train: number[]] {
  const count = Math.min(known.length - 1, Math.max(1, Math.round(known.length * heldOut)));
  const order = shuffled(known, random);
  const chosen = new Set<number>();
  if (covering) {
    const clipsOf = Map.groupBy(
      order.flatMap((clip) => truth[clip].filter((k) => k >= 0).map((k) => ({ k, clip }))),
      ({ k }) => k,
    );
    for (const [k, own] of clipsOf) {
      const covered = own.some(({ clip }) => chosen.has(clip) && truth[clip].includes(k));
      if (own.length > 1 && !covered) chosen.add(own[0].clip);
    }
  }
  for (const clip of order) {
    if (chosen.size >= count) break;
    chosen.add(clip);
  }
  return [known.filter((clip) => chosen.has(clip)), known.filter((clip) => !chosen.has(clip))];
}

/** The same items in a random order (Fisher and Yates). */
export function shuffled<Item>(items: readonly Item[], random: Prng): Item[] {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
