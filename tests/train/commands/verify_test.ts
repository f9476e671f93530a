/** `verify`: our reference numbers pass, changed ones do not, sizes come from the files. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../../engine/mod.ts";
import { readSafetensors, writeSafetensors } from "../../../engine/formats/safetensors.ts";
import { ownGoldenFolder, verifyFolder } from "../../../train/commands/verify.ts";
import { UsageError } from "../../../train/errors.ts";
import { errorsOf } from "../../../train/verify/report.ts";
import { fullOnly, test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

test("every check against the golden sets passes", async () => {
  const rows = await verifyFolder(device, ownGoldenFolder());
  const failed = rows.filter((row) => !row.passed).map(({ set, check, max_error, tolerance }) => ({
    set,
    check,
    max_error,
    tolerance,
  }));
  assertEquals(failed, []);
  const perSet = (set: string) => rows.filter((row) => row.set === set).length;
  // As many checks as the sets have tensors to compare: a set that was not walked must not pass.
  assert(perSet("frontend") >= 20, `${perSet("frontend")} frontend checks`);
  assert(perSet("vit_ops") >= 110, `${perSet("vit_ops")} vit_ops checks`);
  assert(perSet("matpac_step") >= 280, `${perSet("matpac_step")} matpac_step checks`);
  assert(perSet("matpac_pp_step") >= 130, `${perSet("matpac_pp_step")} matpac_pp_step checks`);
  assert(perSet("msm_mae_step") >= 115, `${perSet("msm_mae_step")} msm_mae_step checks`);
  assert(perSet("mae_ast_patch") >= 9, `${perSet("mae_ast_patch")} mae_ast_patch checks`);
  assert(perSet("beats") >= 20, `${perSet("beats")} beats checks`);
  assert(perSet("atst_clip") >= 5, `${perSet("atst_clip")} atst_clip checks`);
  assert(perSet("passt") >= 3, `${perSet("passt")} passt checks`);
  assert(perSet("htsat") >= 7, `${perSet("htsat")} htsat checks`);
});

fullOnly(
  "the same on a plainer adapter: no subgroups, coarse offsets, small bindings",
  async () => {
    using device = await openDevice({
      subgroups: false,
      offsetAlignment: 256,
      bindingLimit: 1 << 18,
    });
    assertEquals([device.features.subgroups, device.offsetAlignment], [false, 256]);
    const rows = await verifyFolder(device, ownGoldenFolder());
    assertEquals(rows.filter((row) => !row.passed).map((row) => row.check), []);
  },
);

test("a reference that is off by more than the tolerance fails", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const name = "vit_ops";
    const file = readSafetensors(
      await Deno.readFile(join(ownGoldenFolder(), `${name}.safetensors`)),
    );
    const entries = [...file.tensors].map(([key, tensor]): [string, typeof tensor] => {
      if (key !== "linear1.d_weight") return [key, tensor];
      const data = (tensor.data as Float32Array).slice();
      data[7] += 1e-4 * data.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
      return [key, { ...tensor, data }];
    });
    await Deno.writeFile(join(folder, `${name}.safetensors`), writeSafetensors(entries, {}));
    await Deno.copyFile(join(ownGoldenFolder(), `${name}.json`), join(folder, `${name}.json`));
    const rows = await verifyFolder(device, folder);
    assertEquals(rows.filter((row) => !row.passed).map((row) => row.check), ["linear1.d_weight"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

test("a folder without a known set is refused", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await assertRejects(() => verifyFolder(device, folder), UsageError, "holds none of the sets");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

test("errors are relative to the largest value, and non-finite values must match", () => {
  assertEquals(errorsOf([1, 2.5], [1, 2]), { max: 0.25, l2: 0.5 / Math.sqrt(5) });
  assertEquals(errorsOf([0, 0], [0, 0]), { max: 0, l2: 0 });
  assertEquals(errorsOf([1e-30, 0], [0, 0]).max, Infinity);
  assertEquals(errorsOf([NaN], [1]).max, Infinity);
  assertEquals(errorsOf([Infinity, 1], [Infinity, 1]).max, 0);
  assertEquals(errorsOf([1], [1, 2]).max, Infinity);
});
