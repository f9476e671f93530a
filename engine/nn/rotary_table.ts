/**
 * Angles of rotary positions.
 *
 * @module
 */
import { needDevice, needNumber, needOptions, needWhole } from "../arguments.ts";
import type { Device } from "../device.ts";
import type { Tensor } from "../tensor.ts";

/** Options of {@link rotaryTable}. */
export interface RotaryTableOptions {
  /** Channel pair c of d / 2 turns by `base^(-2c / d)` for each position; default 10,000. */
  readonly base?: number;
  /** Position of the first token; default 0. */
  readonly start?: number;
}

/**
 * Cosines and sines of the angles of `rotary`, computed in float64.
 *
 * @param tokens positions `start` to `start + tokens - 1`
 * @param d size of a head, even
 * @returns f32 [tokens, 2, d / 2]; a slice of its tokens is the table of other positions
 * @throws {ShapeError} if a number is out of range.
 */
export function rotaryTable(
  device: Device,
  tokens: number,
  d: number,
  options: RotaryTableOptions = {},
): Tensor {
  needDevice("rotaryTable", device);
  needOptions("rotaryTable", options, ["base", "start"]);
  const { base = 10_000, start = 0 } = options;
  needWhole("rotaryTable", "the number of tokens", tokens, 1);
  needWhole("rotaryTable", "the head size", d, 2);
  needWhole("rotaryTable", "half the head size", d / 2, 1);
  needNumber("rotaryTable", "the base", base, 1);
  needNumber("rotaryTable", "the start", start);
  const half = d / 2;
  const values = Float32Array.from({ length: tokens * d }, (_, i) => {
    const angle = (start + Math.floor(i / d)) * base ** (-(i % half) / half);
    return i % d < half ? Math.cos(angle) : Math.sin(angle);
  });
  return device.tensor(values, [tokens, 2, half]);
}
