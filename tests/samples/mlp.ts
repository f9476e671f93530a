/** Inputs that the op of `engine/ops/mlp.ts` is tried on. */
import type { MlpAttributes } from "../../engine/ops/mlp.ts";
import type { Shape } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

export const samples: Samples = {
  mlp() {
    const cases: [Shape, readonly number[], Omit<MlpAttributes, "layers">][] = [
      [[5, 7], [11, 3], { bias: true, residual: true }],
      [[37, 16], [32, 24, 8], { bias: true, residual: false }],
      [[2, 9, 12], [20, 12], { bias: false, residual: true }],
    ];
    return cases.map(([shape, widths, rest], seed): Sample => {
      const sizes = [shape[shape.length - 1], ...widths];
      const inputs = [refRandom(shape, seed)];
      widths.forEach((out, i) => {
        const scale = 1 / Math.sqrt(sizes[i]);
        inputs.push(refRandom([out, sizes[i]], seed + 100 + 10 * i, scale));
        if (rest.bias) inputs.push(refRandom([out], seed + 200 + 10 * i));
      });
      const result = [...shape.slice(0, -1), widths[widths.length - 1]];
      if (rest.residual) inputs.push(refRandom(result, seed + 300));
      const attrs = { layers: widths.length, ...rest };
      const label = `[${shape}] to ${widths} ${JSON.stringify(rest)}`;
      return { label, inputs, attrs, quick: seed === 0 };
    });
  },
};
