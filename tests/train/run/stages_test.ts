/**
 * `--paint-steps`: painting and then another objective in one run, against the same as two runs;
 * interrupted and gone on with anywhere, it leaves the same bytes.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import { run as pretrainCommand } from "../../../train/commands/pretrain.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { stagesOf } from "../../../train/config/stages.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { MEASURED_FIELDS } from "../../../train/metrics/metrics_row.ts";
import { listRuns } from "../../../train/run/run_list.ts";
import { inTempDir } from "../../support/audio_files.ts";
import { fullOnly, test } from "../../support/tier.ts";

const QUICK = [
  ...["--batch", "2", "--crop-frames", "48", "--quiet", "--log-every", "1", "--mask-ratio", "0.5"],
  ...["--seed", "5"],
];
const PAINT = ["--objective", "msm-mae", "--norm-pix", "--lr", "1e-3"];

const command = (...argv: string[]) =>
  pretrainCommand([...QUICK, ...argv], new AbortController().signal);

const read = (...path: string[]) => Deno.readFileSync(join(...path));

/** Whether two runs left the same encoder. */
function sameBytes(out: string, expected: string, what: string): void {
  const [a, b] = [out, expected].map((it) => read(it, "encoder.safetensors"));
  assert(a.length === b.length && a.every((byte, i) => byte === b[i]), what);
}

/** Rows without what is measured. */
function rowsOf(out: string): Record<string, number>[] {
  return Deno.readTextFileSync(join(out, "metrics.jsonl")).trim().split("\n").map((line) => {
    const row = JSON.parse(line);
    for (const field of MEASURED_FIELDS) delete row[field];
    return row;
  });
}

fullOnly("stages: one run is the two runs that it stands for", () =>
  inTempDir(async (dir) => {
    const [painted, after, both] = ["painted", "after", "both"].map((it) => join(dir, it));
    assertEquals(await command(...PAINT, "--steps", "3", "--out", painted), 0);
    const init = join(painted, "encoder.safetensors");
    const main = ["--steps", "2", "--lr", "3e-4"];
    assertEquals(await command(...main, "--init", init, "--out", after), 0);
    const words = ["--paint-steps", "3", "--paint-lr", "1e-3", ...main, "--pool", "mean-std"];
    words.push("--blocks", "1,0");
    assertEquals(await command(...words, "--save-every", "1", "--keep", "9", "--out", both), 0);
    const tensors = (...path: string[]) => readSafetensors(read(...path)).tensors;
    const checkpoint = (step: number) => join("checkpoints", `step-0000000${step}.safetensors`);
    assertEquals(tensors(both, "encoder.safetensors"), tensors(after, "encoder.safetensors"));
    assertEquals(tensors(both, checkpoint(3)), tensors(painted, checkpoint(3)));
    assertEquals(tensors(both, checkpoint(5)), tensors(after, checkpoint(2)));
    const [own, first, second] = [both, painted, after].map(rowsOf);
    const later = second.map((row) => ({ ...row, step: row.step + 3, samples: row.samples + 6 }));
    assertEquals(own, [...first, ...later]);
    const { metadata } = readSafetensors(read(both, "encoder.safetensors"));
    const { system, pool, blocks, step } = metadata;
    assertEquals([system, pool, blocks, step], ["matpac", "mean-std", "1,0", "5"]);
    assertEquals(readSafetensors(read(both, checkpoint(3))).metadata.system, "msm-mae");
    // The loss of painting is no loss of MATPAC's.
    const best = Deno.readTextFileSync(join(both, "checkpoints", "best")).trim();
    assert(/step-0000000[45]/.test(best), best);
    const [listed] = (await listRuns(dir)).filter(({ dir }) => dir === both);
    assertEquals([listed.state, listed.steps, listed.total_steps], ["finished", 5, 5]);
    const again = JSON.parse(Deno.readTextFileSync(join(both, "config.json")));
    assertEquals([again.paint, again.length], [{ steps: 3, lr: 1e-3 }, { steps: 2 }]);
  }));

fullOnly(
  "stages: interrupted after any update, the run leaves the same bytes",
  () =>
    inTempDir(async (dir) => {
      const words = ["--paint-steps", "3", "--steps", "3", "--save-every", "2"];
      const whole = join(dir, "whole");
      assertEquals(await command(...words, "--out", whole), 0);
      // The end of a stage that is not the last ends no run: after three, update 4 was the last.
      for (const first of [2, 3, 4]) {
        const out = join(dir, `stopped-${first}`);
        // Aborted before it begins, a run does one update, writes a checkpoint and ends.
        let resume = words;
        for (let update = 0; update < first; update++) {
          const error = await assertRejects(() =>
            pretrainCommand([...QUICK, ...resume, "--out", out], AbortSignal.abort())
          );
          assertEquals(exitCodeOf(error), 130, String(error));
          resume = ["--resume"];
        }
        assertEquals(await command("--resume", "--out", out), 0);
        sameBytes(out, whole, `after ${first}`);
        // Its metadata hold the mean loss since the checkpoint before, which is another one.
        const [state, expected] = [out, whole].map((it) =>
          readSafetensors(read(it, "checkpoints", "step-00000006.safetensors")).tensors
        );
        assertEquals([...state.keys()], [...expected.keys()]);
        for (const [name, { data }] of expected) {
          assert(data.every((x, i) => x === state.get(name)!.data[i]), `${name} after ${first}`);
        }
        assertEquals(rowsOf(out), rowsOf(whole), `rows after ${first}`);
      }
      // A killed process leaves no newer checkpoint: that of update 4 is lost.
      const killed = join(dir, "killed");
      assertEquals(await command(...words, "--out", killed), 0);
      await Deno.remove(join(killed, "checkpoints", "step-00000006.safetensors"));
      await Deno.remove(join(killed, "checkpoints", "step-00000004.safetensors"));
      await Deno.remove(join(killed, "encoder.safetensors"));
      assertEquals(await command("--resume", "--out", killed), 0);
      sameBytes(killed, whole, "killed");
    }),
);

test("stages: what options make of them", () => {
  const of = (...words: string[]) => stagesOf(resolveConfig([...QUICK, "--lr", "3e-4", ...words]));
  assertEquals(of("--steps", "2").length, 1);
  const [paint, main] = of(
    ...["--paint-steps", "7", "--steps", "2", "--objective", "matpac-plus", "--init", "x"],
    ...["--target-layers", "4", "--masks-per-clip", "2", "--mcl-heads", "3", "--warmup", "1"],
  );
  assertEquals([paint.first, main.first], [0, 7]);
  assertEquals(paint.config.objective, "msm-mae");
  assertEquals(paint.config.choices.targets, "standardised");
  assertEquals([paint.config.length, main.config.length], [{ steps: 7 }, { steps: 2 }]);
  assertEquals([paint.config.init, main.config.init], ["x", undefined]);
  assertEquals([paint.config.masksPerClip, main.config.masksPerClip], [1, 2]);
  assertEquals([paint.config.lr, main.config.lr], [3e-4, 3e-4]);
  assertEquals(paint.config.geometry.maskRatio, 0.5);
  assertThrows(() => of("--objective", "msm-mae", "--paint-steps", "2"), Error, "paints anyway");
});
