/**
 * TensorFlow.js (https://www.tensorflow.org/js) with its WebGPU back end as a peer.
 *
 * @module
 */
import { type Engine, serve } from "./serve.ts";
import { type ComparedWorkload, EPS, operand } from "./workloads.ts";

// Names in variables: `deno check` and `deno cache` must not fetch what only --peers needs.
const CORE = "npm:@tensorflow/tfjs-core@4.22.0";
const BACKEND = "npm:@tensorflow/tfjs-backend-webgpu@4.22.0";

interface TfTensor {
  data(): Promise<Float32Array>;
  dispose(): void;
}

interface Tf {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  slice(x: TfTensor, begin: number, size: number): TfTensor;
  tensor(values: Float32Array, shape: readonly number[]): TfTensor;
  tidy<T>(body: () => T): T;
  matMul(a: TfTensor, b: TfTensor, transposeA?: boolean, transposeB?: boolean): TfTensor;
  softmax(x: TfTensor): TfTensor;
  moments(x: TfTensor, axes: number[], keepDims: boolean): { mean: TfTensor; variance: TfTensor };
  mul(a: TfTensor, b: TfTensor | number): TfTensor;
  add(a: TfTensor, b: TfTensor | number): TfTensor;
  sub(a: TfTensor, b: TfTensor | number): TfTensor;
  rsqrt(x: TfTensor): TfTensor;
}

function compute(
  tf: Tf,
  { op, shapes, temperature = 1 }: ComparedWorkload,
  [a, b, c]: readonly TfTensor[],
): TfTensor {
  switch (op) {
    case "matmul":
      return tf.matMul(a, b);
    case "add":
      return tf.add(a, b);
    case "chain": {
      const part = tf.sub(tf.mul(tf.add(tf.mul(a, b), a), 0.5), b);
      return tf.mul(a, tf.rsqrt(tf.add(tf.mul(part, part), 1)));
    }
    case "softmax":
      return tf.softmax(tf.mul(a, 1 / temperature));
    case "layernorm": {
      const { mean, variance } = tf.moments(a, [-1], true);
      const unit = tf.mul(tf.sub(a, mean), tf.rsqrt(tf.add(variance, EPS)));
      return tf.add(tf.mul(unit, b), c);
    }
    case "attention": {
      const scores = tf.mul(tf.matMul(a, b, false, true), shapes[0][3] ** -0.5);
      return tf.matMul(tf.softmax(scores), c);
    }
  }
}

async function open(): Promise<Engine> {
  const tf: Tf = await import(CORE);
  await import(BACKEND);
  if (!await tf.setBackend("webgpu")) throw new Error("its WebGPU back end does not start");
  await tf.ready();
  return {
    description: BACKEND,
    prepare(workload) {
      // Only its forward pass is compared.
      if (workload.backward) return Promise.resolve(undefined);
      // Batch and heads as one axis: with two, its attention gives zeros on this adapter.
      const operands = workload.shapes.map((shape, i) =>
        tf.tensor(
          operand(workload, i),
          shape.length === 4 ? [shape[0] * shape[1], ...shape.slice(2)] : shape,
        )
      );
      let latest: TfTensor | undefined;
      const run = () => {
        latest?.dispose();
        latest = tf.tidy(() => compute(tf, workload, operands));
      };
      return Promise.resolve({
        run,
        async sync() {
          // Reading a part back waits for the queue; submitting it from outside leaves zeros in
          // later results.
          const part = tf.slice(latest!, 0, 1);
          await part.data();
          part.dispose();
        },
        async results() {
          run();
          return [await latest!.data()];
        },
      });
    },
  };
}

await serve(open);
