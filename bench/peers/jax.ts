/**
 * jax-js (https://jax-js.com) as a peer. Its arrays count references: an op consumes its operands,
 * `ref` keeps them.
 *
 * @module
 */
import { type Engine, serve } from "./serve.ts";
import { type ComparedWorkload, EPS, operand } from "./workloads.ts";

// A name in a variable: `deno check` and `deno cache` must not fetch what only --peers needs.
const PACKAGE = "npm:@jax-js/jax@0.1.25";

interface JaxArray {
  readonly ref: JaxArray;
  data(): Promise<Float32Array>;
  dispose(): void;
  mul(other: JaxArray | number): JaxArray;
  add(other: JaxArray | number): JaxArray;
  sub(other: JaxArray | number): JaxArray;
  div(other: JaxArray | number): JaxArray;
}

type Fn = (...xs: JaxArray[]) => JaxArray;

interface Jax {
  init(device: string): Promise<string[]>;
  defaultDevice(device: string): void;
  jit<F>(fn: F): F;
  grad(fn: Fn, options: { argnums: number[] }): (...xs: JaxArray[]) => JaxArray[];
  blockUntilReady(arrays: readonly JaxArray[]): Promise<unknown>;
  numpy: {
    array(values: Float32Array, options: { shape: number[] }): JaxArray;
    matmul(a: JaxArray, b: JaxArray): JaxArray;
    mean(x: JaxArray, axis: number, options: { keepdims: boolean }): JaxArray;
    sum(x: JaxArray): JaxArray;
    sqrt(x: JaxArray): JaxArray;
    swapaxes(x: JaxArray, a: number, b: number): JaxArray;
  };
  nn: { softmax(x: JaxArray, axis: number): JaxArray };
}

function functionOf(jax: Jax, { op, shapes, backward, temperature = 1 }: ComparedWorkload) {
  const np = jax.numpy;
  const softmax = (x: JaxArray) => jax.nn.softmax(x, -1);
  switch (op) {
    case "matmul":
      return (a: JaxArray, b: JaxArray) => [np.matmul(a, b)];
    case "add":
      return (a: JaxArray, b: JaxArray) => [a.add(b)];
    case "chain":
      return (x: JaxArray, y: JaxArray) => {
        const part = x.ref.mul(y.ref).add(x.ref).mul(0.5).sub(y);
        return [x.div(np.sqrt(part.ref.mul(part).add(1)))];
      };
    case "softmax":
      return (x: JaxArray) => [softmax(x.mul(1 / temperature))];
    case "layernorm":
      return (x: JaxArray, gamma: JaxArray, beta: JaxArray) => {
        const centred = x.ref.sub(np.mean(x, -1, { keepdims: true }));
        const variance = np.mean(centred.ref.mul(centred.ref), -1, { keepdims: true });
        return [centred.div(np.sqrt(variance.add(EPS))).mul(gamma).add(beta)];
      };
    case "attention": {
      const scale = shapes[0][3] ** -0.5;
      const attention: Fn = (q, k, v) =>
        np.matmul(softmax(np.matmul(q, np.swapaxes(k, -1, -2)).mul(scale)), v);
      if (!backward) return (...qkv: JaxArray[]) => [attention(...qkv)];
      const loss: Fn = (q, k, v, dy) => np.sum(attention(q, k, v).mul(dy));
      const gradients = jax.grad(loss, { argnums: [0, 1, 2] });
      return (...qkvdy: JaxArray[]) => gradients(...qkvdy);
    }
  }
}

async function open(): Promise<Engine> {
  const jax: Jax = await import(PACKAGE);
  const devices = await jax.init("webgpu");
  if (!devices.includes("webgpu")) throw new Error("it finds no WebGPU adapter");
  jax.defaultDevice("webgpu");
  return {
    description: PACKAGE,
    prepare(workload) {
      const operands = workload.shapes.map((shape, i) =>
        jax.numpy.array(operand(workload, i), { shape: [...shape] })
      );
      const compute = jax.jit(functionOf(jax, workload)) as (...xs: JaxArray[]) => JaxArray[];
      // It works lazily: what is disposed before it was waited for may never be computed.
      const pending: JaxArray[] = [];
      const idle = jax.numpy.array(new Float32Array(1), { shape: [1] });
      const run = () => void pending.push(...compute(...operands.map((it) => it.ref)));
      return Promise.resolve({
        run,
        async sync() {
          await jax.blockUntilReady([idle, ...pending]);
          pending.splice(0).forEach((it) => it.dispose());
        },
        results() {
          run();
          return Promise.all(pending.splice(0).map((it) => it.data()));
        },
      });
    },
  };
}

await serve(open);
