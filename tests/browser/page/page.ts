/**
 * What tests call in a page: each function gives what JSON can hold.
 *
 * @module
 */
import { type Device, openDevice } from "../../../engine/mod.ts";
import { loadEncoder, type WarmUpProgress } from "../../../model/encoder/encoder.ts";
import { Matpac } from "../../../model/objectives/matpac.ts";
import { RECIPES } from "../../../model/objectives/recipe.ts";
import { verifyFrontend } from "../../../train/verify/frontend.ts";
import { type GoldenSet, goldenSet } from "../../../train/verify/golden.ts";
import { type CheckRow, Report } from "../../../train/verify/report.ts";
import {
  compareAfter,
  compareScalars,
  loadStateDict,
  matpacGeometry,
  matpacTrainer,
  noiseMask,
  publishedDecays,
  ratesOf,
  scalarRows,
} from "../../../train/verify/training_step.ts";
import { verifyVitOps } from "../../../train/verify/vit_ops.ts";
import { type OpsOutcome, runOps, type Table } from "./ops.ts";

const devices: Promise<Device>[] = [];
/** The page's device, its memory full of NaN where nothing was written. */
const device = (): Promise<Device> => devices[0] ??= openDevice({ poisonMemory: true });

async function bytesOf(address: string): Promise<Uint8Array> {
  return new Uint8Array(await (await fetch(address)).arrayBuffer());
}

async function golden(name: string): Promise<GoldenSet> {
  const json = await (await fetch(`${name}.json`)).text();
  return goldenSet(await bytesOf(`${name}.safetensors`), json);
}

/** Checks that ran, and those that failed. */
function outcome(rows: readonly CheckRow[]): { checks: number; failed: readonly CheckRow[] } {
  return { checks: rows.length, failed: rows.filter(({ passed }) => !passed) };
}

/** Two recorded updates of MATPAC against the set `matpac_step`. */
async function capturedUpdates(): Promise<CheckRow[]> {
  const set = await golden("matpac_step");
  const report = new Report("matpac_step");
  using model = new Matpac(await device(), matpacGeometry(set), RECIPES.released);
  loadStateDict(model, set);
  using trainer = matpacTrainer(model, set, ratesOf(set, publishedDecays(set)));
  for (let step = 0; step < 2; step++) {
    const { data, shape } = set.get(`step${step}.in.source`);
    const visible: number = set.json.hyperparameters.len_keep;
    using input = model.device.tensor(data, shape);
    trainer.step(input, noiseMask(set, `step${step}.in.`, visible, report));
    const expected = set.json.scalars.steps_float64[step];
    compareScalars(report, `step${step}`, scalarRows(await trainer.metrics(), expected));
    await compareAfter(report, set, `step${step}.after.`, model);
  }
  if (trainer.plan === undefined) throw new Error("the updates were not recorded");
  return report.rows;
}

/** By name. */
export const TESTS = {
  adapter: async () => ({ ...(await device()).info, ...(await device()).features }),
  ops: async (tables: readonly Table[]): Promise<OpsOutcome> =>
    await runOps(await device(), tables),
  vit_ops: async () => outcome(await verifyVitOps(await device(), await golden("vit_ops"))),
  frontend: async () => outcome(await verifyFrontend(await device(), await golden("frontend"))),
  matpac_step: async () => outcome(await capturedUpdates()),
  /** Embeds noise of a second, the address of an encoder given. */
  embed: async (address: string, wave: string) => {
    // A device of its own: all kernels are new to it.
    devices[0] = openDevice();
    using encoder = await loadEncoder(await device(), address, { heads: 2 });
    const progress: WarmUpProgress[] = [];
    await encoder.warmUp({ together: 1, onProgress: (it) => progress.push(it) });
    const { pipelinesCreated } = await device();
    const samples = new Float32Array((await bytesOf(wave)).buffer);
    const { values, shape } = await encoder.embed(samples);
    const compiledLater = (await device()).pipelinesCreated - pipelinesCreated;
    return { values: [...values], shape, progress, compiledLater };
  },
};
