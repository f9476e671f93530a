/**
 * A folder's embeddings in the plane, coloured by label.
 *
 * @module
 */
import { classStyle, MOST_CLASSES } from "./colours.ts";
import type { Components } from "./components.ts";
import { text } from "./markup.ts";
import { drawing, LEFT, point, WIDTH } from "./svg.ts";
import { componentTitle, type PointAxes, pointAxes } from "./trajectory.ts";

/** A clip of the map. */
export interface MapClip {
  /** For people. */
  readonly name: string;
  /** Its labels; the first one gives the colour. */
  readonly labels: readonly string[];
}

/** Clips in the plane, in two ways. */
export interface EmbeddingMap {
  /** What the points are. */
  readonly clips: readonly MapClip[];
  /** Along the two components of largest variance. */
  readonly components: Components;
  /** Of UMAP; absent where there are too few clips. */
  readonly neighbours: readonly (readonly [number, number])[] | undefined;
}

/**
 * Labels in the order of their colours, the most frequent first where there are more than can be
 * told apart.
 */
export function labelsOf(clips: readonly MapClip[]): string[] {
  const counts = new Map<string, number>();
  for (const { labels: [label] } of clips) {
    if (label !== undefined) counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  const names = [...counts.keys()].sort();
  if (names.length <= MOST_CLASSES) return names;
  return names.sort((a, b) => counts.get(b)! - counts.get(a)! || (a < b ? -1 : 1))
    .slice(0, MOST_CLASSES).sort();
}

const OTHER = { colour: "var(--faint)", shape: "circle" } as const;
const COLUMNS = 5;

/** Two panels side by side and the legend below them. */
export function drawMap({ clips, components, neighbours }: EmbeddingMap): string {
  const labels = labelsOf(clips);
  const numbers = new Map(labels.map((it, i) => [it, i]));
  const styleOf = ([label]: readonly string[]) => {
    const number = label === undefined ? undefined : numbers.get(label);
    return number === undefined ? OTHER : classStyle(number);
  };
  const side = (WIDTH - LEFT - 60) / 2;
  const size = clips.length > 1000 ? 2.5 : clips.length > 150 ? 4 : 5.5;
  const panel = (
    x: number,
    title: string,
    points: readonly (readonly number[])[],
    axes: PointAxes,
  ) => {
    const { parts, at } = pointAxes({ x, y: 34, width: side, height: side }, points, axes);
    const dots = points.map((it, i) => {
      const { colour, shape } = styleOf(clips[i].labels);
      const words = [clips[i].name, clips[i].labels.join(", ")].filter((it) => it !== "");
      return point(shape, ...at(it), size, colour, words.join(": "));
    });
    return [text(x, 20, title, { "font-weight": "bold" }), parts, ...dots];
  };
  const { points, shares } = components;
  const plane = points.map((it) => [it[0] ?? 0, it[1] ?? 0]);
  const others = clips.filter((it) => styleOf(it.labels) === OTHER).length;
  const entries = [
    ...labels.map((name, i) => ({ name, ...classStyle(i) })),
    ...(others > 0 ? [{ name: labels.length > 0 ? "other" : "no label", ...OTHER }] : []),
  ];
  const below = 34 + side + 64;
  const legend = entries.flatMap(({ name, colour, shape }, i) => {
    const x = LEFT + i % COLUMNS * (WIDTH - LEFT - 20) / COLUMNS;
    const y = below + Math.floor(i / COLUMNS) * 22;
    const shown = name.length > 24 ? `${name.slice(0, 23)}…` : name;
    return [point(shape, x + 6, y - 4, 5.5, colour), text(x + 18, y, shown)];
  });
  const height = below + Math.ceil(entries.length / COLUMNS) * 22;
  return drawing(height, `Embeddings of ${clips.length} clips`, [
    ...panel(LEFT, "Principal components", plane, {
      titles: [componentTitle(0, shares[0] ?? 0), componentTitle(1, shares[1] ?? 0)],
      numbers: true,
    }),
    ...(neighbours
      ? panel(LEFT + side + 56, "UMAP", neighbours, {
        titles: ["UMAP 1", "UMAP 2"],
        numbers: false,
      })
      : [text(LEFT + side + 56, 60, "Too few clips for UMAP.", { fill: "var(--faint)" })]),
    ...legend,
  ]);
}
