/**
 * A run as one page for the eye: a roofline, bars of the fractions, and ratios to other engines.
 * Plain SVG in HTML, nothing is loaded.
 *
 * @module
 */
import { type Attributes, escaped, scrolling, tag, text } from "../train/visualize/markup.ts";
import { ticks } from "../train/visualize/svg.ts";
import type { Row } from "./harness.ts";
import { rateOf, type Report, times } from "./report.ts";

const GROUPS = ["gemm", "attention", "memory", "front end", "step"] as const;
type Group = (typeof GROUPS)[number];

function groupOf({ name }: Row): Group {
  const [first] = name.split("/");
  if (first === "gemm" || first === "attention" || first === "step") return first;
  return first === "logmel" || first === "stft" ? "front end" : "memory";
}

const TITLES: Readonly<Record<Group, string>> = {
  gemm: "Matrix products",
  attention: "Attention",
  memory: "Kernels bound by memory",
  "front end": "Audio front end",
  step: "Training steps",
};

const STYLE = `
:root { color-scheme: light dark;
  --ink: #1c2330; --faint: #6b7483; --line: #d7dce3; --page: #ffffff;
  --gemm: #2f6fde; --attention: #c2410c; --memory: #15803d; --front-end: #a21caf; --step: #52525b; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6e9ee; --faint: #98a2b3; --line: #343b47; --page: #14181f;
  --gemm: #6ea0ff; --attention: #fb923c; --memory: #4ade80; --front-end: #e879f9; --step: #a1a1aa;
} }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 1040px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } p { color: var(--faint); }
svg { display: block; width: 100%; min-width: 920px; height: auto;
  font: 12px system-ui, sans-serif; }
.wide { overflow-x: auto; }
`;

function colour(group: Group): string {
  return `var(--${group.replace(" ", "-")})`;
}

function line(x1: number, y1: number, x2: number, y2: number, attributes: Attributes): string {
  return tag("line", { x1, y1, x2, y2, ...attributes });
}

function drawing(width: number, height: number, label: string, parts: readonly string[]): string {
  const attributes = {
    xmlns: "http://www.w3.org/2000/svg",
    viewBox: `0 0 ${width} ${Math.ceil(height)}`,
    role: "img",
    "aria-label": label,
  };
  return scrolling(label, tag("svg", attributes, `\n${parts.join("\n")}\n`));
}

function powersOf10(low: number, high: number): number[] {
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  return Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i));
}

const WIDTH = 1000;

/**
 * GFLOP/s that a row reached; memory-bound rows count bytes, which their intensity turns into
 * operations.
 */
function gflopsOf({ gflops, gbps, intensity }: Row): number {
  return gflops ?? (gbps ?? 0) * (intensity ?? 0);
}

/**
 * Rates over operations per byte, under the two ceilings, both axes logarithmic.
 *
 * @returns an SVG element
 */
