/**
 * Windows of HTS-AT against float64 written over the image itself, without rolling it; the canvas
 * that clips are brought onto. Its numbers are held against golden sets by `verify`.
 */
import { assertAlmostEquals, assertEquals } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { onCanvas } from "../../../model/pretrained/htsat.ts";
import {
  mergeNeighbours,
  windowBlock,
  windowIndex,
  WindowTables,
} from "../../../model/pretrained/windows.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const [SIDE, WINDOW, WIDTH, HEADS] = [8, 4, 6, 2];
const TOKENS = SIDE * SIDE;

const random = new Prng(5);
const draw = (size: number) => Float32Array.from({ length: size }, () => random.uniform() - 0.5);

const PARAMETERS: Record<string, { data: Float32Array; shape: number[] }> = Object.fromEntries([
  ...[["norm1", WIDTH], ["norm2", WIDTH], ["norm", 4 * WIDTH]].map(([name, size]) =>
    [`${name}.weight`, { data: draw(size as number).map((x) => 1 + x), shape: [size] }] as const
  ),
  ...[["norm1", WIDTH], ["norm2", WIDTH], ["norm", 4 * WIDTH]].map(([name, size]) =>
    [`${name}.bias`, { data: draw(size as number), shape: [size] }] as const
  ),
  ...[
    ["attn.qkv", 3 * WIDTH, WIDTH],
    ["attn.proj", WIDTH, WIDTH],
    ["mlp.fc1", 4 * WIDTH, WIDTH],
    ["mlp.fc2", WIDTH, 4 * WIDTH],
    ["reduction", 2 * WIDTH, 4 * WIDTH],
  ].flatMap(([name, out, inputs]) => [
    [`${name}.weight`, {
      data: draw((out as number) * (inputs as number)),
      shape: [out, inputs],
    }] as const,
    [`${name}.bias`, { data: draw(out as number), shape: [out] }] as const,
  ]),
  ["attn.relative_position_bias_table", {
    data: draw((2 * WINDOW - 1) ** 2 * HEADS),
    shape: [(2 * WINDOW - 1) ** 2, HEADS],
  }] as const,
]) as Record<string, { data: Float32Array; shape: number[] }>;

const p = (name: string) => device.tensor(PARAMETERS[name].data, PARAMETERS[name].shape);

function normed(name: string, x: ArrayLike<number>): number[] {
  const all = Array.from(x);
  const mean = all.reduce((a, b) => a + b) / all.length;
  const variance = all.reduce((a, b) => a + (b - mean) ** 2, 0) / all.length;
  const [weight, bias] = ["weight", "bias"].map((it) => PARAMETERS[`${name}.${it}`].data);
  return all.map((it, i) => (it - mean) / Math.sqrt(variance + 1e-5) * weight[i] + bias[i]);
}

function layered(name: string, x: readonly number[], biased = true): number[] {
  const { data, shape: [out, inputs] } = PARAMETERS[`${name}.weight`];
  const bias = PARAMETERS[`${name}.bias`].data;
  return Array.from(
    { length: out },
    (_, o) => x.reduce((a, it, i) => a + it * data[o * inputs + i], biased ? bias[o] : 0),
  );
}

/** The error function by its series, whose terms are small below 4. */
function erf(x: number): number {
  let [sum, term] = [0, x];
  for (let n = 0; n < 80; n++) {
    sum += term / (2 * n + 1);
    term *= -x * x / (n + 1);
  }
  return sum * 2 / Math.sqrt(Math.PI);
}

/** Tokens see those of their window: of the grid that is shifted by half a window, where asked. */
function reference(x: Float32Array, shifted: boolean): number[] {
  const rows = Array.from({ length: TOKENS }, (_, i) => x.subarray(i * WIDTH, (i + 1) * WIDTH));
  const qkv = rows.map((it) => layered("attn.qkv", normed("norm1", it)));
  const d = WIDTH / HEADS;
  const windowOf = (i: number) => Math.floor((i + (shifted ? WINDOW / 2 : 0)) / WINDOW);
  const table = PARAMETERS["attn.relative_position_bias_table"].data;
  return rows.flatMap((row, query) => {
    const mixed = new Array<number>(WIDTH).fill(0);
    for (let h = 0; h < HEADS; h++) {
      const seen: { weight: number; key: number }[] = [];
      for (let key = 0; key < TOKENS; key++) {
        const [r, c] = [Math.floor(query / SIDE), query % SIDE];
        const [s, t] = [Math.floor(key / SIDE), key % SIDE];
        if (windowOf(r) !== windowOf(s) || windowOf(c) !== windowOf(t)) continue;
        let score =
          table[((r - s + WINDOW - 1) * (2 * WINDOW - 1) + c - t + WINDOW - 1) * HEADS + h];
        for (let i = 0; i < d; i++) {
          score += qkv[query][h * d + i] * qkv[key][WIDTH + h * d + i] / Math.sqrt(d);
        }
        seen.push({ weight: Math.exp(score), key });
      }
      const sum = seen.reduce((a, { weight }) => a + weight, 0);
      for (const { weight, key } of seen) {
        for (let i = 0; i < d; i++) {
          mixed[h * d + i] += weight / sum * qkv[key][2 * WIDTH + h * d + i];
        }
      }
    }
    const attended = layered("attn.proj", mixed).map((it, i) => it + row[i]);
    const inner = layered("mlp.fc1", normed("norm2", attended))
      .map((it) => it / 2 * (1 + erf(it / Math.SQRT2)));
    return layered("mlp.fc2", inner).map((it, i) => it + attended[i]);
  });
}

