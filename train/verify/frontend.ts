/**
 * Holds the audio front end against the set `frontend`: tables, power, both log-mels, resampling.
 *
 * @module
 */
import { type Device, reshape, scope, type Tensor } from "../../engine/mod.ts";
import { LogMel } from "../../model/frontend/log_mel.ts";
import {
  FRAME_SAMPLES,
  hannPeriodic,
  MEL_80,
  slaneyMelFilterbank,
} from "../../model/frontend/tables.ts";
import { resample } from "../../model/frontend/resample.ts";
import { type CheckRow, Report, TOLERANCES } from "./report.ts";
import type { GoldenSet, GoldenTensor } from "./golden.ts";

const SAMPLE_RATE = 16000;

/** Runs all checks of the set. */
export async function verifyFrontend(device: Device, golden: GoldenSet): Promise<CheckRow[]> {
  const report = new Report("frontend");
  tables(golden, report);
  using matpac = new LogMel(device, { statistics: null });
  using centred = new LogMel(device, { statistics: null, centre: true, order: "nnaudio" });
  const spectrum = async (name: string, wave: string, apply: (waves: Tensor) => Tensor) => {
    const { data } = golden.get(`wave.${wave}`);
    using result = scope(() => {
      const out = apply(device.tensor(data, [1, data.length]));
      return reshape(out, out.shape.slice(1));
    });
    return { expected: golden.get(name).data, actual: await result.data() };
  };
  // The reference's float64 run differs from its own float32 run by this much only on sweeps.
  const sweeping = (wave: string) =>
    /sweep|chirp/.test(`${wave} ${golden.json.waveforms?.[wave] ?? ""}`);
  for (
    const [prefix, run] of [
      ["matpac.power.", (w: Tensor) => matpac.power(w)],
      ["matpac.logmel.", (w: Tensor) => matpac.apply(w)],
      ["nnaudio.logmel.", (w: Tensor) => centred.apply(w)],
    ] as const
  ) {
    for (const wave of golden.below(prefix)) {
      const { actual, expected } = await spectrum(`${prefix}${wave}`, wave, run);
      const tolerance = prefix === "matpac.power."
        ? TOLERANCES.power
        : prefix === "nnaudio.logmel."
        ? TOLERANCES.logMelCentred
        : sweeping(wave)
        ? TOLERANCES.logMelSweep
        : TOLERANCES.logMel;
      report.compare(`${prefix}${wave}`, actual, expected, tolerance);
    }
  }
  resampling(golden, report);
  return report.rows;
}

function tables(golden: GoldenSet, report: Report): void {
  const { bins, bands } = MEL_80;
  report.compare("matpac.window", hannPeriodic(FRAME_SAMPLES), golden.get("matpac.window").data, {
    max: 1.2e-7,
    l2: 1.2e-7,
    reason: "float32 tables rounded in another order: one unit in the last place",
  });
  report.compare(
    "matpac.mel_fb",
    slaneyMelFilterbank({ ...MEL_80, order: "torchaudio" }),
    golden.get("matpac.mel_fb").data,
    {
      max: 6e-6,
      l2: 6e-6,
      reason: "float32 filters differ by up to 6e-6 of the peak between orders of rounding " +
        "(model/README.md, Front end)",
    },
  );
  report.compare(
    "nnaudio.mel_basis",
    transposed(slaneyMelFilterbank({ ...MEL_80, order: "nnaudio" }), bins, bands),
    golden.get("nnaudio.mel_basis").data,
    TOLERANCES.table,
  );
}

function transposed(table: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(
    { length: rows * columns },
    (_, i) => table[(i % rows) * columns + Math.floor(i / rows)],
  );
}

function resampling(golden: GoldenSet, report: Report): void {
  for (const name of golden.below("resample.").filter((part) => part.endsWith(".in"))) {
    const rate = Number(name.split(".")[0]);
    const key = `resample.${name.slice(0, -3)}`;
    const input: GoldenTensor = golden.get(`${key}.in`);
    report.compare(
      `${key}.out`,
      resample(input.data as Float32Array, rate, SAMPLE_RATE),
      golden.get(`${key}.out`).data,
      TOLERANCES.resample,
    );
  }
}
