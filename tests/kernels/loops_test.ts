/**
 * No loop of a kernel grows without bound (kernels/README.md, Loops end): every kernel with a loop
 * states its rounds, launches with too many are refused, and the statements hold on the device. For
 * that rounds are counted there: a counter is written into the text of the kernel.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { type Device, openDevice } from "../../engine/device.ts";
import { KernelError } from "../../engine/errors.ts";
import { declaredKernels, defineKernel, MOST_ROUNDS } from "../../engine/kernel.ts";
import { gemm } from "../../engine/launch/gemm.ts";
import { attention } from "../../engine/ops/attention.ts";
import { BINARY } from "../../engine/ops/binary_table.ts";
import { add, mul } from "../../engine/ops/elementwise.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { UNARY } from "../../engine/ops/unary_table.ts";
import { capture } from "../../engine/plan.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import { fragments } from "../../kernels/include/mod.ts";
import "../../model/frontend/log_mel.ts";
import { type CountedRounds, countRounds } from "../support/rounds.ts";
import { quickSamples, type Sample, sampledOps } from "../support/samples.ts";
import { full, fullOnly, test } from "../support/tier.ts";

const folder = new URL("../../kernels/", import.meta.url);
const LOOP = /\b(for|while|loop)\b\s*[({]/;

/** The text with its fragments, comments left out. */
function whole(text: string): string {
  return text.replace(/^\s*\/\/:include (\w+)$/gm, (_, name) => whole(fragments[name]))
    .replace(/\/\/.*/g, "");
}

test("every kernel with a loop states its rounds", () => {
  const files = [...Deno.readDirSync(folder)].map(({ name }) => name)
    .filter((name) => name.endsWith(".wgsl")).map((name) => name.slice(0, -5)).sort();
  const looping = files.filter((name) =>
    LOOP.test(whole(Deno.readTextFileSync(new URL(`${name}.wgsl`, folder))))
  );
  assert(looping.includes("gemm") && looping.includes("reduce") && !looping.includes("random"));
  const silent = looping.filter((name) => !declaredKernels().get(name)?.insight?.rounds);
  assertEquals(silent, []);
});

test("launches whose loops are too long are refused, eagerly and in a plan", async () => {
  using device = await openDevice();
  const source = "struct Params { size: u32 }\n@compute @workgroup_size(1)\nfn main() {}";
  const kernel = defineKernel("endless", source, { rounds: ({ params }) => params.size });
  const run = (size: number) => device.run(kernel, {}, [], { size }, 1);
  const refused = () =>
    assertThrows(() => run(MOST_ROUNDS + 1), KernelError, `endless: ${MOST_ROUNDS + 1} rounds`);
  refused();
  capture(device, [], refused)[Symbol.dispose]();
});

/** Its rounds depend on the indices: at most all are equal. */
const BY_VALUE = "scatter";

/** No statement is too low, and of those that took many rounds none is twice too high. */
function assertStated(all: readonly CountedRounds[]): void {
  for (const { kernel, launch, stated, counted } of all) {
    if (stated === undefined && counted === 0) continue;
    const what = `${kernel} ${JSON.stringify(launch)}: ${counted} rounds, ${stated} stated`;
    assert(counted <= (stated ?? -1), what);
    assert(counted < 200 || kernel === BY_VALUE || stated! < 2 * counted, what);
  }
}

/** The first is that of the quick tier. */
const PRODUCTS = [[5, 37, 1203], [70, 66, 33], [9, 5, 7]].slice(0, full ? 3 : 1);

async function countProducts(device: Device): Promise<CountedRounds[]> {
  return await countRounds(device, () => {
    for (const [m, n, k] of PRODUCTS) {
      const [a, b, c] = [m * k, k * n, m * n].map((size) => device.full([size], 1));
      const operands = {
        a: { tensor: a, ld: k },
        b: { tensor: b, ld: n },
        c: { tensor: c, ld: n },
      };
      gemm({ ...operands, m, n, k });
    }
  });
}

const GEMM_VARIANTS = ["register-8x8", "subgroup-8x32", "subgroup-64x32", "tiled-64x64"];
for (const [i, variant] of GEMM_VARIANTS.entries()) {
  (i === 1 ? Deno.test : fullOnly)(`products state their rounds: ${variant}`, async () => {
    using device = await openDevice({ variants: { gemm: variant } });
    const all = await countProducts(device);
    assertEquals(new Set(all.map(({ kernel }) => kernel)).has("elementwise"), true);
    assertStated(all);
  });
}

for (const variant of ["rows", "single", "tiled"]) {
  (variant === "rows" ? Deno.test : fullOnly)(
    `attention states its rounds: ${variant}`,
    async () => {
      using device = await openDevice({ variants: { attention: variant } });
      const all = await countRounds(device, () =>
        scope(() => {
          const [q, k, v] = [33, 301, 301].map((tokens) =>
            device.full([1, 1, tokens, full ? 40 : 4], 0.1).trainable()
          );
          backward(sum(attention(q, k, v)));
        }));
      assert(all.some(({ kernel, counted }) => kernel.startsWith("attention") && counted > 8));
      assertStated(all);
    },
  );
}

fullOnly("the rounds of every kernel hold on samples of every op", async (t) => {
  using device = await openDevice();
  // Functions of one or two numbers have one kernel each for all of them.
  const alike = new Set([UNARY, BINARY].flatMap((table) => Object.keys(table).slice(1)));
  for (const { op, samples } of await sampledOps()) {
    if (alike.has(op.name)) continue;
    await t.step(op.name, async () => {
      const tensorOf = (sample: Sample, i: number) => {
        const { data, shape } = sample.inputs[i];
        const dtype = sample.integer?.[i];
        const host = dtype === "u32"
          ? Uint32Array.from(data)
          : dtype === "i32"
          ? Int32Array.from(data)
          : Float32Array.from(data);
        const tensor = device.tensor(host, shape);
        const wants = !dtype && op.backward && !sample.constant?.includes(i);
        return wants ? tensor.trainable() : tensor;
      };
      const all = await countRounds(device, () => {
        for (const sample of quickSamples(samples)) {
          scope(() => {
            const outputs = op.apply(
              sample.inputs.map((_, i) => tensorOf(sample, i)),
              sample.attrs,
            );
            const losses = outputs.filter((y) => y.node).map((y) => sum(mul(y, y)));
            if (losses.length > 0) backward(losses.reduce((a, b) => add(a, b)));
          });
        }
      });
      assertStated(all);
    });
  }
});
