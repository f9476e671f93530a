/**
 * Values as pictures that pages colour.
 *
 * @module
 */
import type { Spectrogram } from "../visualize/spectrogram.ts";
import { rangeOf } from "../visualize/spectrogram.ts";
import type { Picture } from "./api.ts";

/** A matrix, the lowest row first. */
export function pictureOf(
  values: ArrayLike<number>,
  rows: number,
  columns: number,
  range: readonly [number, number],
): Picture {
  const [low, high] = range;
  const bytes = new Uint8Array(rows * columns);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = Math.round(255 * Math.min(1, Math.max(0, (values[i] - low) / (high - low))));
  }
  return { rows, columns, bytes: bytes.toBase64(), range };
}

/** A spectrogram in decibels. */
export function spectrogramPicture(
  it: Spectrogram,
  range: readonly [number, number] = rangeOf(it),
): Picture {
  return pictureOf(it.values, it.bands, it.frames, range);
}
