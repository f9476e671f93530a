/** What an adapter can do at best, measured: arithmetic, copying, launching, reading back. */

/** Measured ceilings of a device. */
export interface Ceilings {
  /** 10^9 f32 operations per second in registers; a fused multiply-add counts as two. */
  readonly fmaGflops: number;
  /** 10^9 bytes per second from buffer to buffer, read and written bytes both counted. */
  readonly copyGbps: number;
  /** Microseconds per dispatch of an empty kernel, out of many in one submission. */
  readonly dispatchUs: number;
  /** Milliseconds from submission until four bytes are back. */
  readonly readbackMs: number;
}

/** Vectors of four that each thread carries: enough independent chains to fill the units. */
const CHAINS = 8;
/** Multiply-adds per chain between two tests of the loop's counter. */
const UNROLL = 16;
const THREADS = 64;
/** Milliseconds a measurement must last for its start and end not to matter. */
const LONG_ENOUGH = 80;

/** Measures all four; takes about a second on a software adapter. */
export async function measureCeilings(gpu: GPUDevice): Promise<Ceilings> {
  return {
    fmaGflops: await measureFma(gpu),
    copyGbps: await measureCopy(gpu),
    dispatchUs: await measureDispatch(gpu),
    readbackMs: await measureReadback(gpu),
  };
}

function fmaSource(): string {
  const chains = Array.from({ length: CHAINS }, (_, i) => `x${i}`);
  const start = chains.map((x, i) => `var ${x} = vec4f(f32(id.x) * 1e-6 + ${i}.0);`).join("\n  ");
  const body = chains.map((x) => `${x} = fma(${x}, a, b);`).join(" ");
  return `
@group(0) @binding(0) var<storage, read_write> result: array<vec4f>;
@group(0) @binding(1) var<uniform> rounds: vec4u;
@compute @workgroup_size(${THREADS})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let a = vec4f(0.999);
  let b = vec4f(0.001);
  ${start}
  for (var i = 0u; i < rounds.x; i++) {
    ${Array.from({ length: UNROLL }, () => body).join("\n    ")}
  }
  result[id.x] = ${chains.join(" + ")};
}`;
}

async function measureFma(gpu: GPUDevice): Promise<number> {
  const groups = 256;
  const usage = GPUBufferUsage.STORAGE;
  const result = gpu.createBuffer({ size: groups * THREADS * 16, usage });
  const rounds = gpu.createBuffer({
    size: 16,
    usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
  });
  const { pipeline, bindings } = prepare(gpu, fmaSource(), [result, rounds]);
  try {
    const rate = await fastest(1, async (n) => {
      gpu.queue.writeBuffer(rounds, 0, new Uint32Array([n, 0, 0, 0]));
      await runPass(gpu, pipeline, bindings, 1, groups);
    });
    return rate * groups * THREADS * CHAINS * UNROLL * 4 * 2 / 1e9;
  } finally {
    result.destroy();
    rounds.destroy();
  }
}

async function measureCopy(gpu: GPUDevice): Promise<number> {
  const size = Math.min(64 << 20, gpu.limits.maxBufferSize);
  const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const [from, to] = [gpu.createBuffer({ size, usage }), gpu.createBuffer({ size, usage })];
  try {
    const rate = await fastest(1, async (n) => {
      const encoder = gpu.createCommandEncoder();
      for (let i = 0; i < n; i++) encoder.copyBufferToBuffer(from, 0, to, 0, size);
      gpu.queue.submit([encoder.finish()]);
      await gpu.queue.onSubmittedWorkDone();
    });
    return rate * size * 2 / 1e9;
  } finally {
    from.destroy();
    to.destroy();
  }
}

async function measureDispatch(gpu: GPUDevice): Promise<number> {
  const target = gpu.createBuffer({ size: 256, usage: GPUBufferUsage.STORAGE });
  const source = `
@group(0) @binding(0) var<storage, read_write> target_: array<f32>;
@compute @workgroup_size(8)
fn main(@builtin(local_invocation_index) i: u32) { target_[i] = 1.0; }`;
  const { pipeline, bindings } = prepare(gpu, source, [target]);
  try {
    const rate = await fastest(256, (n) => runPass(gpu, pipeline, bindings, n, 1));
    return 1e6 / rate;
  } finally {
    target.destroy();
  }
}

async function measureReadback(gpu: GPUDevice): Promise<number> {
  const from = gpu.createBuffer({ size: 4, usage: GPUBufferUsage.COPY_SRC });
  const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
  const to = gpu.createBuffer({ size: 4, usage });
  try {
    const times: number[] = [];
    for (let i = 0; i < 9; i++) {
      const start = performance.now();
      const encoder = gpu.createCommandEncoder();
      encoder.copyBufferToBuffer(from, 0, to, 0, 4);
      gpu.queue.submit([encoder.finish()]);
      await to.mapAsync(GPUMapMode.READ);
      to.unmap();
      times.push(performance.now() - start);
    }
    return times.sort((a, b) => a - b)[4];
  } finally {
    from.destroy();
    to.destroy();
  }
}

/** Rounds per second: doubles the rounds until they last, then takes the best of three. */
async function fastest(rounds: number, run: (rounds: number) => Promise<void>): Promise<number> {
  await run(rounds);
  const time = async (): Promise<number> => {
    const start = performance.now();
    await run(rounds);
    return performance.now() - start;
  };
  let best = await time();
  while (best < LONG_ENOUGH && rounds < 2 ** 24) {
    rounds *= 2;
    best = await time();
  }
  for (let i = 0; i < 2; i++) best = Math.min(best, await time());
  return rounds / best * 1000;
}

function prepare(
  gpu: GPUDevice,
  code: string,
  buffers: readonly GPUBuffer[],
): { pipeline: GPUComputePipeline; bindings: GPUBindGroup } {
  const pipeline = gpu.createComputePipeline({
    layout: "auto",
    compute: { module: gpu.createShaderModule({ code }), entryPoint: "main" },
  });
  const bindings = gpu.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return { pipeline, bindings };
}

async function runPass(
  gpu: GPUDevice,
  pipeline: GPUComputePipeline,
  bindings: GPUBindGroup,
  dispatches: number,
  groups: number,
): Promise<void> {
  const encoder = gpu.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, bindings);
  for (let i = 0; i < dispatches; i++) pass.dispatchWorkgroups(groups);
  pass.end();
  gpu.queue.submit([encoder.finish()]);
  await gpu.queue.onSubmittedWorkDone();
}