export function roofline({ ceiling, results }: Report): string {
  const rows = results.filter((row) => row.intensity && gflopsOf(row) > 0);
  const { fma_gflops: fma, copy_gbps: copy } = ceiling;
  const ridge = fma / copy;
  const xs = powersOf10(
    Math.min(0.1, ...rows.map(({ intensity }) => intensity!)),
    Math.max(ridge * 10, ...rows.map(({ intensity }) => intensity!)),
  );
  const ys = powersOf10(Math.min(1, ...rows.map(gflopsOf)), fma * 1.2);
  const [left, right, top, bottom] = [56, WIDTH - 28, 16, 400];
  // Little above the roof is worth showing.
  const highest = 2 * Math.max(fma, ...rows.map(gflopsOf));
  const scale = (low: number, high: number, from: number, to: number) => (value: number) =>
    from + (to - from) * Math.log(value / low) / Math.log(high / low);
  const x = scale(xs[0], xs[xs.length - 1], left, right);
  const y = scale(ys[0], highest, bottom, top);
  const grid = [
    ...xs.flatMap((it) => [
      line(x(it), top, x(it), bottom, { stroke: "var(--line)" }),
      text(x(it), bottom + 18, String(Number(it.toPrecision(1))), {
        "text-anchor": "middle",
        fill: "var(--faint)",
      }),
    ]),
    ...ys.filter((it) => it <= highest).flatMap((it) => [
      line(left, y(it), right, y(it), { stroke: "var(--line)" }),
      text(left - 8, y(it) + 4, String(Number(it.toPrecision(1))), {
        "text-anchor": "end",
        fill: "var(--faint)",
      }),
    ]),
  ];
  const lowest = Math.max(xs[0], ys[0] / copy);
  const middle = Math.sqrt(lowest * ridge);
  const roof = tag("polyline", {
    points: [[lowest, lowest * copy], [ridge, fma], [xs[xs.length - 1], fma]]
      .map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" "),
    fill: "none",
    stroke: "var(--ink)",
    "stroke-width": 2,
  });
  const points = rows.map((row) =>
    tag(
      "circle",
      {
        cx: x(row.intensity!),
        cy: y(gflopsOf(row)),
        r: 5,
        fill: colour(groupOf(row)),
        "fill-opacity": "0.7",
      },
      tag("title", {}, escaped(`${row.name}: ${rateOf(row)}, ${share(row)}`)),
    )
  );
  const groups = GROUPS.filter((it) => rows.some((row) => groupOf(row) === it));
  const legend = groups.flatMap((group, i) => [
    tag("circle", {
      cx: right - 180,
      cy: bottom - 20 * (groups.length - i),
      r: 5,
      fill: colour(group),
    }),
    text(right - 168, bottom - 20 * (groups.length - i) + 4, TITLES[group]),
  ]);
  return drawing(WIDTH, 446, "Roofline", [
    ...grid,
    roof,
    text(x(ridge) + 10, y(fma) - 8, `${fma.toFixed(0)} GFLOP/s multiply-add`),
    text(x(middle) - 14, y(middle * copy) - 10, `${copy.toFixed(1)} GB/s copy kernel`, {
      "text-anchor": "end",
    }),
    ...points,
    ...legend,
    text((left + right) / 2, bottom + 38, "operations per byte that has to be moved", {
      "text-anchor": "middle",
      fill: "var(--faint)",
    }),
    text(left + 8, top + 14, "GFLOP/s", { fill: "var(--faint)" }),
  ]);
}

function share({ fraction, bound }: Row): string {
  return `${(100 * fraction).toFixed(0)}% of ${bound === "fma" ? "FMA" : "copy"}`;
}

/** A level line between two places with a bar at both ends. */
function whisker(from: number, y: number, { to }: { readonly to: number }): string[] {
  const ink = { stroke: "var(--ink)", "stroke-opacity": "0.65" };
  return [
    line(from, y, to, y, ink),
    line(from, y - 3, from, y + 3, ink),
    line(to, y - 3, to, y + 3, ink),
  ];
}

const LABELS = 300;
const BAR = 18;

/**
 * A bar per row up to the fraction it reached, with a tick where the naive kernel stands.
 *
 * @returns an SVG element
 */
export function bars(rows: readonly Row[]): string {
  const [left, right] = [LABELS, WIDTH - 335];
  const most = Math.max(1, ...rows.map((it) => it.fraction * (1 + it.fraction_spread)));
  const x = (fraction: number) => left + (right - left) * fraction / most;
  const height = 24 + rows.length * BAR;
  // A mark for every 70 units, which is room for "1000%".
  const grid = ticks(0, most, (right - left) / 70).flatMap((it) => [
    line(x(it), 18, x(it), height, { stroke: "var(--line)" }),
    text(x(it), 12, `${Number((100 * it).toFixed(6))}%`, {
      "text-anchor": "middle",
      fill: "var(--faint)",
    }),
  ]);
  const drawn = rows.flatMap((row, i) => {
    const y = 22 + i * BAR;
    const { naive_ratio: naive, composition_ratio: composed, real_time: real } = row;
    const notes = [
      `${share(row)} ±${(100 * row.fraction * row.fraction_spread).toFixed(0)}`,
      rateOf(row),
      ...(naive === undefined ? [] : [`naive ${times(naive)}`]),
      ...(composed === undefined ? [] : [`composed ${times(composed)}`]),
      ...(real === undefined ? [] : [`${real.toFixed(0)} x real time`]),
      ...(row.samples_per_s === undefined ? [] : [`${row.samples_per_s.toFixed(2)} samples/s`]),
    ];
    return [
      text(left - 8, y + 11, row.name, { "text-anchor": "end" }),
      tag("rect", {
        x: left,
        y: y + 1,
        width: Math.max(1, x(row.fraction) - left),
        height: BAR - 5,
        rx: 2,
        fill: colour(groupOf(row)),
      }, tag("title", {}, escaped(`${row.name}: ${row.ms.toPrecision(3)} ms`))),
      ...whisker(x(row.fraction * Math.max(0, 1 - row.fraction_spread)), y + BAR / 2 - 1.5, {
        to: x(row.fraction * (1 + row.fraction_spread)),
      }),
      ...(naive === undefined ? [] : [
        line(x(row.fraction / naive), y - 1, x(row.fraction / naive), y + BAR - 2, {
          stroke: "var(--ink)",
          "stroke-width": 2,
        }),
      ]),
      text(right + 8, y + 11, notes.join(" · "), { fill: "var(--faint)", "font-size": "11" }),
    ];
  });
  return drawing(WIDTH, height, "Fractions of the ceilings", [...grid, ...drawn]);
}

