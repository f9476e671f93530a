/**
 * Attention maps: a small picture for each layer and head, below the spectrogram they look at.
 *
 * @module
 */
import type { AttentionMaps, AttentionQuery } from "../../model/encoder/attention_maps.ts";
import type { PatchGrid } from "../../model/vit/geometry.ts";
import { UsageError } from "../errors.ts";
import type { PatchChoice } from "./clip.ts";
import { MAGMA } from "./colours.ts";
import type { Section } from "./page.ts";
import { panel, panelBox, patchBox, rangeOf, secondsOf, type Spectrogram } from "./spectrogram.ts";
import { tag, text } from "./markup.ts";
import {
  type Box,
  colourBar,
  drawing,
  hint,
  hzAt,
  LEFT,
  marked,
  outline,
  raster,
  RIGHT,
  timeAxis,
  WIDTH,
} from "./svg.ts";

/** Which maps are drawn. */
export interface AttentionSelection {
  /** Number of the query among {@link AttentionMaps.queries}. */
  readonly query: number;
  /** Layers, from 0. */
  readonly layers: readonly number[];
  /** Heads, from 0. */
  readonly heads: readonly number[];
}

/**
 * Weights of one query in one head: of the class token, if there is one, and of the patches [rows,
 * columns].
 */
export function weightsAt(
  { layers, queries, grid: { rows, columns }, classTokens }: AttentionMaps,
  layer: number,
  head: number,
  query: number,
): { readonly classToken: number | undefined; readonly patches: Float32Array } {
  const tokens = classTokens + rows * columns;
  const first = (head * queries.length + query) * tokens;
  const all = layers[layer].subarray(first, first + tokens);
  return { classToken: classTokens ? all[0] : undefined, patches: all.subarray(classTokens) };
}

/** A token in words: seconds of the file and hertz. */
export function tokenWords(
  { rows, columns }: PatchGrid,
  chunk: Spectrogram,
  token: AttentionQuery,
): string {
  if (token === "class") return "the class token";
  const [row, column] = [Math.floor(token / columns), token % columns];
  const [start, end] = secondsOf(chunk);
  const seconds = (end - start) / columns;
  const at = start + column * seconds;
  const [low, high] = [row, row + 1].map((it) =>
    Math.round(chunk.marks ? it / rows * chunk.bands : hzAt(it / rows))
  );
  const bands = chunk.marks ? `bands ${low + 1} to ${high}` : `${low} to ${high} Hz`;
  return `the patch at ${at.toFixed(2)} to ${(at + seconds).toFixed(2)} s, ${bands}`;
}

/** Largest size of a small picture. */
const MOST_WIDTH = 420;
const GAP = 6;

/** Tokens that attention is spread over. */
export function tokensOf({ grid: { rows, columns }, classTokens }: AttentionMaps): number {
  return classTokens + rows * columns;
}

/**
 * The range of colours: an eighth of an even spread to the largest weights but a few, in powers of
 * two.
 */
function rangeFor(maps: AttentionMaps, { query, layers, heads }: AttentionSelection) {
  const all = Float32Array.from(
    layers.flatMap((layer) =>
      heads.flatMap((head) => [...weightsAt(maps, layer, head, query).patches])
    ),
  ).sort();
  const tokens = tokensOf(maps);
  const large = all[Math.floor(0.999 * (all.length - 1))] * tokens;
  return [-3, Math.max(2, Math.ceil(Math.log2(large)))] as const;
}

/**
 * The chunk with the query outlined, then its weights in every layer (across) and head (down).
 * Colours are multiples of an even spread over all tokens, the same in all pictures.
 */
