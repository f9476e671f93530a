/** Kernels that threads compile: whose they are, that nobody waits for ever, and the same bits. */
import { assert, assertEquals } from "@std/assert";
import {
  capture,
  type Device,
  gelu,
  layerNorm,
  matmul,
  measure,
  mul,
  openDevice,
  relu,
  softmax,
  sub,
  sum,
  type Tensor,
  transpose,
} from "../../../engine/mod.ts";
import { compileAhead } from "../../../train/run/compile_ahead.ts";
import {
  COMPILE_NAME,
  COMPILE_URL,
  type CompileTask,
  STATE,
} from "../../../train/run/compile_thread.ts";
import { refRandom } from "../../support/random.ts";
import { test } from "../../support/tier.ts";

const SHAPE = [24, 36];
const values = Float32Array.from(refRandom(SHAPE, 5).data);

/** A dozen kernels. */
function work(x: Tensor): Tensor {
  const y = softmax(matmul(x, transpose(x)));
  const { device } = x;
  const z = layerNorm(mul(relu(matmul(y, x)), gelu(x)), device.full([36], 2), device.zeros([36]));
  return sum(sub(z, sum(x, { axes: [0], keepDims: true })), { axes: [1] });
}

async function result(device: Device): Promise<number[]> {
  using plan = capture(device, [device.zeros(SHAPE)], work);
  return [...await plan.replay([values]).data()];
}

test("a plan runs with kernels that threads compile, to the same bits", async () => {
  using plain = await openDevice();
  const expected = await result(plain);
  using device = await openDevice();
  measure(device, () => device.zeros(SHAPE), work);
  let told = 0;
  device.watchKernels(() => void told++);
  {
    using _ = compileAhead(device);
    assertEquals(
      device.firstRuns.before !== undefined,
      device.info.software && navigator.hardwareConcurrency > 1,
    );
    assertEquals(await result(device), expected);
  }
  assert(told >= 8);
  assertEquals(device.firstRuns.before, undefined);
  // What has run is not expected any more, and a few kernels are not worth a thread.
  measure(device, () => device.zeros(SHAPE), work);
  using _ = compileAhead(device);
  assertEquals(device.firstRuns.before, undefined);
});

test("a thread compiles what is free, leaves the rest, and survives what does not compile", async () => {
  const text = (body: string): CompileTask => ({
    name: "scaled",
    wgsl: `struct Params { factor: f32, }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(8)
fn main(@builtin(global_invocation_id) id: vec3u) { ${body} }`,
    storage: [{ name: "y", writes: true, image: false }],
    paramBytes: 16,
    aliasing: false,
    params: new Uint32Array(4),
  });
  const bodies = ["y[id.x] = 1.0;", "y[id.x] *= params.factor;", "y[id.x] = none;", "y[0] = 2.0;"];
  const states = new Int32Array(new SharedArrayBuffer(4 * (bodies.length + 2)));
  states[1] = STATE.main;
  const worker = new Worker(COMPILE_URL, { type: "module", name: COMPILE_NAME });
  worker.postMessage({ device: {}, tasks: bodies.map(text), states });
  const { free, thread, compiled, main } = STATE;
  const own = states.subarray(0, bodies.length);
  const isDone = () =>
    states[bodies.length + 1] === 0 && own.every((it) => it !== free && it !== thread);
  for (let i = 0; i < 600 && !isDone(); i++) await new Promise((done) => setTimeout(done, 50));
  worker.terminate();
  assertEquals([...states], [compiled, main, compiled, compiled, 0, 0]);
});
