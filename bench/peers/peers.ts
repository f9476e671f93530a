/**
 * Other engines on the same adapter, each in a child process that answers requests, so that its
 * samples alternate with ours. Imported only with `--peers`; the packages are fetched from npm by
 * the children.
 *
 * @module
 */
import {
  add,
  attention,
  backward,
  type Device,
  layerNorm,
  matmul,
  scope,
  softmax,
  type Tensor,
} from "../../engine/mod.ts";
import { relativeError } from "../case.ts";
import { chain } from "../small.ts";
import type { Benchmark, Harness, Row } from "../harness.ts";
import {
  type Answer,
  type ComparedWorkload,
  EPS,
  excerpt,
  isCompared,
  MARK,
  operand,
  type Request,
  WORKLOADS,
} from "./workloads.ts";

/** Scripts of the children by the engine's name in the report. */
const ENGINES = { "jax-js": "jax.ts", "tfjs": "tfjs.ts", "PyTorch": "pytorch.py" } as const;
/** Where PyTorch may be installed: the first that can import it is taken. */
const PYTHONS = ["python3", "/usr/bin/python3"];
/** Most that an answer may take, fetching and compiling included. */
const TIME_LIMIT_MS = 180_000;
/** Milliseconds that a sample of theirs lasts at least. */
const SAMPLE_MS = 150;
/** Results may differ by this much of the largest value: f32 roundings in another order. */
const TOLERANCE = 2e-4;

/** Our results for a workload's operands. */
function ours({ op, backward: goBack, temperature }: ComparedWorkload, inputs: readonly Tensor[]) {
  const [a, b, c, d] = inputs;
  switch (op) {
    case "matmul":
      return [matmul(a, b)];
    case "add":
      return [add(a, b)];
    case "chain":
      return [chain(a, b)];
    case "softmax":
      return [softmax(a, { temperature })];
    case "layernorm":
      return [layerNorm(a, b, c, EPS)];
    case "attention": {
      if (!goBack) return [attention(a, b, c)];
      const leaves = [a, b, c].map((it) => it.trainable());
      backward(attention(a, b, c), d);
      return leaves.map((it) => it.grad!);
    }
  }
}

/** A Python that has PyTorch; where there is none, the first, which says what is missing. */
function python(): string {
  const imports = (program: string) => {
    try {
      const args = ["-c", "import torch"];
      return new Deno.Command(program, { args, stdout: "null", stderr: "null" }).outputSync()
        .success;
    } catch {
      return false;
    }
  };
  return PYTHONS.find(imports) ?? PYTHONS[0];
}

/** One child process. */
class Peer implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #lines: AsyncGenerator<Answer, void, void>;
  #errors = "";

  constructor(script: string) {
    const { pathname } = new URL(script, import.meta.url);
    const isPython = script.endsWith(".py");
    this.#child = new Deno.Command(isPython ? python() : Deno.execPath(), {
      // No lock file and no configuration: the project does not depend on its peers.
      args: isPython ? [pathname] : [
        ...["run", "--no-prompt", "--no-check", "--no-lock", "--no-config"],
        ...["--allow-read", "--allow-env", pathname],
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#lines = answers(this.#child.stdout);
    this.#drain();
  }

  async #drain(): Promise<void> {
    for await (const chunk of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
      this.#errors = (this.#errors + chunk).slice(-2000);
    }
  }

  /** The next answer; an `error` where the child died or took too long. */
  async next(): Promise<Answer> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<Answer>((resolve) =>
      timer = setTimeout(() => {
        this.#kill();
        resolve({ error: `no answer within ${TIME_LIMIT_MS / 1000} s` });
      }, TIME_LIMIT_MS)
    );
    try {
      const answer = this.#lines.next().then(({ value }): Answer =>
        value ?? { error: this.reason }
      );
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends a request and waits for its answer. */
  async ask(request: Request): Promise<Answer> {
    try {
      await this.#writer.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
    } catch {
      return { error: this.reason };
    }
    return await this.next();
  }

  /** What the child said last on standard error. */
  get reason(): string {
    const said = this.#errors.split("\n").find((it) => /^(error|\w*Error:)/i.test(it));
    return said ?? "the process ended";
  }

  #kill(): void {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    const timer = setTimeout(() => this.#kill(), 5000);
    await this.#child.status;
    clearTimeout(timer);
  }
}

