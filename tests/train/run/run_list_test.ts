/** What `deno task runs` says of directories in every state. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { run } from "../../../train/commands/runs.ts";
import { lockFolder } from "../../../train/io/lock.ts";
import { writeTensors } from "../../../train/run/checkpoint.ts";
import { listRuns } from "../../../train/run/run_list.ts";

const CONFIG = { objective: "matpac", preset: "tiny", length: { steps: 9 } };
const row = (step: number, seconds: number, more = {}): string =>
  `${
    JSON.stringify({ step, seconds, loss: 5 - step / 4, loss_pred: 1, samples_per_s: 8, ...more })
  }\n`;

async function made(dir: string, name: string, config: unknown, rows: string, encoder?: number) {
  const path = join(dir, name);
  await Deno.mkdir(join(path, "checkpoints"), { recursive: true });
  await Deno.writeTextFile(
    join(path, "config.json"),
    typeof config === "string" ? config : JSON.stringify(config),
  );
  await Deno.writeTextFile(join(path, "metrics.jsonl"), rows);
  if (encoder !== undefined) {
    const tensor = { shape: [1], data: new Float32Array(1) };
    await writeTensors(join(path, "encoder.safetensors"), [["a", tensor]], {
      step: String(encoder),
    });
  }
  return path;
}

Deno.test("runs: state, steps, losses, evaluation and time of all processes", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const resumed = row(2, 10) + row(4, 20, { eval_accuracy: 0.25 }) + row(6, 7) + row(9, 11);
    await made(dir, "a", CONFIG, resumed, 9);
    // Its last line was being written when it was killed.
    const b = await made(dir, "b", CONFIG, `${row(2, 3)}{"step": 4, "sec`);
    await Deno.writeTextFile(join(b, "checkpoints", "step-00000002.safetensors"), "");
    const c = await made(dir, "sub/c", { ...CONFIG, length: { epochs: 3 } }, row(1, 4));
    await made(dir, "d", "{", row(3, 1));
    // Somebody else's.
    await made(dir, "other", { name: "web" }, "");
    await Deno.mkdir(join(dir, "encoder.safetensors"));
    using _ = lockFolder(c, "run");
    const runs = await listRuns(dir);
    assertEquals(
      runs.map((
        it,
      ) => [it.dir.slice(dir.length + 1), it.state, it.steps, it.total_steps, it.seconds]),
      [
        ["a", "finished", 9, 9, 31],
        ["b", "interrupted", 2, 9, 3],
        ["d", "damaged", 3, null, 1],
        ["sub/c", "running", 1, null, 4],
      ],
    );
    assertEquals(runs[0].evaluation, { step: 4, metric: "accuracy", score: 0.25 });
    assertEquals([runs[0].loss, runs[1].checkpoint_step, runs[3].epochs], [2.75, 2, 3]);
    // An earlier encoder of a run that was made longer does not finish it.
    await made(dir, "a", { ...CONFIG, length: { steps: 20 } }, resumed, 9);
    assertEquals((await listRuns(join(dir, "a")))[0].state, "interrupted");

    const lines: string[] = [];
    const { log } = console;
    console.log = (text: string) => lines.push(...text.split("\n"));
    try {
      assertEquals(await run([dir]), 0);
    } finally {
      console.log = log;
    }
    assertStringIncludes(lines[1], "interrupted  matpac tiny");
    assertStringIncludes(lines.at(-1)!, "deno task pretrain --resume --out ");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