/**
 * How many times longer other engines take, on a logarithmic axis.
 *
 * @returns an SVG element
 */
export function peerBars(rows: readonly Row[]): string {
  const entries = rows.flatMap(({ name, peers = {}, peer_notes: notes = {} }) => [
    ...Object.entries(peers).map(([peer, ratio]) => ({ name, peer, ratio, note: times(ratio) })),
    ...Object.entries(notes).map(([peer, note]) => ({ name, peer, ratio: undefined, note })),
  ]);
  const ratios = entries.flatMap(({ ratio }) => ratio === undefined ? [] : [ratio]);
  const [low, high] = [Math.min(0.5, ...ratios), Math.max(10, ...ratios)];
  const [left, right] = [LABELS + 60, WIDTH - 60];
  const x = (ratio: number) => left + (right - left) * Math.log(ratio / low) / Math.log(high / low);
  const height = 24 + entries.length * BAR;
  // 1, 2 and 5 of every power of ten, as far as their words do not meet.
  const all = powersOf10(low, high).flatMap((it) => [it, 2 * it, 5 * it])
    .map((it) => Number(it.toPrecision(1))).filter((it) => it >= low && it <= high);
  const marks = all.filter((it) =>
    x(2 * low) - left > 48 || Number.isInteger(Math.log10(it)) || it === 1
  );
  return drawing(WIDTH, height, "Times of other engines over ours", [
    ...marks.flatMap((it) => [
      line(x(it), 18, x(it), height, { stroke: it === 1 ? "var(--ink)" : "var(--line)" }),
      text(x(it), 12, `${it}x`, { "text-anchor": "middle", fill: "var(--faint)" }),
    ]),
    ...entries.flatMap(({ name, peer, ratio, note }, i) => {
      const y = 22 + i * BAR;
      const [from, to] = ratio === undefined ? [1, 1] : [Math.min(1, ratio), Math.max(1, ratio)];
      return [
        text(left - 8, y + 11, `${name}, ${peer}`, { "text-anchor": "end" }),
        tag("rect", {
          x: x(from),
          y: y + 1,
          width: Math.max(1, x(to) - x(from)),
          height: BAR - 5,
          rx: 2,
          fill: peer === "tfjs" ? "var(--attention)" : "var(--gemm)",
        }),
        text(x(to) + 6, y + 11, note, { fill: "var(--faint)" }),
      ];
    }),
  ]);
}

/** The page. */
export function html(report: Report): string {
  const { adapter, ceiling, date, results } = report;
  const sections = GROUPS.flatMap((group) => {
    const rows = results.filter((row) => groupOf(row) === group);
    return rows.length === 0 ? [] : [`<h2>${TITLES[group]}</h2>\n${bars(rows)}`];
  });
  const compared = results.filter(({ peers, peer_notes }) => peers ?? peer_notes);
  if (compared.length > 0) {
    sections.push(
      "<h2>Other engines</h2>\n<p>Their time over ours, on the same adapter in the same run; " +
        `above 1 ours is faster.</p>\n${peerBars(compared)}`,
    );
  }
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>Tessera bench: ${escaped(adapter.description)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${escaped(adapter.description)}</h1>
<p>${escaped(date.slice(0, 16).replace("T", " "))} UTC. Multiply-add ${
    ceiling.fma_gflops.toFixed(1)
  } GFLOP/s, copy kernel ${ceiling.copy_gbps.toFixed(1)} GB/s (buffer copy ${
    ceiling.buffer_copy_gbps.toFixed(1)
  } GB/s), ${ceiling.dispatch_us.toFixed(1)} µs per dispatch, ${
    ceiling.readback_ms.toFixed(1)
  } ms per read-back.</p>
<h2>Roofline</h2>
${roofline(report)}
<p>Bars below: fraction of the ceiling that binds, measured right before and after each sample,
with half the distance between its quartiles to both sides; a tick marks the naive kernel.</p>
${sections.join("\n")}
</body>
</html>
`;
}
