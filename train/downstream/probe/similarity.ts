/**
 * Features of some clips as classifiers on the host take them: standardised over the clips that are
 * learned from, and their inner products.
 *
 * @module
 */
import { type Device, matmul, noGrad, scope, transpose } from "../../../engine/mod.ts";
import { statisticsOf } from "./probe.ts";

/** Clips' features. */
export interface Features {
  /** [clips, dim], row-major. */
  readonly values: Float32Array;
  /** Values of a clip. */
  readonly dim: number;
}

/** Inner products of clips that are learned from, and of clips that are tested, with those. */
export interface Similarities {
  /** [train, train], row-major. */
  readonly train: Float32Array;
  /** [test, train]. */
  readonly test: Float32Array;
  /** [test] squared lengths of tested clips. */
  readonly testSquares: Float64Array;
}

/**
 * Rows with mean 0 and deviation 1 over `reference` in every value; a value that is constant there
 * is only centred.
 */
function standardised(
  { values, dim }: Features,
  rows: readonly number[],
  { mean, std }: ReturnType<typeof statisticsOf>,
): Float32Array {
  const result = new Float32Array(rows.length * dim);
  rows.forEach((row, at) => {
    for (let i = 0; i < dim; i++) {
      result[at * dim + i] = (values[row * dim + i] - mean[i]) / std[i];
    }
  });
  return result;
}

/**
 * Standardises and multiplies, on the device.
 *
 * @param train clips that are learned from, by number
 * @param test clips that are tested
 */
export async function similaritiesOf(
  device: Device,
  features: Features,
  train: readonly number[],
  test: readonly number[],
): Promise<Similarities> {
  const { dim } = features;
  const statistics = statisticsOf(features.values, dim, train);
  const [own, others] = [train, test].map((rows) => standardised(features, rows, statistics));
  const products = noGrad(() =>
    scope(() => {
      const learned = device.tensor(own, [train.length, dim]);
      const columns = transpose(learned);
      const tested = device.tensor(others, [test.length, dim]);
      return [matmul(learned, columns), matmul(tested, columns)];
    })
  );
  const [among, between] = await device.read(products) as Float32Array[];
  for (const it of products) it.dispose();
  const testSquares = Float64Array.from(test, (_, row) => {
    let sum = 0;
    for (let i = row * dim; i < (row + 1) * dim; i++) sum += others[i] ** 2;
    return sum;
  });
  return { train: among, test: between, testSquares };
}
