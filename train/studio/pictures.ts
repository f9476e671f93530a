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
  return { rows, columns, bytes: base64Of(bytes), range };
}

/** Bytes in base64, in browsers that have no method for it, too. */
export function base64Of(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return btoa(text);
}

/** A spectrogram in decibels. */
export function spectrogramPicture(
  it: Spectrogram,
  range: readonly [number, number] = rangeOf(it),
): Picture {
  return pictureOf(it.values, it.bands, it.frames, range);
}
