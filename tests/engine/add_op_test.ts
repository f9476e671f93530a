/**
 * The two ops that `engine/README.md` adds, taken from its text: files under their names, compiled
 * and run on their samples against their references, and the references against finite differences.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { openDevice } from "../../engine/device.ts";
import { ShapeError } from "../../engine/errors.ts";
import { type Op, type RefArray, registry } from "../../engine/op.ts";
import { grad } from "../../engine/grad.ts";
import { mul } from "../../engine/ops/elementwise.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { backward } from "../../engine/tape.ts";
import { scope } from "../../engine/scope.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

const ROOT = new URL("../../", import.meta.url);

/** Files of the manual by their path in the repository. */
async function printedFiles(): Promise<Map<string, string>> {
  const text = await Deno.readTextFile(new URL("engine/README.md", ROOT));
  const blocks = text.matchAll(/^```\w+ file=(\S+)\n([\s\S]*?)^```/gm);
  return new Map([...blocks].map(([, path, code]) => [path, code]));
}

/** Writes the files to `folder`; what they import lies there or in the repository. */
function write(files: ReadonlyMap<string, string>, folder: URL): void {
  for (const [path, code] of files) {
    const file = new URL(path, folder);
    Deno.mkdirSync(new URL(".", file), { recursive: true });
    const absolute = code.replace(/from "(\.[^"]+)"/g, (_, target: string) => {
      const { href } = new URL(target, new URL(path, ROOT));
      const printed = files.has(href.slice(ROOT.href.length));
      return `from "${printed ? new URL(target, file).href : href}"`;
    });
    Deno.writeTextFileSync(file, absolute);
  }
}

/** Largest difference relative to the largest expected value. */
function holds(what: string, actual: ArrayLike<number>, expected: RefArray, most = 2e-6): void {
  const { data } = expected;
  assertEquals(actual.length, data.length, what);
  const scale = data.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  data.forEach((value, i) =>
    assert(Math.abs(actual[i] - value) <= most * scale, `${what} ${i}: ${actual[i]}, not ${value}`)
  );
}

/** The slope of sum(dy f(x)) along each element of x, by central differences. */
function slopes(op: Op<unknown>, { inputs: [x], attrs }: Sample, dy: RefArray): RefArray {
  const total = (data: Float64Array) =>
    op.reference.forward([{ shape: x.shape, data }], attrs)[0].data
      .reduce((sum, y, i) => sum + y * dy.data[i], 0);
  const data = x.data.map((_, k) => {
    const [up, down] = [1e-4, -1e-4].map((step) =>
      total(x.data.map((v, i) => i === k ? v + step : v))
    );
    return (up - down) / 2e-4;
  });
  return { shape: x.shape, data };
}

Deno.test("the ops that the manual adds compute what their references say", async () => {
  using device = await openDevice();
  const folder = new URL(`file://${Deno.makeTempDirSync()}/`);
  try {
    const files = await printedFiles();
    assertEquals([...files.keys()].toSorted(), [
      "engine/ops/deltas.ts",
      "engine/ops/squareplus.ts",
      "kernels/deltas.wgsl",
      "tests/samples/deltas.ts",
      "tests/samples/squareplus.ts",
    ]);
    write(files, folder);
    for (const name of ["squareplus", "deltas"]) {
      const module = await import(new URL(`engine/ops/${name}.ts`, folder).href);
      const call: (x: Tensor) => Tensor = module[name];
      const op = registry().get(name)!;
      const { samples } = await import(new URL(`tests/samples/${name}.ts`, folder).href);
      for (const sample of (samples as Samples)[name]()) {
        const [x] = sample.inputs;
        const [expected] = op.reference.forward(sample.inputs, sample.attrs);
        const dy = refRandom(expected.shape, 99);
        const [dx] = op.reference.backward!(sample.inputs, sample.attrs, [dy]);
        if (!sample.skipDifferences) holds("slope", slopes(op, sample, dy).data, dx!, 1e-6);
        using input = device.tensor(Float32Array.from(x.data), x.shape).trainable();
        using y = scope(() => {
          const y = call(input);
          backward(y, device.tensor(Float32Array.from(dy.data), dy.shape));
          return y;
        });
        assertEquals(y.shape, expected.shape);
        holds(`${name} ${sample.label}`, await y.data(), expected);
        holds(`gradient of ${name} ${sample.label}`, await input.grad!.data(), dx!, 4e-6);
      }
    }
    for (const [name, at] of [["squareplus", 1], ["deltas", 1]] as const) {
      const op = registry().get(name)!;
      const { samples } = await import(new URL(`tests/samples/${name}.ts`, folder).href);
      const { inputs: [x], attrs } = (samples as Samples)[name]()[at];
      const [y] = op.reference.forward([x], attrs);
      const [dy, weights] = [refRandom(y.shape, 98), refRandom(x.shape, 97)];
      const up = ({ shape, data }: RefArray) => device.tensor(Float32Array.from(data), shape);
      using input = up(x).trainable();
      using found = scope(() => {
        const y = op.apply([input], attrs)[0];
        const dx = grad(y, input, { seed: up(dy), createGraph: true });
        const total = sum(mul(dx, mul(up(weights), input)));
        return grad(total, input);
      });
      // By the weights' input, and by that of the gradient.
      const value = (data: Float64Array) =>
        op.reference.backward!([{ shape: x.shape, data }], attrs, [dy])[0]!.data
          .reduce((sum, v, i) => sum + v * weights.data[i] * data[i], 0);
      const wanted = x.data.map((_, k) => {
        const [up, down] = [1e-5, -1e-5].map((by) =>
          value(x.data.map((v, i) => i === k ? v + by : v))
        );
        return (up - down) / 2e-5;
      });
      holds(`second derivative of ${name}`, await found.data(), { ...x, data: wanted }, 4e-6);
    }
    const { deltas } = await import(new URL("engine/ops/deltas.ts", folder).href);
    using one = device.zeros([3, 1]);
    assertThrows(() => deltas(one), ShapeError, "no neighbours");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
