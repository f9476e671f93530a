/**
 * The front end on the GPU against the golden values of model/README.md, Front end; the reference
 * tensors are checked by verify.
 */
import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { openDevice, ShapeError } from "../../../engine/mod.ts";
import { LogMel } from "../../../model/frontend/log_mel.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const signal = Float32Array.from(
  { length: 16000 },
  (_, n) =>
    0.5 * Math.sin(2 * Math.PI * 440 * n / 16000) + 0.1 * Math.sin(2 * Math.PI * 3000 * n / 16000),
);

Deno.test("log-mel has the golden values of model/README.md, Front end", async () => {
  const cases = [
    { centre: false, frames: 98, mean: -14.45676, values: [[0, 0, -15.94239], [11, 0, 2.53816]] },
    { centre: true, frames: 101, mean: -14.13921, values: [[0, 0, -0.06292], [11, 0, 3.01409]] },
  ] as const;
  for (const { centre, frames, mean, values } of cases) {
    using frontend = new LogMel(device, {
      centre,
      order: centre ? "nnaudio" : "torchaudio",
      statistics: null,
    });
    using waves = device.tensor(signal, [1, signal.length]);
    using out = frontend.apply(waves);
    assertEquals(out.shape, [1, 80, frames]);
    const data = await out.data();
    for (const [band, frame, value] of [...values, [10, 50, 3.88647], [11, 50, 2.53816]]) {
      assertAlmostEquals(data[band * frames + frame], value, 1e-4);
    }
    assertAlmostEquals(data.reduce((a, b) => a + b, 0) / data.length, mean, 1e-4);
  }
});

Deno.test("standardised silence is what model/README.md, Front end, says", async () => {
  using frontend = new LogMel(device);
  using waves = device.zeros([2, 560]);
  using out = frontend.apply(waves);
  assertEquals(out.shape, [2, 80, 2]);
  for (const value of await out.data()) assertAlmostEquals(value, -2.1193, 1e-4);
});

Deno.test("audio shorter than a frame is refused", () => {
  using frontend = new LogMel(device);
  using waves = device.zeros([1, 399]);
  assertThrows(() => frontend.apply(waves), ShapeError, "at least one frame");
});

Deno.test("clips alone, in a batch and in pieces below the binding limit are alike", async () => {
  const clips = 11;
  const samples = 4000;
  const host = Float32Array.from(
    { length: clips * samples },
    (_, i) => Math.sin(i * i * 1e-4) * Math.cos(i * 0.013),
  );
  const run = async (bindingLimit?: number) => {
    using device = await openDevice({ bindingLimit });
    using frontend = new LogMel(device);
    using waves = device.tensor(host, [clips, samples]);
    using out = frontend.apply(waves);
    return await out.data();
  };
  assertEquals(await run(150_000), await run());
});
