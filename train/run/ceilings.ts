/** What an adapter can do at best, measured: arithmetic, copying, launching, reading back. */

/** Measured ceilings of a device. */
export interface Ceilings {
  /** 10^9 f32 operations per second in registers; a fused multiply-add counts as two. */
  readonly fmaGflops: number;
  /**
   * 10^9 bytes per second of a kernel that copies one array to another, read and written bytes both
   * counted.
   */
  readonly copyGbps: number;
  /** The same of a buffer copy, which no kernel can make use of. */
  readonly bufferCopyGbps: number;
  /** Microseconds per dispatch of an empty kernel, out of many in one submission. */
  readonly dispatchUs: number;
  /** Milliseconds from submission until four bytes are back. */
  readonly readbackMs: number;
}

/** Work in equal rounds that keeps one part of the adapter busy and nothing else. */
export interface Load extends Disposable {
  /** 10^9 operations, bytes or dispatches per round. */
  readonly giga: number;
  /** Submits that many rounds without waiting for them. */
  submit(rounds: number): void;
}

/** Vectors of four that each thread carries: enough independent chains to fill the units. */
const CHAINS = 16;
/**
 * Multiply-adds per chain between two tests of the loop's counter. More of them would be slower on
 * lavapipe, which compiles one chain after the other, so that each waits for its own results.
 */
const UNROLL = 4;
const THREADS = 64;
/** Milliseconds a measurement must last for its start and end not to matter. */
const LONG_ENOUGH = 80;
/** Most bytes of an array that is copied; beyond the caches of any processor or GPU there is. */
const COPY_BYTES = 128 << 20;
/** Shapes of the copy kernel: threads per workgroup and vectors of four per thread. */
const COPY_SHAPES = [[64, 1], [64, 4], [64, 16], [256, 1], [256, 4]] as const;

/** The two loads that kernels are held against. */
export interface CeilingLoads {
  /** Independent chains of multiply-adds in registers. */
  readonly fma: Load;
  /** A kernel that copies an array beyond the caches, in the shape that is fastest here. */
  readonly copy: Load;
}

/** Builds both; finding the best copy kernel takes some three seconds on a software adapter. */
export async function ceilingLoads(gpu: GPUDevice): Promise<CeilingLoads & Disposable> {
  const [fma, copy] = [fmaLoad(gpu), await copyLoad(gpu)];
  return { fma, copy, [Symbol.dispose]: () => [fma, copy].forEach((it) => it[Symbol.dispose]()) };
}

/** Measures everything; takes about five seconds on a software adapter. */
export async function measureCeilings(gpu: GPUDevice, loads?: CeilingLoads): Promise<Ceilings> {
  using own = loads ? undefined : await ceilingLoads(gpu);
  const { fma, copy } = loads ?? own!;
  using bufferCopy = bufferCopyLoad(gpu);
  using dispatch = dispatchLoad(gpu);
  return {
    fmaGflops: await fastest(gpu, fma),
    copyGbps: await fastest(gpu, copy),
    bufferCopyGbps: await fastest(gpu, bufferCopy),
    dispatchUs: 1e-3 / await fastest(gpu, dispatch),
    readbackMs: await measureReadback(gpu),
  };
}

