/**
 * Building blocks of drawings: SVG elements, axes, rasters, colour bars. Colours of ink and ground
 * are CSS variables of the page, so that a drawing fits light and dark ones.
 *
 * @module
 */
import { hzToMel, MEL_80, melToHz } from "../../model/frontend/tables.ts";
import { type Attributes, escaped, scrolling, tag, text } from "./markup.ts";
import type { ColourMap } from "./colours.ts";
import { dataUri, encodePng, type Raster } from "./png.ts";

/** Width of all drawings, in their own units. */
export const WIDTH = 1000;
/** Room at the left for numbers and a title. */
export const LEFT = 64;
/** Room at the right for a colour bar. */
export const RIGHT = 96;

/** A straight line. */
export function line(
  x1: number,
  y1: number,
  x2: number,
  y2: number,
  attributes: Attributes,
): string {
  return tag("line", { x1, y1, x2, y2, ...attributes });
}

/** What a mouse shows over an element. */
export function hint(words: string): string {
  return tag("title", {}, escaped(words));
}

/** A whole drawing. */
export function drawing(height: number, label: string, parts: readonly string[]): string {
  const attributes = {
    xmlns: "http://www.w3.org/2000/svg",
    viewBox: `0 0 ${WIDTH} ${Math.ceil(height)}`,
    role: "img",
    "aria-label": label,
  };
  return scrolling(label, tag("svg", attributes, `\n${parts.join("\n")}\n`));
}

/** A rectangle inside a drawing. */
export interface Box {
  /** Left edge. */
  readonly x: number;
  /** Upper edge. */
  readonly y: number;
  /** Width. */
  readonly width: number;
  /** Height. */
  readonly height: number;
}

/** A matrix stretched over a box, the first row at the bottom; pixels stay sharp. */
export function raster(box: Box, picture: Raster): string {
  return tag("image", {
    ...box,
    href: dataUri("image/png", encodePng(picture)),
    preserveAspectRatio: "none",
    style: "image-rendering: pixelated",
  });
}

/** The outline of a box. */
export function outline({ x, y, width, height }: Box, attributes: Attributes = {}): string {
  return tag("rect", { x, y, width, height, fill: "none", stroke: "var(--line)", ...attributes });
}

/** An outline that is seen on any colour: black around white. */
export function marked(box: Box, thickness = 1.5): string {
  return outline(box, { stroke: "#000", "stroke-width": 2 * thickness + 1 }) +
    outline(box, { stroke: "#fff", "stroke-width": thickness });
}

/** Round numbers inside a range, about `count` of them. */
export function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((it) => it * power >= rough) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => {
    // Without the noise of binary fractions.
    return Number(((first + i) * step).toPrecision(12));
  });
}

/** Numbers and marks below a box, and what they count. */
export function timeAxis(box: Box, [low, high]: readonly [number, number], title: string): string {
  const at = (value: number) => box.x + box.width * (value - low) / (high - low);
  const bottom = box.y + box.height;
  return [
    ...ticks(low, high, box.width / 90).flatMap((it) => [
      line(at(it), bottom, at(it), bottom + 5, { stroke: "var(--faint)" }),
      text(at(it), bottom + 18, String(it), { "text-anchor": "middle", fill: "var(--faint)" }),
    ]),
    text(box.x + box.width / 2, bottom + 34, title, {
      "text-anchor": "middle",
      fill: "var(--faint)",
    }),
  ].join("");
}

/** Words along the left side of a box. */
export function sideTitle(box: Box, title: string, left: number = LEFT): string {
  const [x, y] = [box.x - left + 14, box.y + box.height / 2];
  return text(0, 0, title, {
    "text-anchor": "middle",
    fill: "var(--faint)",
    transform: `translate(${x.toFixed(1)} ${y.toFixed(1)}) rotate(-90)`,
  });
}

/**
 * Frequencies that are marked beside a box, the low ones first, and where they are: 0 is its lower
 * edge, 1 its upper one.
 */
export type FrequencyMarks = readonly (readonly [hz: number, share: number])[];

/** Where a frequency is on the axis of bands, from 0 (below the first) to 1 (above the last). */
export function bandShare(hz: number): number {
  const [low, high] = [hzToMel(MEL_80.fmin), hzToMel(MEL_80.fmax)];
  // A band is drawn around its filter's peak; the first peak is one step above the lowest edge.
  const band = (hzToMel(hz) - low) / (high - low) * (MEL_80.bands + 1) - 1;
  return Math.min(1, Math.max(0, (band + 0.5) / MEL_80.bands));
}

