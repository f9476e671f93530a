/** `deno task verify [DIR]`: holds this machine's adapter against reference numbers. */

import { fromFileUrl, join } from "../deps/path.ts";
import type { Device } from "../../engine/mod.ts";
import { openWatchedDevice } from "../cli/kernel_line.ts";
import { command } from "../cli/command.ts";
import { flag, option } from "../cli/option.ts";
import { adapter, json } from "../cli/shared_options.ts";
import { folder } from "../cli/value_types.ts";
import { UsageError } from "../errors.ts";
import { verifyAtst } from "../verify/atst.ts";
import type { CheckRow } from "../verify/report.ts";
import { verifyCheckpoint } from "../verify/checkpoint_pt.ts";
import { type GoldenSet, readGolden } from "../verify/golden.ts";
import { verifyFrontend } from "../verify/frontend.ts";
import { verifyHtsat } from "../verify/htsat.ts";
import { verifyMatpacPlusStep } from "../verify/matpac_pp_step.ts";
import { verifyMatpacStep } from "../verify/matpac_step.ts";
import { verifyMsmMaeStep } from "../verify/msm_mae_step.ts";
import { verifyPasst } from "../verify/passt.ts";
import { verifyPretrained } from "../verify/pretrained.ts";
import { verifyProbe } from "../verify/probe.ts";
import { verifyVitOps } from "../verify/vit_ops.ts";

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "verify",
  options: {
    dir: option(folder(), "Folder of reference sets.", {
      positional: true,
      defaultText: "tests/golden",
    }),
    adapter,
    json,
    failed: flag("Prints only the checks that failed."),
  },
});

/** Sets and the code that checks them. */
const SETS: Readonly<
  Record<string, (device: Device, golden: GoldenSet, folder: string) => Promise<CheckRow[]>>
> = {
  frontend: verifyFrontend,
  vit_ops: verifyVitOps,
  matpac_step: verifyMatpacStep,
  matpac_pp_step: verifyMatpacPlusStep,
  msm_mae_step: verifyMsmMaeStep,
  checkpoint_pt: verifyCheckpoint,
  probe: verifyProbe,
  mae_ast_patch: verifyPretrained,
  mae_ast_frame: verifyPretrained,
  beats: verifyPretrained,
  beats_finetuned: verifyPretrained,
  atst_clip: verifyAtst,
  atst_frame: verifyAtst,
  passt: verifyPasst,
  htsat: verifyHtsat,
};

/** Folder, inside one of sets, of sets of other systems' encoders. */
const COMPARED = "compared";

/** Text of `--help`. */
export const help = COMMAND.help;

/** The folder that holds the reference sets of this repository. */
export function ownGoldenFolder(): string {
  return fromFileUrl(new URL("../../tests/golden", import.meta.url));
}

/**
 * Runs the checks of every set in a folder, and in a folder `compared` inside it, that this version
 * knows.
 *
 * @param onSet called with each set's rows as soon as they are there
 * @throws {UsageError} if the folder holds none of the sets.
 */
export async function verifyFolder(
  device: Device,
  folder: string,
  onSet: (rows: readonly CheckRow[]) => void = () => {},
): Promise<CheckRow[]> {
  const all: CheckRow[] = [];
  let found = 0;
  for (const at of [folder, join(folder, COMPARED)]) {
    for (const [name, check] of Object.entries(SETS)) {
      const golden = readGolden(at, name);
      if (!golden) continue;
      found++;
      const rows = await check(device, golden, at);
      onSet(rows);
      all.push(...rows);
    }
  }
  if (found === 0) {
    throw new UsageError(
      `${folder}: holds none of the sets ${
        Object.keys(SETS).join(", ")
      } (NAME.safetensors and NAME.json)`,
    );
  }
  return all;
}

function line(row: CheckRow): string {
  const number = (x: number) => (x === 0 ? "0" : x.toExponential(1)).padStart(8);
  return `${row.passed ? "pass" : "FAIL"}  ${number(row.max_error)} of ${number(row.tolerance)}  ` +
    `L2 ${number(row.rel_l2)} of ${number(row.tolerance_l2)}  ${row.set} ${row.check}`;
}

/** Runs the command. */
export async function run(argv: string[], _signal: AbortSignal): Promise<number> {
  const { adapter, json, failed, dir = ownGoldenFolder() } = COMMAND.read(argv).values;
  using device = await openWatchedDevice({ adapter });
  console.log(`adapter: ${device.info.description}`);
  console.log(
    "largest error relative to the largest value, and relative L2 error, " +
      "each with what is allowed:",
  );
  const rows = await verifyFolder(device, dir, (set) => {
    for (const row of set) if (!failed || !row.passed) console.log(line(row));
  });
  const reasons = new Map(rows.map((row) => [row.reason, `${row.tolerance.toExponential(1)}`]));
  console.log("\ntolerances:");
  for (const [reason, tolerance] of reasons) console.log(`  ${tolerance}  ${reason}`);
  if (json !== undefined) {
    await Deno.writeTextFile(json, `${JSON.stringify(rows, null, 1)}\n`);
  }
  const bad = rows.filter((row) => !row.passed).length;
  console.log(`\n${rows.length - bad} passed, ${bad} failed`);
  return bad > 0 ? 1 : 0;
}