async function* answers(
  output: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<Answer, void, void> {
  let text = "";
  for await (const chunk of output.pipeThrough(new TextDecoderStream())) {
    const lines = (text + chunk).split("\n");
    text = lines.pop()!;
    for (const line of lines) {
      if (line.startsWith(MARK)) yield JSON.parse(line.slice(MARK.length));
    }
  }
}

/** All other engines. */
export class Peers implements AsyncDisposable {
  private constructor(
    private readonly device: Device,
    private readonly peers: ReadonlyMap<string, Peer>,
    /** Why engines are missing. */
    private readonly missing: ReadonlyMap<string, string>,
  ) {}

  /** Starts the children; one that does not start is noted in every row. */
  static async start(device: Device): Promise<Peers> {
    const [peers, missing] = [new Map<string, Peer>(), new Map<string, string>()];
    for (const [name, script] of Object.entries(ENGINES)) {
      let peer: Peer;
      try {
        peer = new Peer(script);
      } catch (error) {
        missing.set(name, `cannot be started: ${error instanceof Error ? error.message : error}`);
        continue;
      }
      const answer = await peer.next();
      if ("ready" in answer) {
        peers.set(name, peer);
        console.log(`beside ${answer.ready.replace(/^npm:/, "")}`);
      } else {
        missing.set(name, `cannot be loaded: ${"error" in answer ? answer.error : "no answer"}`);
        await peer[Symbol.asyncDispose]();
      }
    }
    return new Peers(device, peers, missing);
  }

  /** Measures a benchmark with the peers that can do the same. */
  async measure(harness: Harness, benchmark: Benchmark): Promise<Row> {
    const workload = WORKLOADS.find(({ name }) => name === benchmark.name);
    if (!workload) return await harness.measure(benchmark);
    const notes: Record<string, string> = Object.fromEntries(this.missing);
    const samplers: Record<string, () => Promise<number>> = {};
    const expected = isCompared(workload) ? await this.#ours(workload) : [];
    for (const [name, peer] of this.peers) {
      const answer = await peer.ask({ do: "prepare", workload });
      if ("results" in answer) {
        const error = Math.max(
          0,
          ...expected.map((values, i) => relativeError(values, answer.results[i])),
        );
        if (error > TOLERANCE) {
          notes[name] = `its result differs from ours by ${error.toExponential(1)}`;
        } else {
          samplers[name] = async () => {
            const sample = await peer.ask({ do: "sample", minimumMs: SAMPLE_MS });
            if ("ms" in sample) return sample.ms * (workload.calls ?? 1);
            notes[name] ??= "error" in sample ? sample.error : "no time";
            return NaN;
          };
        }
      } else if ("unsupported" in answer) notes[name] = answer.unsupported;
      else notes[name] = "error" in answer ? answer.error : "no answer";
    }
    const row = await harness.measure(benchmark, samplers);
    const peers = Object.fromEntries(
      Object.entries(row.peers ?? {}).filter(([, ratio]) => Number.isFinite(ratio)),
    );
    return { ...row, peers, ...(Object.keys(notes).length > 0 && { peer_notes: notes }) };
  }

  async #ours(workload: ComparedWorkload): Promise<number[][]> {
    const inputs = workload.shapes.map((shape, i) =>
      this.device.tensor(operand(workload, i), shape)
    );
    const results = scope(() => ours(workload, inputs).map((it) => it.view(it.shape, it.strides)));
    const values = await this.device.read(results);
    [...inputs, ...results].forEach((it) => it.dispose());
    return values.map((it) => excerpt(it));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of this.peers.values()) await peer[Symbol.asyncDispose]();
  }
}
