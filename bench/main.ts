/**
 * `deno task bench`: what the adapter can do, then kernels and training steps as fractions of it. Ratios are what
 * counts: everything is measured in one run, and no time is kept.
 *
 * @module
 */
import {
  backward,
  type Device,
  formatBytes,
  linear,
  openDevice,
  scope,
  selfAttention,
  type Tensor,
} from "../engine/mod.ts";
import { LogMel } from "../model/frontend.ts";
import { initialiseMatpac } from "../model/init.ts";
import { randomMask } from "../model/masking.ts";
import { Matpac, patchGrid } from "../model/matpac.ts";
import { type Geometry, PRESETS } from "../model/presets.ts";
import { lossWeights, RECIPES } from "../model/recipe.ts";
import { type Ceilings, measureCeilings } from "../train/ceilings.ts";
import { type CommandSpec, helpText, parseArguments, wantsHelp } from "../train/cli/parser.ts";
import { Prng } from "../train/data/prng.ts";
import { reportError, UsageError } from "../train/errors.ts";
import { STEP_DEFAULTS, Trainer } from "../train/step.ts";
import { type Repeats, stopwatch, time, type Timing } from "./harness.ts";

const SPEC: CommandSpec = {
  program: "deno task bench",
  summary: "Measures the adapter's ceilings, then kernels and training steps as fractions of them.",
  options: [
    {
      name: "filter",
      kind: "value",
      metavar: "RE",
      description: "Runs only benchmarks whose name matches.",
    },
    { name: "json", kind: "value", metavar: "FILE", description: "Writes the results as JSON." },
    { name: "quick", kind: "flag", description: "Fewer and shorter repetitions." },
  ],
};

/** One line of the report. */
interface Result extends Timing {
  readonly name: string;
  readonly gflops?: number;
  /** Of the ceiling that binds. */
  readonly fraction?: number;
  readonly samples_per_s?: number;
  readonly peak_bytes?: number;
  readonly real_time?: number;
  readonly us_per_dispatch?: number;
}

/** What a benchmark measures. */
interface Benchmark {
  readonly name: string;
  /** Left out by --quick. */
  readonly slow?: boolean;
  run(device: Device, ceilings: Ceilings, repeats: Repeats): Promise<Result>;
}

function random(device: Device, shape: number[], scale = 1): Tensor {
  const prng = new Prng(1);
  const size = shape.reduce((a, b) => a * b, 1);
  return device.tensor(
    Float32Array.from({ length: size }, () => scale * (2 * prng.uniform() - 1)),
    shape,
  );
}

/** Forward (NT) and, with `backward`, all three products of a linear layer. */
function linearBenchmark(m: number, n: number, k: number, withBackward: boolean): Benchmark {
  return {
    name: `gemm/${withBackward ? "nt+nn+tn" : "nt"}/${m}x${n}x${k}`,
    async run(device, ceilings, repeats) {
      using x = random(device, [m, k]);
      using w = random(device, [n, k], 0.1);
      using dy = random(device, [m, n]);
      if (withBackward) [x, w].forEach((t) => t.trainable());
      const timing = await time(device, () =>
        scope(() => {
          const y = linear(x, w);
          if (withBackward) {
            [x, w].forEach((t) => t.zeroGrad());
            backward(y, dy);
          }
        }), repeats);
      const gflops = (withBackward ? 3 : 1) * 2 * m * n * k / timing.ms / 1e6;
      return { name: this.name, ...timing, gflops, fraction: gflops / ceilings.fmaGflops };
    },
  };
}

function attentionBenchmark(batch: number, heads: number, tokens: number, size: number): Benchmark {
  return {
    name: `attention/forward+backward/b${batch}h${heads}t${tokens}d${size}`,
    async run(device, ceilings, repeats) {
      using qkv = random(device, [batch, tokens, 3 * heads * size]).trainable();
      using dy = random(device, [batch, tokens, heads * size]);
      const timing = await time(device, () =>
        scope(() => {
          qkv.zeroGrad();
          backward(selfAttention(qkv, heads), dy);
        }), repeats);
      const gflops = 3.5 * 4 * batch * heads * tokens * tokens * size / timing.ms / 1e6;
      return { name: this.name, ...timing, gflops, fraction: gflops / ceilings.fmaGflops };
    },
  };
}

const logMelBenchmark: Benchmark = {
  name: "logmel",
  async run(device, _, repeats) {
    const [clips, samples] = [16, 97_520];
    using frontend = new LogMel(device);
    using waves = random(device, [clips, samples]);
    const timing = await time(device, () => frontend.apply(waves).dispose(), repeats);
    return { name: this.name, ...timing, real_time: clips * samples / 16 / timing.ms };
  },
};

/** Multiply-adds of one clip's update: the student's three times (forward, two backward), the teacher's once. */
function stepFlops(geometry: Geometry, visible: number): number {
  const {
    width: d,
    depth,
    predictorWidth: w,
    predictorDepth,
    headHidden: h,
    bottleneck,
    prototypes,
    patchSize,
  } = geometry;
  const { patches } = patchGrid(geometry);
  const masked = patches - visible;
  const layer = (tokens: number, size: number) =>
    12 * size * size * tokens + 2 * tokens * tokens * size;
  const head = d * h + h * h + h * bottleneck + bottleneck * prototypes;
  const student = patchSize ** 2 * d * patches + depth * layer(1 + visible, d) +
    (1 + visible) * d * w +
    predictorDepth * layer(1 + patches, w) + masked * (w * d + head);
  const teacher = depth * layer(1 + masked, d) + masked * head;
  return 2 * (3 * student + teacher);
}

