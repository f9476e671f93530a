/**
 * From a batch of the loader to the log-mel that the model takes.
 *
 * @module
 */
import type { Device, Tensor } from "../../engine/mod.ts";
import type { LogMel } from "../../model/frontend/log_mel.ts";
import { MEL_80 } from "../../model/frontend/tables.ts";
import type { Batch } from "./loader.ts";

/**
 * The standardised log-mel of a batch on the device, whatever its rows are: waveforms go through
 * the front end, log-mels are uploaded as they are.
 *
 * @returns [batch, 80, frames]
 */
export function batchLogMel(device: Device, frontend: LogMel, batch: Batch): Tensor {
  const { samples, logmels, kinds } = batch;
  const rows = kinds.length;
  const shapeOf = (
    values: Float32Array,
  ) => [rows, MEL_80.bands, values.length / rows / MEL_80.bands];
  if (!samples) return device.tensor(logmels!, shapeOf(logmels!));
  using waves = device.tensor(samples, [rows, samples.length / rows]);
  const input = frontend.apply(waves);
  if (!logmels) return input;
  // The shapes stay the same from batch to batch, so that memory does: what the front end makes of
  // silence is replaced.
  const [, bands, frames] = input.shape;
  const size = bands * frames;
  kinds.forEach((kind, row) => {
    if (kind === "waveform") return;
    using place = input.view([size], undefined, input.offset + row * size);
    device.write(place, logmels.subarray(row * size, (row + 1) * size));
  });
  return input;
}
