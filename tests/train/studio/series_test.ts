/** Curves of many rows as few points, and rows read as they are written. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Prng } from "../../../engine/prng.ts";
import { Rows } from "../../../train/studio/rows.ts";
import { seriesOf, smoothed } from "../../../train/studio/page/series.ts";
import { inTempDir } from "../../support/audio_files.ts";

Deno.test("curves: each column of pixels keeps its smallest and largest value, in their order", () => {
  const random = new Prng(3);
  const rows = 10_007;
  const x = Float64Array.from({ length: rows }, (_, i) => 3 * i + 1);
  const y = Float32Array.from({ length: rows }, () => random.normal());
  const columns = 101;
  const series = seriesOf([{ x, y }], { columns });
  assertEquals([series.x.length, series.y.length], [2 * columns, 1]);
  const width = (x[rows - 1] - x[0]) / columns;
  for (let k = 0; k < columns; k++) {
    const inside = Array.from(y, (value, i) => ({ value, i })).filter(({ i }) =>
      Math.min(columns - 1, Math.floor((x[i] - x[0]) / width)) === k
    );
    const least = inside.reduce((a, b) => b.value < a.value ? b : a);
    const most = inside.reduce((a, b) => b.value > a.value ? b : a);
    const expected = least.i < most.i ? [least.value, most.value] : [most.value, least.value];
    assertEquals([...series.y[0].subarray(2 * k, 2 * k + 2)], expected);
    for (const place of series.x.subarray(2 * k, 2 * k + 2)) {
      assert(place > x[0] + k * width && place < x[0] + (k + 1) * width);
    }
  }
});

Deno.test("curves: few rows come as they are, over the places of all; a part reaches its edges", () => {
  const a = { x: [1, 2, 5], y: [10, NaN, 30] };
  const b = { x: [2, 5, 9], y: [1, 2, 3] };
  const series = seriesOf([a, b, { x: [], y: [] }], { columns: 50 });
  assertEquals([...series.x], [1, 2, 5, 9]);
  assertEquals(series.y.map((it) => [...it]), [
    [10, NaN, 30, NaN],
    [NaN, 1, 2, 3],
    [NaN, NaN, NaN, NaN],
  ]);
  // One row more to both sides.
  const part = seriesOf([{ x: [1, 2, 3, 4, 5, 6], y: [1, 2, 3, 4, 5, 6] }], {
    ...{ columns: 50, from: 2.5, to: 4 },
  });
  assertEquals([...part.x], [2, 3, 4, 5]);
  assertEquals(seriesOf([{ x: [], y: [] }], { columns: 9 }).x.length, 0);
  assertEquals(seriesOf([], { columns: 9 }), { x: new Float64Array(0), y: [] });
  // A logarithmic axis begins at the first place above 0.
  const log = seriesOf([{
    x: Float64Array.from({ length: 5000 }, (_, i) => i),
    y: new Float32Array(5000),
  }], {
    ...{ columns: 10, log: true },
  });
  assert(log.x[0] > 1 && log.x.every((it, i) => i === 0 || it > log.x[i - 1]));
});

Deno.test("curves: smoothing is a weighted mean of the rows before, whose weights sum to 1", () => {
  const y = [4, NaN, 2, 8];
  const keep = 1 - 2 / 4;
  // By hand: weights (1 - keep) keep^age over those that there are.
  const expected = [4, NaN, (4 * keep + 2) / (1 + keep), (4 * keep ** 2 + 2 * keep + 8) / 1.75];
  smoothed(y, 3).forEach((it, i) =>
    Number.isNaN(expected[i]) ? assert(Number.isNaN(it)) : assertAlmostEquals(it, expected[i], 1e-6)
  );
  assertEquals([...smoothed([5, 1], 1)], [5, 1]);
});

Deno.test("rows: a line cut in the middle waits for its end, damaged lines are counted", () =>
  inTempDir((dir) => {
    const path = join(dir, "metrics.jsonl");
    const row = (step: number, seconds: number, more = {}) =>
      `${JSON.stringify({ step, seconds, samples: 8 * step, loss: 1 / step, ...more })}\n`;
    const rows = new Rows(path);
    assertEquals([rows.look(), rows.last], ["same", undefined]);
    Deno.writeTextFileSync(
      path,
      row(1, 2) + "{broken\n" + row(2, 3, { lr: 0.5 }) + '{"step":3,"sec',
    );
    assertEquals(rows.look(), "grown");
    // The newest is known before the others are read.
    assertEquals([rows.last?.step, rows.length], [2, 0]);
    assertEquals(rows.more(), false);
    assertEquals([[...rows.steps], rows.damaged], [[1, 2], 1]);
    assertEquals([...rows.column("lr")!], [NaN, 0.5]);
    Deno.writeTextFileSync(path, 'onds":4,"loss":null}\n' + row(4, 1), { append: true });
    assertEquals(rows.look(), "grown");
    rows.more();
    assertEquals([[...rows.steps], rows.damaged], [[1, 2, 3, 4], 1]);
    // Another process went on: its seconds come on top.
    assertEquals([...rows.seconds], [2, 3, 4, 5]);
    assertEquals([...rows.column("loss")!], [1, 0.5, NaN, 0.25]);
    assertEquals([...rows.column("lr")!], [NaN, 0.5, NaN, NaN]);
    assertEquals(rows.column("none"), undefined);
    assertEquals(rows.look(), "same");
    // What a resumed run does again takes the place of what it did.
    Deno.writeTextFileSync(path, row(3, 2, { loss: 9 }), { append: true });
    rows.look();
    rows.more();
    assertEquals([[...rows.steps], [...rows.column("loss")!]], [[1, 2, 3], [1, 0.5, 9]]);
    const beside = join(dir, "new");
    Deno.writeTextFileSync(beside, row(1, 7));
    Deno.renameSync(beside, path);
    assertEquals(rows.look(), "replaced");
    rows.more();
    assertEquals([[...rows.steps], [...rows.seconds]], [[1], [7]]);
    Deno.removeSync(path);
    assertEquals([rows.look(), rows.length, rows.look()], ["gone", 0, "same"]);
  }));

Deno.test("rows: any number of them, in pieces", () =>
  inTempDir((dir) => {
    const path = join(dir, "metrics.jsonl");
    const count = 30_000;
    const text = Array.from(
      { length: count },
      (_, i) =>
        JSON.stringify({ step: i + 1, seconds: i, samples: i, loss: i % 7, note: "é".repeat(40) }),
    );
    Deno.writeTextFileSync(path, `${text.join("\n")}\n`);
    const rows = new Rows(path);
    rows.look();
    let pieces = 1;
    while (rows.more()) pieces++;
    assert(pieces > 1);
    assertEquals([rows.length, rows.damaged], [count, 0]);
    assert(rows.column("loss")!.every((it, i) => it === i % 7));
  }));
