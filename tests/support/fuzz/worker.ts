/**
 * Reads fuzzing inputs in a thread of its own, so that one that hangs can be ended.
 *
 * @module
 */
import { describeError, exitCodeOf } from "../../../train/errors.ts";
import { fuzzInput } from "./mutate.ts";

/** What a thread is to read. */
export interface FuzzOrder {
  /** Module with a table of targets named FUZZ_TARGETS. */
  readonly targets: string;
  /** Which of them. */
  readonly target: string;
  /** Decides all inputs. */
  readonly seed: number;
  /** Number of the first input. */
  readonly from: number;
  /** Number behind the last. */
  readonly to: number;
  /** For the target's files. */
  readonly folder: string;
  /** Number of the input that is being read, and since when, in milliseconds. */
  readonly now: SharedArrayBuffer;
}

/** What a thread says: that input `index` is wrong, or, without one, that all are read. */
export type FuzzReply = { readonly index?: number; readonly what: string };

/** Exit codes of errors that say that a file is wrong. */
const EXPECTED: ReadonlySet<number> = new Set([2, 4]);
/** Errors that say that a file is wrong, and get their exit code from what reads it. */
const EXPECTED_NAMES: ReadonlySet<string> = new Set([
  "NpyError",
  "EncoderError",
  "FileError",
  "AudioError",
]);
/** Most characters of an error's message; what reaches a terminal of it is cut further. */
const MOST_MESSAGE = 65536;

/** What is wrong with an error; nothing if a person may see it. */
function judged(error: unknown): string | undefined {
  const text = describeError(error);
  if (!EXPECTED.has(exitCodeOf(error)) && !EXPECTED_NAMES.has((error as Error)?.name)) {
    return error instanceof Error ? error.stack ?? text : text;
  }
  const { length } = (error as Error).message;
  if (length > MOST_MESSAGE) return `a message of ${length} characters`;
  return /(?![\n\t])\p{Cc}/u.test(text) ? `a message with control characters: ${text}` : undefined;
}

const thread = self as unknown as {
  onmessage: (event: MessageEvent<FuzzOrder>) => void;
  postMessage(reply: FuzzReply): void;
};

thread.onmessage = async ({ data: { targets, target, seed, from, to, folder, now } }) => {
  const { read, ...corpus } = (await import(targets)).FUZZ_TARGETS[target]();
  const state = new Float64Array(now);
  for (let index = from; index < to; index++) {
    const bytes = fuzzInput(corpus, seed, index);
    state.set([index, Date.now()]);
    try {
      await read(bytes, folder);
    } catch (error) {
      const what = judged(error);
      if (what !== undefined) thread.postMessage({ index, what });
    }
    state[1] = 0;
  }
  thread.postMessage({ what: "done" });
};
