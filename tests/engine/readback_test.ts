/** Reads that are fetched later, with mapped memory taken at once and awaited. */
import { assertEquals, assertThrows } from "@std/assert";
import { openDevice } from "../../engine/device.ts";
import { ShapeError } from "../../engine/errors.ts";
import { fill } from "../../engine/launch/copy.ts";
import { storeRow } from "../../engine/launch/ring_buffer.ts";
import { capture } from "../../engine/plan.ts";

for (const fastReadback of [true, false]) {
  const way = fastReadback ? "taken at once" : "awaited";
  const device = await openDevice({ fastReadback });

  Deno.test(`readLater, ${way}: values are those of the call, whatever follows`, async () => {
    using x = device.zeros([3]);
    const pending = [];
    for (let i = 0; i < 5; i++) {
      fill(x, i);
      pending.push(device.readLater([x]));
    }
    fill(x, 99);
    device.flush();
    // Out of order, and one of them twice.
    for (const i of [3, 0, 4, 1, 2, 3]) {
      assertEquals((await pending[i].values())[0], new Float32Array(3).fill(i));
    }
  });

  Deno.test(`readLater, ${way}: tensors of several dtypes, parts and none`, async () => {
    using x = device.tensor(Float32Array.from({ length: 100 }, (_, i) => i));
    using ids = device.tensor(Uint32Array.of(7, 8));
    const part = x.view([2, 3], undefined, 41);
    const later = device.readLater([part, ids]);
    part.dispose();
    assertEquals(await later.values(), [
      Float32Array.of(41, 42, 43, 44, 45, 46),
      Uint32Array.of(7, 8),
    ]);
    using none = device.zeros([0]);
    assertEquals(await device.readLater([none]).values(), [new Float32Array(0)]);
    assertEquals(await device.readLater([]).values(), []);
    using strided = x.view([3], [2]);
    assertEquals(await device.readLater([strided]).values(), [Float32Array.of(0, 2, 4)]);
  });

  Deno.test(`a ring, ${way}: replays fill one row after the other and go round`, async () => {
    using ring = device.zeros([4, 3]);
    using place = device.zeros([1]);
    using x = device.zeros([3]);
    using plan = capture(device, [x], (row) => storeRow(ring, row, place));
    const reads = [];
    for (let step = 0; step < 6; step++) {
      device.write(place, Float32Array.of(step));
      plan.replay([Float32Array.of(step, 10 * step, -step)]);
      reads.push(device.readLater([ring]));
    }
    const rows = (...steps: number[]) =>
      Float32Array.from(steps.flatMap((s) => s < 0 ? [0, 0, 0] : [s, 10 * s, -s]));
    assertEquals(await reads[1].values(), [rows(0, 1, -1, -1)]);
    assertEquals(await reads[5].values(), [rows(4, 5, 2, 3)]);
    assertThrows(() => storeRow(ring, place, place), ShapeError, "do not fit the ring [4, 3]");
  });
}