/** The frequency at a place on the axis of bands, the inverse of {@link bandShare}. */
export function hzAt(share: number): number {
  const [low, high] = [hzToMel(MEL_80.fmin), hzToMel(MEL_80.fmax)];
  const band = share * MEL_80.bands - 0.5;
  return melToHz(low + (high - low) * (band + 1) / (MEL_80.bands + 1));
}

/** Room for a number. */
const LABEL_HEIGHT = 13;

/** The marks of boxes whose height is MATPAC's mel bands. */
const MEL_MARKS: FrequencyMarks = [100, 250, 500, 1000, 2000, 4000, 8000]
  .map((hz) => [hz, bandShare(hz)] as const);

/** Frequencies beside a box whose height is all mel bands. */
export function frequencyAxis(box: Box, marks: FrequencyMarks = MEL_MARKS): string {
  let lowest = Infinity;
  const shown = marks.toReversed().filter(([, share]) => {
    const y = -box.height * share;
    if (lowest !== Infinity && y - lowest < LABEL_HEIGHT) return false;
    lowest = y;
    return true;
  });
  return [
    ...shown.flatMap(([hz, share]) => {
      const y = box.y + box.height * (1 - share);
      const label = hz < 1000 ? String(hz) : `${hz / 1000}k`;
      return [
        line(box.x - 5, y, box.x, y, { stroke: "var(--faint)" }),
        text(box.x - 8, y + 4, label, { "text-anchor": "end", fill: "var(--faint)" }),
      ];
    }),
    sideTitle(box, "Hz"),
  ].join("");
}

/** A bar of all colours at the right of a box. */
export interface ColourBar {
  /** Colours. */
  readonly map: ColourMap;
  /** Values at both ends. */
  readonly range: readonly [low: number, high: number];
  /** What they count. */
  readonly title: string;
  /** Values with a mark; default round ones. */
  readonly marks?: readonly number[];
  /** How a mark is written. */
  readonly label?: (value: number) => string;
}

/** Draws the bar from the top of the box, as high as that or lower. */
export function colourBar(box: Box, bar: ColourBar): string {
  const { map, range: [low, high], title, label = String } = bar;
  const height = Math.min(box.height, 220);
  const place = {
    x: box.x + box.width + 14,
    y: box.y,
    width: 12,
    height,
  };
  const at = (value: number) => place.y + height * (1 - (value - low) / (high - low));
  const values = Array.from({ length: 256 }, (_, i) => i);
  const [middle, side] = [place.y + height / 2, place.x + place.width + 52];
  return [
    raster(place, { values, rows: 256, columns: 1, range: [0, 255], map }),
    ...(bar.marks ?? ticks(low, high, height / 30)).flatMap((it) => [
      line(place.x + 12, at(it), place.x + 16, at(it), { stroke: "var(--faint)" }),
      text(place.x + 20, at(it) + 4, label(it), { fill: "var(--faint)" }),
    ]),
    text(0, 0, title, {
      "text-anchor": "middle",
      fill: "var(--faint)",
      transform: `translate(${side.toFixed(1)} ${middle.toFixed(1)}) rotate(-90)`,
    }),
  ].join("");
}

/** Points of a class. */
export function point(
  shape: "circle" | "square" | "triangle" | "diamond" | "cross",
  x: number,
  y: number,
  size: number,
  fill: string,
  words?: string,
): string {
  const content = words === undefined ? "" : hint(words);
  const common = { fill, stroke: "var(--page)", "stroke-width": 0.6 };
  if (shape === "circle") return tag("circle", { cx: x, cy: y, r: size, ...common }, content);
  const s = size;
  const corners: Record<Exclude<typeof shape, "circle">, readonly (readonly [number, number])[]> = {
    square: [[-s, -s], [s, -s], [s, s], [-s, s]],
    triangle: [[0, -1.2 * s], [1.15 * s, 0.9 * s], [-1.15 * s, 0.9 * s]],
    diamond: [[0, -1.35 * s], [1.35 * s, 0], [0, 1.35 * s], [-1.35 * s, 0]],
    cross: [
      [-0.4, -1.3],
      [0.4, -1.3],
      [0.4, -0.4],
      [1.3, -0.4],
      [1.3, 0.4],
      [0.4, 0.4],
      [0.4, 1.3],
      [-0.4, 1.3],
      [-0.4, 0.4],
      [-1.3, 0.4],
      [-1.3, -0.4],
      [-0.4, -0.4],
    ].map(([a, b]) => [a * s, b * s] as const),
  };
  const points = corners[shape].map(([a, b]) => `${(x + a).toFixed(2)},${(y + b).toFixed(2)}`);
  return tag("polygon", { points: points.join(" "), ...common }, content);
}
