/**
 * Rings: the last rows that a loop has made, kept on the device until the host wants them.
 *
 * @module
 */
import source from "../../kernels/ring.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { materialize } from "./copy.ts";

const kernel = defineKernel("ring", source);
const WORKGROUP = 64;

/**
 * `ring[place mod rows, :] = row`. Records nothing for gradients.
 *
 * @param ring f32 [rows, width]
 * @param row f32 of `width` elements
 * @param place f32 of one element, a whole number from 0 to 2^24; read when the kernel runs, so
 * that replays of a captured function fill one row after the other
 * @throws {ShapeError} if the sizes do not fit.
 */
export function storeRow(ring: Tensor, row: Tensor, place: Tensor): void {
  const [rows, width] = ring.shape;
  if (ring.shape.length !== 2 || row.size !== width || place.size !== 1) {
    throw new ShapeError(
      `storeRow: row ${show(row.shape)} and place ${show(place.shape)} do not fit the ring ${
        show(ring.shape)
      } [rows, width]`,
    );
  }
  const dense = materialize(row);
  ring.device.run(
    kernel,
    { WG: WORKGROUP },
    [dense, place, ring],
    { width, rows },
    Math.ceil(width / WORKGROUP),
  );
  if (dense !== row) dense.dispose();
}