/** Independent chains of multiply-adds in registers. */
function fmaLoad(gpu: GPUDevice): Load {
  const groups = 256;
  const chains = Array.from({ length: CHAINS }, (_, i) => `x${i}`);
  const start = chains.map((x, i) => `var ${x} = vec4f(f32(id.x) * 1e-6 + ${i}.0);`).join("\n  ");
  const body = chains.map((x) => `${x} = fma(${x}, a, b);`).join(" ");
  const code = `
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
  const result = gpu.createBuffer({ size: groups * THREADS * 16, usage: GPUBufferUsage.STORAGE });
  const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
  const count = gpu.createBuffer({ size: 16, usage });
  const pass = prepare(gpu, code, [result, count]);
  return {
    giga: groups * THREADS * CHAINS * UNROLL * 4 * 2 / 1e9,
    submit(rounds) {
      gpu.queue.writeBuffer(count, 0, new Uint32Array([rounds, 0, 0, 0]));
      pass(1, [groups, 1]);
    },
    [Symbol.dispose]: () => [result, count].forEach((it) => it.destroy()),
  };
}

/** The largest power of two of bytes up to {@link COPY_BYTES} that one binding holds. */
function copyBytes({ limits }: GPUDevice): number {
  const most = Math.min(COPY_BYTES, limits.maxBufferSize, limits.maxStorageBufferBindingSize);
  return 2 ** Math.floor(Math.log2(most));
}

/**
 * A kernel that copies an array of vectors, `vectors` per thread, neighbouring threads side by
 * side.
 */
function copyKernelLoad(gpu: GPUDevice, [threads, vectors]: readonly [number, number]): Load {
  const size = copyBytes(gpu);
  const code = `
@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> sink: array<vec4f>;
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let at = (group.x + group.y * grid.x) * ${threads * vectors}u + lane;
  ${
    Array.from(
      { length: vectors },
      (_, i) => `sink[at + ${i * threads}u] = source[at + ${i * threads}u];`,
    ).join("\n  ")
  }
}`;
  const [source, sink] = [0, 1].map(() =>
    gpu.createBuffer({ size, usage: GPUBufferUsage.STORAGE })
  );
  const pass = prepare(gpu, code, [source, sink]);
  // Sizes are powers of two, so that a grid folded into two dimensions fits exactly.
  const groups = size / 16 / threads / vectors;
  const columns = Math.min(groups, 2 ** 15);
  return {
    giga: 2 * size / 1e9,
    submit: (rounds) => pass(rounds, [columns, groups / columns]),
    [Symbol.dispose]: () => [source, sink].forEach((it) => it.destroy()),
  };
}

/**
 * The copy kernel in the shape that is fastest here: the ceiling of kernels that are bound by
 * memory.
 */
async function copyLoad(gpu: GPUDevice): Promise<Load> {
  let best = { ms: Infinity, shape: COPY_SHAPES[0] as readonly [number, number] };
  for (const shape of COPY_SHAPES) {
    using load = copyKernelLoad(gpu, shape);
    // The first round touches the memory.
    await timed(gpu, load, 1);
    const ms = Math.min(await timed(gpu, load, 1), await timed(gpu, load, 1));
    if (ms < best.ms) best = { ms, shape };
  }
  return copyKernelLoad(gpu, best.shape);
}

function bufferCopyLoad(gpu: GPUDevice): Load {
  const size = copyBytes(gpu);
  const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const [from, to] = [gpu.createBuffer({ size, usage }), gpu.createBuffer({ size, usage })];
  return {
    giga: 2 * size / 1e9,
    submit(rounds) {
      const encoder = gpu.createCommandEncoder();
      for (let i = 0; i < rounds; i++) encoder.copyBufferToBuffer(from, 0, to, 0, size);
      gpu.queue.submit([encoder.finish()]);
    },
    [Symbol.dispose]: () => [from, to].forEach((it) => it.destroy()),
  };
}

function dispatchLoad(gpu: GPUDevice): Load {
  const target = gpu.createBuffer({ size: 256, usage: GPUBufferUsage.STORAGE });
  const code = `
@group(0) @binding(0) var<storage, read_write> target_: array<f32>;
@compute @workgroup_size(8)
fn main(@builtin(local_invocation_index) i: u32) { target_[i] = 1.0; }`;
  const pass = prepare(gpu, code, [target]);
  return {
    giga: 1e-9 * DISPATCHES,
    submit: (rounds) => pass(rounds * DISPATCHES, [1, 1]),
    [Symbol.dispose]: () => target.destroy(),
  };
}

/** Dispatches per round; fewer would measure the submission. */
const DISPATCHES = 256;

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

/** Milliseconds that `rounds` rounds take. */
async function timed(gpu: GPUDevice, load: Load, rounds: number): Promise<number> {
  const start = performance.now();
  load.submit(rounds);
  await gpu.queue.onSubmittedWorkDone();
  return performance.now() - start;
}

/** 10^9 units per second: doubles the rounds until they last, then takes the best of three. */
async function fastest(gpu: GPUDevice, load: Load): Promise<number> {
  await timed(gpu, load, 1);
  let rounds = 1;
  let best = await timed(gpu, load, rounds);
  while (best < LONG_ENOUGH && rounds < 2 ** 24) {
    rounds *= 2;
    best = await timed(gpu, load, rounds);
  }
  for (let i = 0; i < 2; i++) best = Math.min(best, await timed(gpu, load, rounds));
  return rounds * load.giga / best * 1000;
}

/**
 * A compiled kernel with its buffers; the result submits one pass with that many equal dispatches.
 */
function prepare(
  gpu: GPUDevice,
  code: string,
  buffers: readonly GPUBuffer[],
): (dispatches: number, grid: readonly [number, number]) => void {
  const pipeline = gpu.createComputePipeline({
    layout: "auto",
    compute: { module: gpu.createShaderModule({ code }), entryPoint: "main" },
  });
  const bindings = gpu.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return (dispatches, [columns, rows]) => {
    const encoder = gpu.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindings);
    for (let i = 0; i < dispatches; i++) pass.dispatchWorkgroups(columns, rows);
    pass.end();
    gpu.queue.submit([encoder.finish()]);
  };
}
