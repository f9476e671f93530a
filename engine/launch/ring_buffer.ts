/**
 * Ring buffers: the last rows that a loop has made, kept on the device until the host reads them.
 *
 * @module
 */
import loadSource from "../../kernels/ring_buffer_load.wgsl" with { type: "text" };
import storeSource from "../../kernels/ring_buffer_store.wgsl" with { type: "text" };
import { needTogether, needWhole } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { materialize, needBindable } from "./copy.ts";

const storeKernel = /* @__PURE__ */ defineKernel("ring_buffer_store", storeSource);
const loadKernel = /* @__PURE__ */ defineKernel("ring_buffer_load", loadSource);
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
  needTogether("storeRow", { ring, row, place });
  const [rows, width] = ring.shape;
  if (ring.shape.length !== 2 || row.size !== width || place.size !== 1) {
    throw new ShapeError(
      `storeRow: row ${show(row.shape)} and place ${show(place.shape)} do not fit the ring ${
        show(ring.shape)
      } [rows, width]`,
    );
  }
  const dense = materialize(row);
  needBindable("storeRow", { ring, row: dense, place });
  ring.device.run(
    storeKernel,
    { WG: WORKGROUP },
    [dense, place, ring],
    { count: width, rows },
    Math.ceil(width / WORKGROUP),
  );
  if (dense !== row) dense.dispose();
}

/**
 * `row = ring[places[index] mod rows, :]`, the reverse of {@link storeRow}.
 *
 * @param row f32, dense
 * @param ring f32 [rows, elements of row], dense
 * @param places f32, dense; the one at `index` is a whole number from 0 to 2^24, read when the
 * kernel runs
 * @throws {ShapeError} if the sizes do not fit.
 */
export function loadRow(row: Tensor, ring: Tensor, places: Tensor, index = 0): void {
  needTogether("loadRow", { row, ring, places });
  needWhole("loadRow", "the index", index);
  const [rows, width] = ring.shape;
  if (ring.shape.length !== 2 || row.size !== width || index >= places.size) {
    throw new ShapeError(
      `loadRow: row ${show(row.shape)} and place ${index} of ${show(places.shape)} do not fit ` +
        `the ring ${show(ring.shape)} [rows, width]`,
    );
  }
  needBindable("loadRow", { row, ring, places });
  row.device.run(
    loadKernel,
    { WG: WORKGROUP },
    [ring, places, row],
    { count: width, rows, index },
    Math.ceil(width / WORKGROUP),
  );
}
