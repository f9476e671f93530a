/**
 * Reads damaged files and finds those that a reader does not end on with a value or an expected
 * error, within a time and a memory.
 *
 * @module
 */
import { join } from "@std/path";
import { type Corpus, fuzzInput } from "./mutate.ts";
import type { FuzzOrder, FuzzReply } from "./worker.ts";

/** How long and how hard is tried. */
export interface FuzzOptions {
  /** Module with the targets; default: targets.ts. */
  readonly targets?: string;
  /** Which of them. */
  readonly target: string;
  /** Decides all inputs. */
  readonly seed: number;
  /** Number of the first input; default 0. */
  readonly from?: number;
  /** Most inputs; default without end. */
  readonly inputs?: number;
  /** Ends by itself after so many seconds; default without end. */
  readonly seconds?: number;
  /** Most seconds of one input; default 5. */
  readonly inputSeconds?: number;
  /** Most bytes that the process grows by; default 512 MiB. */
  readonly memory?: number;
  /** Where inputs that show a fault are kept; default nowhere. */
  readonly keep?: string;
}

/** An input that shows a fault. `fuzzInput` makes it again from target, seed and index. */
export interface Finding {
  /** Which target. */
  readonly target: string;
  /** Under which seed. */
  readonly seed: number;
  /** Which input. */
  readonly index: number;
  /** What it does. */
  readonly what: string;
  /** The input, where it is kept. */
  readonly file?: string;
}

/** What was tried and found. */
export interface FuzzResult {
  /** Inputs that were read. */
  readonly tried: number;
  /** What shows a fault; at most {@link MOST_FINDINGS}, with which it ends. */
  readonly findings: readonly Finding[];
}

/** Findings after which there is enough to do. */
export const MOST_FINDINGS = 20;
/** Inputs that one thread reads; its memory is given back then. */
const PER_THREAD = 2000;
/** Milliseconds between two looks at a thread. */
const LOOK = 20;

const TARGETS = new URL("targets.ts", import.meta.url).href;

/** Tries a target. */
export async function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const { targets = TARGETS, target, seed, inputs = Infinity, seconds = Infinity, keep } = options;
  const start = options.from ?? 0;
  const end = Date.now() + 1000 * seconds;
  const findings: Finding[] = [];
  const corpus: Corpus = (await import(targets)).FUZZ_TARGETS[target]();
  const found = async (index: number, what: string): Promise<void> => {
    const finding = { target, seed, index, what };
    if (keep === undefined) return void findings.push(finding);
    const file = join(keep, `${target}-${seed}-${index}`);
    await Deno.mkdir(keep, { recursive: true });
    await Deno.writeFile(file, fuzzInput(corpus, seed, index));
    findings.push({ ...finding, file });
  };
  let at = start;
  while (at < start + inputs && Date.now() < end && findings.length < MOST_FINDINGS) {
    const to = Math.min(start + inputs, at + PER_THREAD);
    const { reached, stuck, replies } = await watched(options, targets, at, to, end);
    for (const { index, what } of replies) await found(index!, what);
    at = reached;
    if (stuck === undefined) continue;
    // A busy machine may have been to blame: it has to do it twice.
    const again = await watched(options, targets, at, at + 1, Infinity);
    if (again.stuck !== undefined) await found(at, again.stuck);
    at++;
  }
  return { tried: at - start, findings };
}

/** Reads some inputs in a thread of its own and ends it where one takes too much. */
async function watched(
  { target, seed, inputSeconds = 5, memory = 2 ** 29 }: FuzzOptions,
  targets: string,
  from: number,
  to: number,
  end: number,
): Promise<{ reached: number; stuck?: string; replies: FuzzReply[] }> {
  const folder = await Deno.makeTempDir();
  const now = new SharedArrayBuffer(16);
  const state = new Float64Array(now);
  state[0] = from; // What it has reached before it reads anything.
  const replies: FuzzReply[] = [];
  const before = Deno.memoryUsage().rss;
  const thread = new Worker(new URL("worker.ts", import.meta.url), { type: "module" });
  try {
    let isDone = false;
    thread.onmessage = ({ data }: MessageEvent<FuzzReply>) => {
      if (data.index === undefined) isDone = true;
      else replies.push(data);
    };
    thread.onerror = (event) => {
      event.preventDefault();
      isDone = true;
      replies.push({ index: state[0], what: `the thread ended: ${event.message}` });
    };
    const order: FuzzOrder = { targets, target, seed, from, to, folder, now };
    thread.postMessage(order);
    while (!isDone) {
      await new Promise((resolve) => setTimeout(resolve, LOOK));
      const [index, since] = state;
      if (isDone) break;
      if (since > 0 && Date.now() - since > 1000 * inputSeconds) {
        return { reached: index, stuck: `more than ${inputSeconds} s`, replies };
      }
      if (Deno.memoryUsage().rss - before > memory) {
        return { reached: index, stuck: `more than ${memory / 2 ** 20} MiB`, replies };
      }
      if (Date.now() > end || replies.length >= MOST_FINDINGS) {
        return { reached: index, replies };
      }
    }
    return { reached: to, replies };
  } finally {
    thread.terminate();
    await removeFolder(folder);
  }
}

/** Removes a folder into which a thread that was ended may still be writing. */
async function removeFolder(folder: string): Promise<void> {
  for (let attempt = 1;; attempt++) {
    try {
      return await Deno.remove(folder, { recursive: true });
    } catch (error) {
      if (attempt === 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, LOOK));
    }
  }
}
