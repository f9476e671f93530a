/**
 * How an embedding moves over time: components on the time axis of the spectrogram, and its path.
 *
 * @module
 */
import { colourAt, VIRIDIS } from "./colours.ts";
import type { Components } from "./components.ts";
import { panel, panelBox, rangeOf, secondsOf, type Spectrogram } from "./spectrogram.ts";
import { tag, text } from "./markup.ts";
import {
  type Box,
  drawing,
  hint,
  line,
  outline,
  raster,
  sideTitle,
  ticks,
  timeAxis,
} from "./svg.ts";

/** Embeddings of the time steps of a clip, in few dimensions. */
export interface Trajectory extends Components {
  /** Where each step starts in the spectrogram, in seconds from its beginning. */
  readonly times: readonly number[];
  /** Seconds of a step. */
  readonly step: number;
  /** Seconds of a chunk; chunks are encoded apart. */
  readonly chunk: number;
}

const LINES = ["var(--first)", "var(--second)", "var(--third)"] as const;

/** A component in words. */
export function componentTitle(i: number, share: number): string {
  return `PC ${i + 1} (${(100 * share).toFixed(0)} % of variance)`;
}

/** What is drawn around points. */
export interface PointAxes {
  /** Of both axes. */
  readonly titles: readonly [x: string, y: string];
  /**
   * Whether coordinates mean something: then they are written, with the same scale along both axes.
   */
  readonly numbers: boolean;
}

/** Smallest and largest of any number of values. */
const extentOf = (values: readonly number[]): [number, number] => [
  values.reduce((a, b) => Math.min(a, b), Infinity),
  values.reduce((a, b) => Math.max(a, b), -Infinity),
];

/** Axes of a plot of points in a box, and where a point is in it. */
export function pointAxes(
  box: Box,
  points: readonly (readonly number[])[],
  { titles, numbers }: PointAxes,
): { readonly parts: string; readonly at: (point: readonly number[]) => [number, number] } {
  const extent = (i: number): [number, number] => {
    return extentOf(points.map((it) => it[i]));
  };
  const [[left, right], [low, high]] = [extent(0), extent(1)];
  const fitting = [(right - left) / box.width, (high - low) / box.height]
    .map((it) => Math.max(it, 1e-9) * 1.12);
  const scale = numbers ? [Math.max(...fitting), Math.max(...fitting)] : fitting;
  const [middleX, middleY] = [(left + right) / 2, (low + high) / 2];
  const at = ([x, y]: readonly number[]): [number, number] => [
    box.x + box.width / 2 + (x - middleX) / scale[0],
    box.y + box.height / 2 - (y - middleY) / scale[1],
  ];
  const half = [box.width / 2 * scale[0], box.height / 2 * scale[1]];
  const faint = { fill: "var(--faint)" };
  const bottom = box.y + box.height;
  const marks = numbers
    ? [
      ...ticks(middleX - half[0], middleX + half[0], box.width / 100).flatMap((it) => [
        line(at([it, 0])[0], box.y, at([it, 0])[0], bottom, { stroke: "var(--line)" }),
        text(at([it, 0])[0], bottom + 16, String(it), { "text-anchor": "middle", ...faint }),
      ]),
      ...ticks(middleY - half[1], middleY + half[1], box.height / 80).flatMap((it) => [
        line(box.x, at([0, it])[1], box.x + box.width, at([0, it])[1], { stroke: "var(--line)" }),
        text(box.x - 6, at([0, it])[1] + 4, String(it), { "text-anchor": "end", ...faint }),
      ]),
    ]
    : [];
  const parts = [
    tag("rect", { ...box, fill: "var(--panel)" }),
    ...marks,
    outline(box),
    text(box.x + box.width / 2, bottom + (numbers ? 34 : 20), titles[0], {
      "text-anchor": "middle",
      ...faint,
    }),
    sideTitle(box, titles[1], numbers ? 56 : 24),
  ].join("");
  return { parts, at };
}

/**
 * The spectrogram, up to three components over time below it, a strip of colours that tells the
 * time, and the path along the first two components in these colours.
 */