function stepBenchmark(label: string, geometry: Geometry, batch: number): Benchmark {
  return {
    name: `step/${label}`,
    slow: geometry.width > 500,
    async run(device, ceilings, { count }) {
      const recipe = RECIPES.paper;
      using model = new Matpac(device, geometry, recipe);
      const prng = new Prng(1);
      initialiseMatpac(model, prng);
      const schedules = {
        total: 100,
        lr: () => 1e-4,
        teacherTemp: () => 0.05,
        emaEncoder: () => 0.99,
        emaHead: () => 0.99,
      };
      using trainer = new Trainer(device, model, schedules, {
        ...STEP_DEFAULTS,
        weights: lossWeights(recipe, 0.5),
      });
      using input = random(device, [batch, geometry.melBands, geometry.cropFrames]);
      const { patches } = patchGrid(geometry);
      const mask = randomMask(() => prng.uniform(), batch, patches, geometry.maskRatio);
      let script = Infinity;
      let dispatches = 0;
      using submits = stopwatch(device.gpu.queue, "submit");
      const timing = await time(device, () => {
        const before = device.counters.dispatches;
        const start = performance.now() - submits.ms;
        trainer.step(input, mask);
        // A software adapter computes inside submit; that is not the script's time.
        script = Math.min(script, performance.now() - submits.ms - start);
        dispatches = device.counters.dispatches - before;
      }, { count: Math.max(3, Math.ceil(count / 3)), minimumMs: 1 });
      const gflops = batch * stepFlops(geometry, mask.visible) / timing.ms / 1e6;
      return {
        name: this.name,
        ...timing,
        gflops,
        fraction: gflops / ceilings.fmaGflops,
        samples_per_s: batch * 1000 / timing.ms,
        peak_bytes: device.memory.liveBytes,
        us_per_dispatch: script * 1000 / dispatches,
      };
    },
  };
}

const tiny608: Geometry = { ...PRESETS.tiny.geometry, cropFrames: 608 };

const BENCHMARKS: readonly Benchmark[] = [
  linearBenchmark(1024, 768, 768, false),
  linearBenchmark(1024, 768, 768, true),
  linearBenchmark(928, 576, 192, true),
  linearBenchmark(928, 768, 192, true),
  linearBenchmark(2144, 192, 768, true),
  linearBenchmark(3056, 384, 128, true),
  attentionBenchmark(16, 3, 58, 64),
  attentionBenchmark(16, 3, 134, 64),
  attentionBenchmark(16, 4, 191, 32),
  logMelBenchmark,
  stepBenchmark("tiny/208x16", PRESETS.tiny.geometry, 16),
  stepBenchmark("tiny/608x16", tiny608, 16),
  stepBenchmark("base/608x4", PRESETS.base.geometry, 4),
];

function line(r: Result): string {
  const parts = [r.name.padEnd(46), `${r.ms.toFixed(2)} ms ±${(100 * r.spread).toFixed(0)}%`];
  if (r.gflops !== undefined) parts.push(`${r.gflops.toFixed(1)} GFLOP/s`);
  if (r.fraction !== undefined) {
    parts.push(`${(100 * r.fraction).toFixed(0)}% of the multiply-add ceiling`);
  }
  if (r.samples_per_s !== undefined) parts.push(`${r.samples_per_s.toFixed(2)} samples/s`);
  if (r.peak_bytes !== undefined) parts.push(formatBytes(r.peak_bytes));
  if (r.us_per_dispatch !== undefined) {
    parts.push(`${r.us_per_dispatch.toFixed(1)} us of script per dispatch`);
  }
  if (r.real_time !== undefined) parts.push(`${r.real_time.toFixed(0)} x real time`);
  return parts.join("  ");
}

async function main(argv: readonly string[]): Promise<number> {
  if (wantsHelp(argv)) {
    console.log(helpText(SPEC));
    return 0;
  }
  const { filter, json, quick } = parseArguments(SPEC, argv);
  let pattern: RegExp;
  try {
    pattern = new RegExp(typeof filter === "string" ? filter : "");
  } catch (error) {
    throw new UsageError(`--filter ${filter}: ${(error as Error).message}`);
  }
  const repeats: Repeats = quick ? { count: 3, minimumMs: 30 } : { count: 9, minimumMs: 150 };
  using device = await openDevice();
  let ceilings = await measureCeilings(device.gpu);
  console.log(
    `${device.info.description}: ${ceilings.fmaGflops.toFixed(0)} GFLOP/s multiply-add, ${
      ceilings.copyGbps.toFixed(1)
    } GB/s copy, ` +
      `${ceilings.dispatchUs.toFixed(1)} us per empty dispatch, ${
        ceilings.readbackMs.toFixed(1)
      } ms read-back`,
  );
  const results: Result[] = [];
  const chosen = BENCHMARKS.filter(({ name, slow }) => pattern.test(name) && !(quick && slow));
  for (const benchmark of chosen) {
    // Shared cores change their speed within a run; the best that was seen is the ceiling.
    const again = await measureCeilings(device.gpu);
    ceilings = { ...ceilings, fmaGflops: Math.max(ceilings.fmaGflops, again.fmaGflops) };
    const result = await benchmark.run(device, ceilings, repeats);
    results.push(result);
    console.log(line(result));
    device.trim();
  }
  if (typeof json === "string") {
    const { fmaGflops, copyGbps, dispatchUs, readbackMs } = ceilings;
    const record = {
      adapter: device.info,
      driver: device.info.description,
      date: new Date().toISOString(),
      ceiling: {
        fma_gflops: fmaGflops,
        copy_gbps: copyGbps,
        dispatch_us: dispatchUs,
        readback_ms: readbackMs,
      },
      results,
    };
    await Deno.writeTextFile(json, `${JSON.stringify(record, null, 1)}\n`);
  }
  return 0;
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    Deno.exit(reportError(error));
  }
}
