/** Reports of benchmarks: lines, JSON and pages. */
import { assert, assertEquals } from "@std/assert";
import { html } from "../../bench/html.ts";
import type { Row } from "../../bench/harness.ts";
import { ceilingLines, reportOf, rowLine } from "../../bench/report.ts";

const ADAPTER = {
  vendor: "v",
  architecture: "",
  device: "d",
  description: `<soft> & "ware"`,
  software: true,
  subgroupSize: 8,
};
const CEILINGS = {
  fmaGflops: 80,
  copyGbps: 9,
  bufferCopyGbps: 30,
  dispatchUs: 30,
  readbackMs: 11,
};
const row = (name: string, more: Partial<Row> = {}): Row => ({
  name,
  bound: "fma",
  ms: 23.5,
  spread: 0.02,
  gflops: 51.3,
  intensity: 140,
  fraction: 0.62,
  fraction_spread: 0.01,
  ...more,
});
const copy = { bound: "copy", gflops: undefined, gbps: 4, intensity: 0.5 } as const;
const ROWS: readonly Row[] = [
  row("gemm/nn/1024x768x768", { naive_ratio: 27.1, peers: { "jax-js": 6.8, tfjs: 0.8 } }),
  row("attention/forward/b8h12t134d64", { composition_ratio: 5, peer_notes: { tfjs: "no <op>" } }),
  row("layernorm/backward/1072x768", { ...copy, naive_ratio: 0.7, fraction: 1.13 }),
  // Nothing is computed, or nobody counted.
  row("tokens/gather/b8x57of190x768", { ...copy, intensity: 0 }),
  row("logmel", { real_time: 8200 }),
  row("step/tiny", { intensity: undefined, samples_per_s: 24.7, peak_bytes: 2 ** 28 }),
];
const report = reportOf(
  ADAPTER,
  CEILINGS,
  { drift: 0.1, jitter: 0.01 },
  ROWS,
  new Date(Date.UTC(2026, 0, 2)),
);

/** Names of all elements of well-formed markup. */
function elements(markup: string): string[] {
  const [names, open]: [string[], string[]] = [[], []];
  let at = 0;
  for (const match of markup.matchAll(/<(\/?)([\w-]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g)) {
    const between = markup.slice(at, match.index);
    assert(!/[<>]|&(?!#\d+;)/.test(between), `text: ${between}`);
    at = match.index + match[0].length;
    const [, closes, name, attributes, empty] = match;
    const keys = [...attributes.matchAll(/([\w:-]+)=/g)].map(([, key]) => key);
    assertEquals(new Set(keys).size, keys.length, match[0]);
    if (closes) assertEquals(open.pop(), name, match[0]);
    else names.push(name);
    if (!closes && !empty) open.push(name);
  }
  assertEquals(open, []);
  assertEquals(markup.slice(at).trim(), "");
  return names;
}

Deno.test("the page is well-formed, self-contained and has every row", () => {
  const page = html(report);
  const body = page.replace("<!DOCTYPE html>", "").replace(/<style>[^<]*<\/style>/, "");
  const names = elements(body);
  for (const { name } of ROWS) assert(body.includes(`>${name}<`), name);
  // A roofline, a drawing per family, one of peers.
  assertEquals(names.filter((it) => it === "svg").length, 1 + 5 + 1);
  assert(!/(src|href)=|@import|url\(/.test(page));
  assert(page.includes("&#60;soft&#62; &#38; &#34;ware&#34;"));
  assert(!/NaN|Infinity|undefined/.test(page));
});

Deno.test("drawings stay inside their frames", () => {
  for (const [svg] of html(report).matchAll(/<svg[\s\S]*?<\/svg>/g)) {
    const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg)!.map(Number);
    for (const [, key, value] of svg.matchAll(/ (x|y|cx|cy|x1|x2|y1|y2)="(-?[\d.]+)"/g)) {
      const most = key.includes("x") ? width : height;
      assert(Number(value) >= 0 && Number(value) <= most, `${key}=${value} in ${width}x${height}`);
    }
    for (const [, x, w] of svg.matchAll(/<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"/g)) {
      assert(Number(x) + Number(w) <= width);
    }
  }
});

Deno.test("a page of one row, and of none", () => {
  for (const results of [ROWS.slice(0, 1), ROWS.slice(5), []]) {
    const page = html({ ...report, results });
    elements(page.replace("<!DOCTYPE html>", "").replace(/<style>[^<]*<\/style>/, ""));
    assert(!/NaN|Infinity/.test(page));
  }
});

Deno.test("JSON has what the interface promises", () => {
  const parsed = JSON.parse(JSON.stringify(report));
  assertEquals(parsed.adapter, ADAPTER);
  assertEquals(parsed.driver, ADAPTER.description);
  assertEquals(parsed.date, "2026-01-02T00:00:00.000Z");
  assertEquals(parsed.ceiling, {
    fma_gflops: 80,
    copy_gbps: 9,
    buffer_copy_gbps: 30,
    dispatch_us: 30,
    readback_ms: 11,
  });
  const [first, , third] = parsed.results;
  for (const key of ["ms", "spread", "gflops", "fraction", "naive_ratio"]) {
    assertEquals(typeof first[key], "number", key);
  }
  assertEquals(first.peers, { "jax-js": 6.8, tfjs: 0.8 });
  assertEquals([third.gbps, "gflops" in third], [4, false]);
  assertEquals([parsed.results[4].real_time, parsed.results[5].samples_per_s], [8200, 24.7]);
});

Deno.test("lines tell time, rate, fraction and ratios", () => {
  const [gemm, attention, norm, , mel, step] = ROWS.map((it) => rowLine(it, 30));
  for (const part of ["23.5 ms", "51.3 GFLOP/s", "62% of FMA", "naive 27x", "jax-js 6.80x"]) {
    assert(gemm.includes(part), part);
  }
  assert(attention.includes("composed 5.00x") && attention.includes("tfjs: no <op>"));
  assert(norm.includes("4.00 GB/s") && norm.includes("113% of copy"));
  assert(mel.includes("8200 x real time"));
  assert(step.includes("24.70 samples/s") && step.includes("256.0 MiB"), step);
  const head = ceilingLines(ADAPTER, CEILINGS);
  for (const part of ["80.0 GFLOP/s", "9.0 GB/s", "30.0 us", "11.0 ms"]) {
    assert(head.includes(part), part);
  }
});