export function drawTrajectory(trajectory: Trajectory, clip: Spectrogram): string {
  const { points, shares, times, step, chunk } = trajectory;
  const top = panelBox(12, 140);
  const plot = { ...top, y: top.y + top.height + 12, height: 170 };
  const strip = { ...top, y: plot.y + plot.height + 10, height: 12 };
  const path = { ...top, y: strip.y + 84, height: 440 };
  const [first, last] = secondsOf(clip);
  const length = last - first;
  const x = (time: number) => plot.x + plot.width * Math.min(1, (time + step / 2) / length);
  const all = points.flat();
  const [low, high] = extentOf(all);
  const room = Math.max(high - low, 1e-9) * 0.06;
  const y = (value: number) =>
    plot.y + plot.height * (1 - (value - low + room) / (high - low + 2 * room));
  const lines = shares.map((_, i) =>
    tag("polyline", {
      points: points.map((it, step) => `${x(times[step]).toFixed(1)},${y(it[i]).toFixed(1)}`)
        .join(" "),
      fill: "none",
      stroke: LINES[i],
      "stroke-width": 2,
    })
  );
  const legend = shares.flatMap((share, i) => [
    line(
      plot.x + plot.width + 8,
      plot.y + 14 + 22 * i,
      plot.x + plot.width + 26,
      plot.y + 14 + 22 * i,
      {
        stroke: LINES[i],
        "stroke-width": 2.5,
      },
    ),
    text(
      plot.x + plot.width + 31,
      plot.y + 18 + 22 * i,
      `PC ${i + 1} ${(100 * share).toFixed(0)} %`,
    ),
  ]);
  const borders = Array.from({ length: Math.ceil(length / chunk - 1e-9) - 1 }, (_, i) => {
    const at = plot.x + plot.width * (i + 1) * chunk / length;
    return line(at, plot.y, at, plot.y + plot.height, {
      stroke: "var(--faint)",
      "stroke-dasharray": "4 4",
    });
  });
  const share = (time: number) => Math.min(1, (time + step / 2) / length);
  const titles = [componentTitle(0, shares[0]), componentTitle(1, shares[1] ?? 0)] as const;
  const plane = points.map((it) => [it[0], it[1] ?? 0]);
  const { parts, at } = pointAxes(path, plane, { titles, numbers: true });
  const route = tag("polyline", {
    points: plane.map((it) => at(it).map((v) => v.toFixed(1)).join(",")).join(" "),
    fill: "none",
    stroke: "var(--faint)",
    "stroke-opacity": "0.55",
  });
  const dots = plane.map((it, i) => {
    const [cx, cy] = at(it);
    return tag(
      "circle",
      {
        cx,
        cy,
        r: 5,
        fill: colourAt(VIRIDIS, share(times[i])),
        stroke: "var(--ink)",
        "stroke-width": 0.7,
      },
      hint(`${(first + times[i]).toFixed(2)} s`),
    );
  });
  const named = [[0, "start"], [plane.length - 1, "end"]] as const;
  return drawing(path.y + path.height + 48, "Embedding over time", [
    panel(top, clip, rangeOf(clip)),
    tag("rect", { ...plot, fill: "var(--panel)" }),
    ...ticks(low, high, 4).flatMap((it) => [
      line(plot.x, y(it), plot.x + plot.width, y(it), { stroke: "var(--line)" }),
      text(plot.x - 8, y(it) + 4, String(it), { "text-anchor": "end", fill: "var(--faint)" }),
    ]),
    outline(plot),
    sideTitle(plot, "component"),
    ...borders,
    ...lines,
    ...legend,
    raster(strip, {
      values: Array.from({ length: 256 }, (_, i) => i),
      rows: 1,
      columns: 256,
      range: [0, 255],
      map: VIRIDIS,
    }),
    timeAxis(strip, [first, last], "seconds; the strip shows the colours of the path below"),
    parts,
    route,
    ...dots,
    ...named.map(([i, words]) =>
      text(at(plane[i])[0] + 8, at(plane[i])[1] - 8, words, { "font-weight": "bold" })
    ),
  ]);
}
