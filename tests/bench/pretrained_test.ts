/** Encoders of other systems as benchmarks make them: of published sizes, and they run. */
import { assert, assertEquals } from "@std/assert";
import { RELEASED, releasedEncoder, releasedFile } from "../../bench/pretrained.ts";
import { noGrad, openDevice } from "../../engine/mod.ts";
import { countOf } from "../../model/formats/stored_tensor.ts";
import { fullOnly, test } from "../support/tier.ts";

/**
 * Published counts, without mask tokens and heads that encoders do not use, but with what is no
 * parameter: MAE-AST's positions and two statistics, HTS-AT's transform, filters and 128
 * statistics.
 */
const PARAMETERS: Readonly<Record<string, number>> = {
  "atst-clip": 85_420_032 - 768,
  "atst-frame": 85_419_264 - 768,
  beats: 90_311_792,
  "mae-ast": 85_253_376 + 48_000 * 768 + 2,
  passt: 86_153_758 - 527 * 769,
  htsat: 30_241_687 - 527 * 528 + 1_083_456 + 128,
};

test("files of released sizes have the parameters that were published", () => {
  for (const [system, of] of Object.entries(RELEASED)) {
    const tensors = [...releasedFile(of).tensors.values()];
    const parameters = tensors.reduce((all, { shape }) => all + countOf(shape), 0);
    assertEquals(parameters, PARAMETERS[system], system);
  }
});

fullOnly("an encoder of released sizes encodes a clip", async () => {
  using device = await openDevice();
  using encoder = await releasedEncoder(device, RELEASED["atst-clip"]);
  using input = device.full([1, ...RELEASED["atst-clip"].input], 0.1);
  using tokens = noGrad(() => encoder.encode(input));
  assertEquals(tokens.shape, [1, 150, 768]);
  assert((await tokens.data()).every(Number.isFinite));
});
