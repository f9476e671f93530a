/**
 * Philox against Random123's known answers; random tensors against the host's numbers and their
 * moments.
 */
import { assert, assertEquals } from "@std/assert";
import { hostUniform, openDevice, philox, randomNormal, randomUniform } from "../../engine/mod.ts";

const device = await openDevice();
const COUNT = 100_003;

Deno.test("philox gives Random123's known answers", () => {
  assertEquals(philox([0, 0, 0, 0], [0, 0]), [
    0x6627e8d5,
    0xe169c58d,
    0xbc57ac4c,
    0x9b00dbd8,
  ]);
  const ones = 0xffffffff;
  assertEquals(
    philox([ones, ones, ones, ones], [ones, ones]),
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  );
});

Deno.test("uniform tensors are the host's numbers, whatever the binding limit", async () => {
  const expected = Float32Array.from(hostUniform(COUNT, 42, 7, 9));
  using small = await openDevice({ bindingLimit: 4096 });
  for (const d of [device, small]) {
    using x = randomUniform(d, [COUNT], 42, { stream: 7, step: 9 });
    assertEquals(await x.data(), expected);
  }
});

Deno.test("normal tensors follow Box and Muller and have the right moments", async () => {
  const u = hostUniform(COUNT, 42, 7, 9);
  using z = randomNormal(device, [COUNT], 42, { stream: 7, step: 9 });
  const values = await z.data();
  let worst = 0;
  for (let i = 0; i + 1 < COUNT; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - u[i]));
    const angle = 2 * Math.PI * u[i + 1];
    worst = Math.max(
      worst,
      Math.abs(values[i] - radius * Math.cos(angle)),
      Math.abs(values[i + 1] - radius * Math.sin(angle)),
    );
  }
  assert(worst < 1e-6, `off by ${worst}`);
  const mean = values.reduce((a, b) => a + b, 0) / COUNT;
  const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / COUNT;
  assert(
    Math.abs(mean) < 0.015 && Math.abs(variance - 1) < 0.02,
    `${mean}, ${variance}`,
  );
});
