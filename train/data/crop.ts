/**
 * Where a crop of a clip lies.
 *
 * @module
 */
import { FRAME_SAMPLES, HOP_SAMPLES } from "../../model/frontend/tables.ts";

/** Which part of a clip is wanted. */
export interface CropPlace {
  /** Length in frames of 10 ms. */
  readonly frames: number;
  /** Where among the possible starts, in [0, 1). */
  readonly position: number;
}

/** Samples that give so many frames. */
export function samplesOf(frames: number): number {
  return (frames - 1) * HOP_SAMPLES + FRAME_SAMPLES;
}

/** A start from 0 to `last` inclusive, all equally likely for a `position` uniform in [0, 1). */
export function startAt(position: number, last: number): number {
  return Math.min(last, Math.floor(position * (last + 1)));
}

/** First sample of the crop of a waveform; it starts on a frame (model/README.md, Data). */
export function cropStart(samples: number, { frames, position }: CropPlace): number {
  const spare = samples - samplesOf(frames);
  // Both have the same window, so only hops count.
  return HOP_SAMPLES * startAt(position, Math.max(0, Math.floor(spare / HOP_SAMPLES)));
}
