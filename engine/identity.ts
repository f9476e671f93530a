/**
 * The identity matrix; creation.ts has what needs no other file's views.
 *
 * @module
 */
import { needDevice, needDType, needWhole } from "./arguments.ts";
import type { Device } from "./device.ts";
import type { DType } from "./dtype.ts";
import { fill } from "./launch/copy.ts";
import { diagonalView } from "./ops/diagonal.ts";
import type { Tensor } from "./tensor.ts";

/**
 * The [rows, columns] matrix with ones on its diagonal and zeros elsewhere.
 *
 * @param columns default: as many as rows
 * @throws {ShapeError} if a size is no whole number from 0.
 */
export function eye(device: Device, rows: number, columns = rows, dtype: DType = "f32"): Tensor {
  needDevice("eye", device);
  needWhole("eye", "the count of rows", rows);
  needWhole("eye", "the count of columns", columns);
  needDType("eye", dtype);
  const result = device.zeros([rows, columns], dtype);
  using target = diagonalView(result, 0);
  fill(target, 1);
  return result;
}
