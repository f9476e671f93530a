/** Inputs that the op of `engine/ops/rotary.ts` is tried on. */
import { refFrom } from "../../engine/reference.ts";
import { show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

export const samples: Samples = {
  rotary: () =>
    [[1, 2], [2, 3, 5, 6], [2, 7, 16]].flatMap((shape, seed) =>
      [false, true].map((interleaved): Sample => {
        const [tokens, d] = shape.slice(-2);
        const angle = (i: number) => Math.floor(i / d) * 100 ** (-(i % (d / 2)) / (d / 2));
        return {
          label: `${show(shape)}${interleaved ? ", interleaved" : ""}`,
          inputs: [
            refRandom(shape, seed),
            refFrom(
              [tokens, 2, d / 2],
              (i) => Math.fround(i % d < d / 2 ? Math.cos(angle(i)) : Math.sin(angle(i))),
            ),
          ],
          constant: [1],
          attrs: { interleaved },
        };
      })
    ),
};
