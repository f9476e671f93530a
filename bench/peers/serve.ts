/**
 * The side of another engine: reads requests from standard input and answers on standard output.
 * Ends with the process, because some engines leave workers behind that would keep it alive.
 *
 * @module
 */
import {
  type Answer,
  type ComparedWorkload,
  excerpt,
  isCompared,
  MARK,
  type Request,
} from "./workloads.ts";

/** A workload whose operands are on the engine's device. */
export interface Running {
  /** Starts one run and forgets the results of the one before. */
  run(): void;
  /** Waits until all runs are done. */
  sync(): Promise<void>;
  /** Runs once and reads the results. */
  results(): Promise<ArrayLike<number>[]>;
}

/** An engine. */
export interface Engine {
  /** Adapter or version, for a person. */
  readonly description: string;
  /** Undefined where it has no such op. */
  prepare(workload: ComparedWorkload): Promise<Running | undefined>;
}

async function sample({ run, sync }: Running, minimumMs: number): Promise<number> {
  const time = async (rounds: number) => {
    const start = performance.now();
    for (let i = 0; i < rounds; i++) run();
    await sync();
    return performance.now() - start;
  };
  await time(1);
  // Waiting for the device takes some 11 ms on Deno: measured and taken off.
  const idle = Math.min(await time(0), await time(0));
  const first = Math.max(0.5, await time(1) - idle);
  const rounds = Math.min(64, Math.max(1, Math.ceil(minimumMs / first)));
  return Math.max(1e-3, await time(rounds) - idle) / rounds;
}

/** Serves until standard input ends. */
export async function serve(open: () => Promise<Engine>): Promise<never> {
  const answer = (line: Answer) => console.log(MARK + JSON.stringify(line));
  let running: Running | undefined;
  try {
    const engine = await open();
    answer({ ready: engine.description });
    const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream());
    let text = "";
    for await (const chunk of lines) {
      const parts = (text + chunk).split("\n");
      text = parts.pop()!;
      for (const part of parts) {
        const request: Request = JSON.parse(part);
        if (request.do === "sample") {
          answer({ ms: await sample(running!, request.minimumMs) });
          continue;
        }
        const { workload } = request;
        running = isCompared(workload) ? await engine.prepare(workload) : undefined;
        answer(
          running
            ? { results: (await running.results()).map(excerpt) }
            : { unsupported: "no such op" },
        );
      }
    }
  } catch (error) {
    answer({ error: error instanceof Error ? error.message.split("\n")[0] : String(error) });
    Deno.exit(1);
  }
  Deno.exit(0);
}
