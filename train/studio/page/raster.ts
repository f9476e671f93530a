/**
 * Pictures of values on canvases.
 *
 * @module
 */
import { h, type JSX, useEffect, useRef } from "../../deps/preact.ts";
import { type ColourMap, MAGMA, VIRIDIS } from "../../visualize/colours.ts";
import type { Picture } from "../api.ts";

/** Maps of colours by name. */
export const MAPS = { viridis: VIRIDIS, magma: MAGMA } as const;

/** Bytes of a picture. */
export function bytesOf(base64: string): Uint8Array {
  const text = atob(base64);
  return Uint8Array.from({ length: text.length }, (_, i) => text.charCodeAt(i));
}

/** Values of f32 in base64. */
export function floatsOf(base64: string): Float32Array {
  return new Float32Array(bytesOf(base64).buffer as ArrayBuffer);
}

/** Draws values from 0 to 255, the lowest row at the bottom; hidden ones stay transparent. */
export function drawBytes(
  canvas: HTMLCanvasElement,
  values: ArrayLike<number>,
  rows: number,
  columns: number,
  map: ColourMap,
  hidden?: (row: number, column: number) => boolean,
): void {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(columns, rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (hidden?.(row, column)) continue;
      const colour = 3 * Math.max(0, Math.min(255, Math.round(values[row * columns + column])));
      const at = 4 * ((rows - 1 - row) * columns + column);
      image.data[at] = map[colour];
      image.data[at + 1] = map[colour + 1];
      image.data[at + 2] = map[colour + 2];
      image.data[at + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

/** A picture; patches that are masked are left out where `masked` is said. */
export function Raster({ picture, mask, grid, masked, label, map = "viridis" }: {
  readonly picture: Picture;
  readonly mask?: readonly number[];
  readonly grid?: { readonly rows: number; readonly columns: number };
  /** Whether masked patches are left out. */
  readonly masked?: boolean;
  readonly label: string;
  readonly map?: keyof typeof MAPS;
}): JSX.Element {
  const ref = useRef<HTMLCanvasElement | null>(null);
  useEffect(() => {
    const { rows, columns, bytes } = picture;
    const hides = masked && mask && grid
      ? (row: number, column: number) =>
        mask[
          Math.floor(row * grid.rows / rows) * grid.columns +
          Math.floor(column * grid.columns / columns)
        ] === 1
      : undefined;
    drawBytes(ref.current!, bytesOf(bytes), rows, columns, MAPS[map], hides);
  }, [picture, mask, masked, map]);
  return h("canvas", {
    ref,
    class: `raster ${masked ? "hatched" : ""}`,
    role: "img",
    "aria-label": label,
  });
}

/** A strip of all colours with its ends. */
export function ColourBar({ map, low, high, words }: {
  readonly map: keyof typeof MAPS;
  readonly low: string;
  readonly high: string;
  readonly words: string;
}): JSX.Element {
  const ref = useRef<HTMLCanvasElement | null>(null);
  useEffect(() => {
    drawBytes(ref.current!, Array.from({ length: 256 }, (_, i) => i), 1, 256, MAPS[map]);
  }, [map]);
  return h(
    "span",
    { class: "colour-bar" },
    h("span", { class: "number" }, low),
    h("canvas", { ref, "aria-hidden": "true" }),
    h("span", { class: "number" }, high),
    h("span", { class: "about" }, words),
  );
}
