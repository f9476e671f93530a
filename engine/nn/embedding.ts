/**
 * Vectors by index, as a layer.
 *
 * @module
 */
import type { Device } from "../device.ts";
import { embedding, type Indices } from "../ops/indexing.ts";
import type { Tensor } from "../tensor.ts";
import { xavierUniform } from "./init.ts";
import { type LayerSource, Module } from "./layers.ts";

/** A table of vectors, looked up by index. */
export class Embedding extends Module {
  /** [count, width], Xavier-uniform at first. */
  readonly weight: Tensor;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor>>;

  /**
   * Draws the table, or looks `weight` up.
   *
   * @param count number of vectors
   * @param width size of a vector
   */
  constructor(device: Device, count: number, width: number, source: LayerSource) {
    super();
    this.weight = this.parameter(device, source, "weight", [count, width], xavierUniform);
    this.parts = { weight: this.weight };
  }

  /**
   * Looks vectors up; see `embedding` for what an index out of range does.
   *
   * @param ids u32 of any shape [...], each below `count`, or a list of the host
   * @returns [..., width]
   * @throws {ShapeError} if `ids` are not u32, or one of the host is not below `count`.
   */
  apply(ids: Indices): Tensor {
    return embedding(this.weight, ids);
  }
}
