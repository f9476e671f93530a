/**
 * `pretrain:mpi` with a fault in one rank: `RANK FAULT WORDS`.
 *
 * - `nan`, `lost` and `memory` come with the fourth update, when there is a checkpoint, and are
 *   told of with the time.
 * - `slow=SECONDS` comes with every evaluation.
 * - `kill=PHASE,COUNT,MILLISECONDS` kills the process so long after a phase has begun for the
 *   COUNTth time: `start`, `compile`, `step`, `exchange` or `save`.
 */
import { OutOfMemoryError, type Tensor } from "../../../engine/mod.ts";
import { launched } from "../../../train/cluster/launcher.ts";
import { UpdateSums } from "../../../train/cluster/update_sums.ts";
import { main } from "../../../train/main.ts";
import { CheckpointWriter } from "../../../train/run/checkpoint.ts";
import { Evaluator } from "../../../train/run/evaluate.ts";
import { Trainer } from "../../../train/run/update.ts";

const FAULTS: Readonly<Record<string, (trainer: Trainer, input: Tensor) => void>> = {
  nan: ({ device }, input) => device.write(input, new Float32Array(input.size).fill(NaN)),
  lost: ({ device }) => device.gpu.destroy(),
  memory: () => {
    throw new OutOfMemoryError("no room for another buffer");
  },
};

/** Has `before` run when a method is called. */
function preceded<Name extends string, Self extends Record<Name, (...args: never[]) => unknown>>(
  prototype: Self,
  name: Name,
  before: (self: Self, args: Parameters<Self[Name]>) => unknown,
): void {
  const method = prototype[name];
  prototype[name] = async function (this: Self, ...args: never[]) {
    await before(this, args as Parameters<Self[Name]>);
    return await method.apply(this, args);
  } as Self[Name];
}

/** Kills this process, whatever its main thread does then. */
function killAfter(milliseconds: number): void {
  const text = `setTimeout(() => Deno.kill(${Deno.pid}, "SIGKILL"), ${milliseconds})`;
  new Worker(`data:text/javascript,${encodeURIComponent(text)}`, { type: "module" });
}

function prepareKill(phase: string, count: number, milliseconds: number): void {
  let times = 0;
  const begin = () => void (++times === count && killAfter(milliseconds));
  if (phase === "start") killAfter(milliseconds);
  // The first update compiles.
  else if (phase === "compile") preceded(Trainer.prototype, "stepTogether", begin);
  else if (phase === "step") preceded(Trainer.prototype, "stepTogether", begin);
  else if (phase === "exchange") preceded(UpdateSums.prototype, "exchange", begin);
  else preceded(CheckpointWriter.prototype, "save", begin);
}

const [rank, fault, ...words] = Deno.args;
if (launched((it) => Deno.env.get(it))?.rank === Number(rank)) {
  const [name, value = ""] = fault.split("=");
  if (name === "kill") {
    const [phase, count, milliseconds] = value.split(",");
    prepareKill(phase, Number(count), Number(milliseconds));
  } else if (name === "slow") {
    const wait = () => new Promise((done) => setTimeout(done, Number(value) * 1000));
    preceded(Evaluator.prototype, "score", wait);
  } else {
    const latest = `${words[words.indexOf("--out") + 1]}/checkpoints/latest`;
    preceded(Trainer.prototype, "stepTogether", async (trainer, [input]) => {
      if (trainer.updates !== 3) return;
      // Rank 0 writes the checkpoint of step 2 while others go on.
      while (!await Deno.stat(latest).catch(() => false)) {
        await new Promise((done) => setTimeout(done, 50));
      }
      console.log(`fault at ${Date.now()}`);
      FAULTS[name](trainer, input);
    });
  }
}
Deno.exit(await main(["pretrain:mpi", ...words]));
