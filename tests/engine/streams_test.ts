/**
 * Elementwise maps, casts and gathers over arrays so large that each lane of a software adapter
 * walks a page of its own.
 */
import { assert, assertEquals } from "@std/assert";
import { openDevice } from "../../engine/device.ts";
import { cast } from "../../engine/ops/cast.ts";
import { elementwise } from "../../engine/launch/elementwise.ts";
import { batchedIndexSelect } from "../../engine/ops/batched_index_select.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { scope } from "../../engine/scope.ts";
import { sizeOf } from "../../engine/shape.ts";
import { backward } from "../../engine/tape.ts";

const device = await openDevice();
/** Elements that are enough for streams on machines of up to this many cores. */
const LARGE = 2 ** 17 * navigator.hardwareConcurrency;

const values = (size: number): Float32Array =>
  Float32Array.from({ length: size }, (_, i) => i * 7919 % 1021 - 510);

Deno.test("large elementwise maps: broadcast, odd and misaligned rows, slices, results in place", async () => {
  // Units per row that 4, 2 and nothing divides; then rows that no vector load fits.
  for (const width of [64, 24, 12, 6, 7, 1]) {
    const rows = Math.ceil(LARGE / width / 3) + 1;
    const shape = [3, rows, width];
    const [data, bias, scale] = [values(3 * rows * width + 4), values(width), values(3)];
    using base = device.tensor(data);
    using b = device.tensor(bias);
    using s = device.tensor(scale);
    for (const offset of [0, 1, 4]) {
      using x = base.view(shape, undefined, offset);
      using rowScale = s.view(shape, [1, 0, 0]);
      using columns = b.view(shape, [0, 0, 1]);
      using y = device.empty(shape);
      elementwise(y, [x, columns, rowScale], {
        expression: "a + params.alpha * b - c",
        alpha: 2,
      });
      const got = await y.data();
      for (let i = 0; i < got.length; i++) {
        const wanted = data[offset + i] + 2 * bias[i % width] - scale[Math.floor(i / rows / width)];
        if (got[i] !== wanted) assertEquals(got[i], wanted, `${shape} from ${offset}: ${i}`);
      }
    }
    // Every second row of a wider array, added to.
    const wide = values(rows * 6 * width);
    using target = device.tensor(wide);
    using slice = target.view(shape, [2 * rows * width, 2 * width, 1], width);
    using added = base.view(shape);
    elementwise(slice, [added], { expression: "o + a", readOut: true });
    const after = await target.data();
    for (let i = 0; i < after.length; i++) {
      const row = Math.floor(i / width);
      const extra = row % 2 === 1 ? data[(row >> 1) * width + i % width] : 0;
      if (after[i] !== wide[i] + extra) assertEquals(after[i], wide[i] + extra, `${width}: ${i}`);
    }
  }
});

Deno.test({
  name: "large casts between f32 and f16 round to nearest even, as one by one",
  ignore: !device.features.f16,
  fn: async () => {
    // All magnitudes of f16, ties between neighbours, overflow, denormals, NaN.
    const size = LARGE + 4;
    const data = Float32Array.from({ length: size }, (_, i) => {
      const half = new Float16Array(new Uint16Array([i & 0xffff]).buffer)[0];
      const next = new Float16Array(new Uint16Array([(i + 1) & 0xffff]).buffer)[0];
      return i < 65536 ? half : i < 131072 ? (half + next) / 2 : half * (1 + 2 ** -12);
    });
    for (const count of [size, size - 1]) {
      using x = device.tensor(data.subarray(0, count));
      using half = cast(x, "f16");
      using back = cast(half, "f32");
      const [halves, wide] = await device.read([half, back]);
      for (let i = 0; i < count; i++) {
        const wanted = Math.f16round(data[i]);
        if (!Object.is(halves[i], wanted) || !Object.is(wide[i], wanted)) {
          assertEquals([halves[i], wide[i]], [wanted, wanted], `${data[i]} at ${i} of ${count}`);
        }
      }
    }
  },
});

Deno.test("large gathers and their gradients", async () => {
  for (const width of [64, 24, 12, 7]) {
    const [batch, tokens] = [3, Math.ceil(LARGE / width / 2) + 1];
    const picks = tokens - Math.ceil(tokens / 3);
    // Coprime steps: no index repeats. A few are out of range.
    const ids = Uint32Array.from({ length: batch * picks }, (_, i) => {
      const at = i % picks;
      return at % 1000 === 3 ? tokens + at : (at * 2 + 1) % (tokens | 1) % tokens;
    });
    const seen = new Set<number>();
    ids.forEach((id, i) => {
      const key = Math.floor(i / picks) * 2 * tokens + id;
      if (seen.has(key)) ids[i] = tokens;
      seen.add(key);
    });
    const data = values(batch * tokens * width);
    using x = device.tensor(data, [batch, tokens, width]).trainable();
    using index = device.tensor(ids, [batch, picks]);
    using y = scope(() => {
      const y = batchedIndexSelect(x, index, { unique: true });
      backward(sum(y));
      return y;
    });
    const [got, grads] = await device.read([y, x.grad!]);
    const wanted = new Float32Array(sizeOf(x.shape));
    for (let i = 0; i < got.length; i++) {
      const [row, c] = [Math.floor(i / width), i % width];
      const from = (Math.floor(row / picks) * tokens + ids[row]) * width + c;
      if (ids[row] < tokens) wanted[from] = 1;
      const value = ids[row] < tokens ? data[from] : NaN;
      if (!Object.is(got[i], value)) assertEquals(got[i], value, `${width}: ${i}`);
    }
    assert(grads.every((value, i) => value === wanted[i]), `gradient of width ${width}`);
  }
});
