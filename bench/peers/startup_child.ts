/**
 * What a fresh process takes until it has an engine, its first result, and then any number:
 * `startup_child.ts tessera` or `jax-js`. Prints one line of JSON behind {@link MARK}.
 *
 * @module
 */
import { MARK, type StartupTimes } from "./workloads.ts";

/** An engine that is imported; `read` computes `x + x` of two numbers and reads them. */
interface Opened {
  open(): Promise<{ read(): Promise<unknown> }>;
}

// Names in variables: `deno check` must not fetch what only --peers needs.
const JAX = "npm:@jax-js/jax@0.1.25";

const ENGINES: Readonly<Record<string, () => Promise<Opened>>> = {
  async tessera() {
    const { add, openDevice } = await import("../../engine/mod.ts");
    return {
      async open() {
        const device = await openDevice();
        const x = device.tensor([1, 2]);
        return {
          async read() {
            using sum = add(x, x);
            return await sum.data();
          },
        };
      },
    };
  },
  async "jax-js"() {
    const jax = await import(JAX);
    return {
      async open() {
        await jax.init("webgpu");
        jax.defaultDevice("webgpu");
        const x = jax.numpy.array(new Float32Array([1, 2]), { shape: [2] });
        return { read: () => x.ref.add(x.ref).data() };
      },
    };
  },
};

const start = performance.now();
const engine = await ENGINES[Deno.args[0]]();
const imported = performance.now();
const { read } = await engine.open();
await read();
const first = performance.now();
const reads: number[] = [];
for (let i = 0; i < 31; i++) {
  const before = performance.now();
  await read();
  reads.push(performance.now() - before);
}
const times: StartupTimes = {
  import_ms: imported - start,
  first_op_ms: first - imported,
  read_ms: reads.sort((a, b) => a - b)[15],
};
console.log(MARK + JSON.stringify(times));
// Some engines leave workers behind that would keep the process alive.
Deno.exit(0);