export function drawAttention(
  maps: AttentionMaps,
  selection: AttentionSelection,
  chunk: Spectrogram,
): string {
  const { query, layers, heads } = selection;
  const { grid } = maps;
  const token = maps.queries[query];
  const tokens = tokensOf(maps);
  const range = rangeFor(maps, selection);
  const mark = (box: Box, thickness: number) =>
    token === "class" ? "" : marked(
      patchBox(box, grid, Math.floor(token / grid.columns), token % grid.columns),
      thickness,
    );
  const title = `Attention of ${tokenWords(grid, chunk, token)}`;
  const top = panelBox(34, 130);
  const room = WIDTH - LEFT - RIGHT;
  const width = Math.min(MOST_WIDTH, (room - GAP * (layers.length - 1)) / layers.length);
  const height = Math.min(150, Math.max(40, width * 0.5));
  const first = top.y + top.height + 74;
  const cells = layers.flatMap((layer, i) =>
    heads.map((head, j) => {
      const { classToken, patches } = weightsAt(maps, layer, head, query);
      const box = { x: LEFT + i * (width + GAP), y: first + j * (height + GAP), width, height };
      const most = patches.reduce((best, it, at) => it > patches[best] ? at : best, 0);
      const ofClass = classToken === undefined
        ? ""
        : `; the class token has ${(100 * classToken).toFixed(1)} %`;
      const words = `layer ${layer + 1}, head ${head + 1}: largest weight ${
        (patches[most] * tokens).toFixed(1)
      } times an even spread, at ${tokenWords(grid, chunk, most)}${ofClass}`;
      const values = patches.map((it) => Math.log2(Math.max(it * tokens, 1e-6)));
      return tag(
        "g",
        {},
        hint(words) +
          raster(box, { values, ...grid, range, map: MAGMA }) +
          outline(box) + mark(box, width > 200 ? 1.5 : 0.8),
      );
    })
  );
  const bottom = first + heads.length * (height + GAP) - GAP;
  const bar = { x: LEFT, y: first, width: room, height: Math.max(130, bottom - first) };
  const layerNames = layers.map((layer, i) =>
    text(
      LEFT + i * (width + GAP) + width / 2,
      first - 8,
      `${i === 0 ? "layer " : ""}${layer + 1}`,
      {
        "text-anchor": "middle",
        fill: "var(--faint)",
      },
    )
  );
  const headNames = heads.map((head, j) =>
    text(LEFT - 8, first + j * (height + GAP) + height / 2 + 4, `head ${head + 1}`, {
      "text-anchor": "end",
      fill: "var(--faint)",
    })
  );
  const label = (it: number) => it < 0 ? `1/${2 ** -it}` : String(2 ** it);
  const marks = Array.from({ length: range[1] - range[0] + 1 }, (_, i) => range[0] + i);
  const high = Math.max(bottom, bar.y + bar.height);
  return drawing(high + 14, title, [
    text(top.x, top.y - 12, title, { "font-weight": "bold" }),
    panel(top, chunk, rangeOf(chunk)),
    mark(top, 2),
    timeAxis(top, secondsOf(chunk), "seconds"),
    ...layerNames,
    ...headNames,
    ...cells,
    colourBar(bar, { map: MAGMA, range, title: "weight × tokens", marks, label }),
  ]);
}

/** Which attention is drawn; numbers count from 1. */
export interface AttentionChoice {
  /** Of the blocks. */
  readonly layer: number | "all";
  /** In them. */
  readonly head: number | "all";
  /** The query; default the loudest patch, and the class token if there is one. */
  readonly patch: PatchChoice | undefined;
}

/**
 * Maps of all their queries.
 *
 * @throws {UsageError} if there is no such layer or head
 */
export function attentionPictures(
  maps: AttentionMaps,
  chunk: Spectrogram,
  { layer, head }: Pick<AttentionChoice, "layer" | "head">,
): Section {
  const { queries, grid } = maps;
  const layers = chosen("layer", layer, maps.layers.length);
  const heads = chosen("head", head, maps.heads);
  const names = queries.map((it) => tokenWords(grid, chunk, it)).join(" and ");
  return {
    title: "Attention",
    words: [
      `Softmax weights of ${names}, in each layer and head, all patches visible. Colours are ` +
      `multiples of an even spread over all ${tokensOf(maps)} tokens, the same in all small ` +
      "pictures; point at one for numbers.",
    ],
    drawings: queries.map((_, query) => drawAttention(maps, { query, layers, heads }, chunk)),
  };
}

function chosen(name: string, number: number | "all", count: number): number[] {
  if (number === "all") return Array.from({ length: count }, (_, i) => i);
  if (number <= count) return [number - 1];
  throw new UsageError(`--${name} ${number}: the encoder has ${count}`);
}
