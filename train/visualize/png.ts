/**
 * Pictures of numbers as PNG.
 *
 * @module
 */
import { crc32, deflateSync } from "node:zlib";
import type { ColourMap } from "./colours.ts";

/** A matrix as a picture. */
export interface Raster {
  /** [rows, columns]; NaN is transparent. */
  readonly values: ArrayLike<number>;
  /** Rows; the first is drawn at the bottom, as frequencies are. */
  readonly rows: number;
  /** Columns. */
  readonly columns: number;
  /** Values of the first and the last colour; what is outside has the nearest. */
  readonly range: readonly [low: number, high: number];
  /** Colours. */
  readonly map: ColourMap;
}

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
/** Colours by index: one byte a pixel. */
const PALETTE_COLOUR = 3;

/**
 * A picture of one pixel for each value, with a palette: the map's 256 colours without its first,
 * whose place is the transparent one.
 *
 * @throws {RangeError} if the values are not rows times columns
 */
export function encodePng({ values, rows, columns, range, map }: Raster): Uint8Array<ArrayBuffer> {
  if (values.length !== rows * columns || values.length === 0) {
    throw new RangeError(`${values.length} values are not ${rows} x ${columns}`);
  }
  const [low, high] = range;
  const scanlines = new Uint8Array(rows * (columns + 1));
  for (let row = 0; row < rows; row++) {
    const line = (rows - 1 - row) * (columns + 1) + 1;
    for (let column = 0; column < columns; column++) {
      const value = values[row * columns + column];
      const share = high > low ? (value - low) / (high - low) : 0.5;
      scanlines[line + column] = Number.isNaN(value)
        ? 0
        : 1 + Math.round(254 * Math.min(1, Math.max(0, share)));
    }
  }
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, columns);
  view.setUint32(4, rows);
  header.set([8, PALETTE_COLOUR, 0, 0, 0], 8);
  const parts = [
    Uint8Array.from(SIGNATURE),
    chunk("IHDR", header),
    chunk("PLTE", map),
    chunk("tRNS", Uint8Array.of(0)),
    chunk("IDAT", deflateSync(scanlines, { level: 9 })),
    chunk("IEND", new Uint8Array(0)),
  ];
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function chunk(name: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** Bytes inside a page. */
export function dataUri(type: string, bytes: Uint8Array): string {
  return `data:${type};base64,${bytes.toBase64()}`;
}