Deno.test("blocks of windows, shifted and not, are those of float64", async () => {
  const clips = 2;
  const x = draw(clips * TOKENS * WIDTH);
  using tables = new WindowTables(device, WINDOW);
  for (const shifted of [false, true]) {
    const sizes = { side: SIDE, tables, heads: HEADS, shifted };
    using y = windowBlock(p, device.tensor(x, [clips, TOKENS, WIDTH]), sizes);
    const found = await y.data();
    for (let clip = 0; clip < clips; clip++) {
      const first = clip * TOKENS * WIDTH;
      // Sums of some 24 float32 products of about 1.
      reference(x.subarray(first, first + TOKENS * WIDTH), shifted)
        .forEach((it, i) => assertAlmostEquals(found[first + i], it, 3e-6));
    }
  }
});

Deno.test("neighbours are merged left column first, and normalised before", async () => {
  const x = draw(TOKENS * WIDTH);
  using y = mergeNeighbours(p, device.tensor(x, [1, TOKENS, WIDTH]), SIDE);
  assertEquals(y.shape, [1, TOKENS / 4, 2 * WIDTH]);
  const found = await y.data();
  for (let i = 0; i < TOKENS / 4; i++) {
    const [row, column] = [2 * Math.floor(i / (SIDE / 2)), 2 * (i % (SIDE / 2))];
    const four = [[0, 0], [1, 0], [0, 1], [1, 1]].flatMap(([r, c]) => {
      const at = ((row + r) * SIDE + column + c) * WIDTH;
      return [...x.subarray(at, at + WIDTH)];
    });
    layered("reduction", normed("norm", four), false)
      .forEach((it, c) => assertAlmostEquals(found[i * 2 * WIDTH + c], it, 3e-6));
  }
});

Deno.test("relative positions of a window count from its lower right corner", () => {
  assertEquals([...windowIndex(2)], [4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4]);
});

Deno.test("clips fill the canvas by repetition, then bicubically from end to end", async () => {
  const bands = 3;
  const placesOf = async (count: number) => {
    const frames = draw(2 * count * bands);
    using y = onCanvas(device.tensor(frames, [2, count, bands]));
    assertEquals(y.shape, [2, 1024, bands]);
    const found = await y.data();
    const at = (values: Float32Array, clip: number, place: number, of: number) => [
      ...values.subarray((clip * of + place) * bands, (clip * of + place + 1) * bands),
    ];
    return {
      place: (clip: number, place: number) => at(found, clip, place, 1024),
      frame: (clip: number, frame: number) => at(frames, clip, frame, count),
    };
  };
  const [whole, half] = [await placesOf(1024), await placesOf(512)];
  // 341 frames fit three times, 1023 of them are stretched by one place.
  const [three, long] = [await placesOf(341), await placesOf(700)];
  for (const clip of [0, 1]) {
    for (const place of [0, 1, 511, 512, 1023]) {
      assertEquals(whole.place(clip, place), whole.frame(clip, place));
      assertEquals(half.place(clip, place), half.frame(clip, place % 512));
    }
    assertEquals(three.place(clip, 0), three.frame(clip, 0));
    assertEquals(three.place(clip, 1023), three.frame(clip, 340));
    for (const place of [1, 300, 777]) {
      const at = place * 699 / 1023;
      const expected = new Array<number>(bands).fill(0);
      for (let i = Math.floor(at) - 1; i < Math.floor(at) + 3; i++) {
        const x = Math.abs(at - i);
        // Keys' kernel with a = -0.75.
        const weight = x <= 1
          ? 1.25 * x ** 3 - 2.25 * x ** 2 + 1
          : -0.75 * (x ** 3 - 5 * x ** 2 + 8 * x - 4);
        long.frame(clip, Math.max(0, i)).forEach((it, band) => expected[band] += weight * it);
      }
      long.place(clip, place).forEach((it, i) => assertAlmostEquals(it, expected[i], 1e-6));
    }
  }
});
