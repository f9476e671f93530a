/**
 * Small work, where the host's time counts, and chains of elementwise ops, which a captured
 * function runs as one kernel.
 *
 * @module
 */
import {
  add,
  capture,
  type Device,
  div,
  matmul,
  mul,
  noGrad,
  sqrt,
  sub,
  type Tensor,
  TransformerBlock,
} from "../engine/mod.ts";
import { type CaseSpec, prepared, random } from "./case.ts";
import type { Benchmark } from "./harness.ts";
import { stopwatch } from "./stopwatch.ts";

/** Eight elementwise ops: `x / sqrt(1 + ((x y + x) / 2 - y)^2)`. */
export function chain(x: Tensor, y: Tensor): Tensor {
  const part = sub(mul(add(mul(x, y), x), 0.5), y);
  return div(x, sqrt(add(mul(part, part), 1)));
}

/** A transformer block, by which an eager program's mix of ops is told: 7 dispatches. */
const BLOCK = { tokens: 16, width: 64, heads: 4 };

function block(device: Device): CaseSpec {
  const layer = new TransformerBlock(device, BLOCK.width, BLOCK.heads, 1);
  const x = random(device, [1, BLOCK.tokens, BLOCK.width]);
  const spec = mapped(device, [x], (x) => noGrad(() => layer.apply(x)), false);
  return { ...spec, close: () => layer[Symbol.dispose]() };
}

/** Elements of the chain's operands: beyond all caches. */
const LARGE = 2 ** 23;
const SMALL = 1024;

/** Notes the script time of `outputs` in the column `us_per_dispatch`. */
function timed(device: Device, spec: CaseSpec): CaseSpec {
  const submits = stopwatch(device.gpu.queue, "submit");
  let script = Infinity;
  let dispatches = 1;
  return {
    ...spec,
    outputs() {
      const before = device.counters.dispatches;
      const start = performance.now() - submits.ms;
      const results = spec.outputs();
      // A software adapter computes inside submit; that is not the script's time.
      script = Math.min(script, performance.now() - submits.ms - start);
      dispatches = device.counters.dispatches - before;
      return results;
    },
    extra: () => ({ us_per_dispatch: script * 1000 / dispatches }),
    close() {
      submits[Symbol.dispose]();
      spec.close?.();
    },
  };
}

/** A function that is captured, or run op by op. */
function mapped(
  device: Device,
  operands: readonly Tensor[],
  body: (...inputs: Tensor[]) => Tensor,
  captured: boolean,
): CaseSpec {
  if (!captured) return { operands, outputs: () => [body(...operands)] };
  const plan = capture(device, operands, body);
  return {
    operands,
    // The result is the plan's.
    owner: true,
    outputs: () => [plan.replay(operands)],
    composed: { outputs: () => [body(...operands)] },
    close: () => plan[Symbol.dispose](),
  };
}

interface SmallEntry extends Pick<Benchmark, "name" | "tier" | "bound" | "flops" | "bytes"> {
  /** Calls in a row that a sample's run makes, so that script time can be read off the clock. */
  readonly calls: number;
  make(device: Device): CaseSpec;
}

function repeated(device: Device, { calls, make }: SmallEntry): CaseSpec {
  const spec = make(device);
  if (calls === 1) return spec;
  const many = () => {
    const results: Tensor[] = [];
    for (let i = 0; i < calls; i++) results.push(...spec.outputs());
    return results;
  };
  return timed(device, { ...spec, outputs: many, composed: undefined });
}

const ENTRIES: readonly SmallEntry[] = [
  ...[false, true].map((captured): SmallEntry => ({
    name: `small/add/${captured ? "captured" : "eager"}/${SMALL}`,
    tier: "quick",
    bound: "copy",
    flops: 100 * SMALL,
    bytes: 100 * 3 * 4 * SMALL,
    calls: 100,
    make: (device) =>
      mapped(device, [random(device, [SMALL]), random(device, [SMALL])], add, captured),
  })),
  {
    name: "small/matmul/64x64x64",
    tier: "quick",
    bound: "fma",
    flops: 100 * 2 * 64 ** 3,
    calls: 100,
    make: (device) =>
      mapped(device, [random(device, [64, 64]), random(device, [64, 64])], matmul, false),
  },
  {
    name: `small/block/${BLOCK.tokens}x${BLOCK.width}`,
    tier: "quick",
    bound: "fma",
    flops: 20 * 4 * BLOCK.tokens * BLOCK.width * (6 * BLOCK.width + BLOCK.tokens),
    calls: 20,
    make: block,
  },
  {
    name: `fused/eight/${LARGE}`,
    tier: "quick",
    bound: "copy",
    flops: 8 * LARGE,
    bytes: 3 * 4 * LARGE,
    calls: 1,
    make: (device) =>
      mapped(device, [random(device, [LARGE]), random(device, [LARGE])], chain, true),
  },
];

/** Small ops a hundred at a time, and a chain. */
export const SMALL_BENCHMARKS: readonly Benchmark[] = ENTRIES.map((entry) => ({
  name: entry.name,
  tier: entry.tier,
  bound: entry.bound,
  flops: entry.flops,
  bytes: entry.bytes,
  prepare: (device) => Promise.resolve(prepared(entry.name, repeated(device, entry))),
}));
