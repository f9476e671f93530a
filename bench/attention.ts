/**
 * Fused attention against our own composition of products and softmax, and against plain kernels.
 *
 * @module
 */
import {
  backward,
  type Device,
  matmul,
  permute,
  reshape,
  scope,
  selfAttention,
  softmax,
  type Tensor,
} from "../engine/mod.ts";
import { affordablePart, type CaseSpec, prepared, random, type RivalSpec } from "./case.ts";
import type { Benchmark } from "./harness.ts";
import { naive, naiveGemm } from "./naive/kernels.ts";

interface Problem {
  readonly batch: number;
  readonly heads: number;
  readonly tokens: number;
  readonly d: number;
}

const MODES = ["forward", "forward+backward"] as const;
type Mode = (typeof MODES)[number];

/** Multiply-adds of one product that a naive kernel may take on a software adapter. */
const AFFORDABLE = 2 ** 22;

/** [B, T, parts * H * d] to `parts` dense tensors [B * H, T, d]. */
function splitHeads(x: Tensor, { batch, heads, tokens, d }: Problem, parts: number): Tensor[] {
  const all = permute(reshape(x, [batch, tokens, parts, heads, d]), [2, 0, 3, 1, 4]);
  const size = batch * heads * tokens * d;
  const flat = reshape(all, [parts, size]);
  return Array.from(
    { length: parts },
    (_, i) => flat.view([batch * heads, tokens, d], undefined, flat.offset + i * size),
  );
}

/** Plain kernels one after the other over the first `count` heads. */
function plain(
  [q, k, v, dy]: readonly Tensor[],
  { tokens: t, d }: Problem,
  mode: Mode,
  count: number,
): readonly Tensor[] {
  const { device } = q;
  const scale = d ** -0.5;
  const batch = count;
  const scores = naiveGemm(q, k, { m: t, n: t, k: d, tb: true, alpha: scale, batch });
  const p = device.empty(scores.shape);
  const rows = count * t;
  const params = { width: t, temperature: 1 };
  naive("softmax", { BACKWARD: false }, [scores, p], params, rows);
  const y = naiveGemm(p, v, { m: t, n: d, k: t, batch });
  if (mode === "forward") return [y];
  const dv = naiveGemm(p, dy, { m: t, n: d, k: t, ta: true, batch });
  const dp = naiveGemm(dy, v, { m: t, n: t, k: d, tb: true, batch });
  const ds = device.empty(p.shape);
  naive("softmax", { BACKWARD: true }, [p, dp, ds], params, rows);
  const dq = naiveGemm(ds, k, { m: t, n: d, k: t, alpha: scale, batch });
  const dk = naiveGemm(ds, q, { m: t, n: d, k: t, ta: true, alpha: scale, batch });
  return [y, dq, dk, dv];
}

/** Products and softmax of the engine, with the tape's gradients. */
function composed(
  [q, k, v, dy]: readonly Tensor[],
  { d }: Problem,
  mode: Mode,
): readonly Tensor[] {
  for (const leaf of [q, k, v]) leaf.zeroGrad();
  const scores = matmul(q, permute(k, [0, 2, 1]));
  const y = matmul(softmax(scores, { temperature: Math.sqrt(d) }), v);
  if (mode === "forward") return [y];
  backward(y, dy);
  return [y, q.grad!, k.grad!, v.grad!];
}

function prepare(device: Device, name: string, problem: Problem, mode: Mode) {
  const { batch, heads, tokens, d } = problem;
  const qkv = random(device, [batch, tokens, 3 * heads * d]);
  const dy = random(device, [batch, tokens, heads * d]);
  const [[q, k, v], [dyHeads]] = scope(() =>
    [splitHeads(qkv, problem, 3), splitHeads(dy, problem, 1)] as const
  );
  if (mode !== "forward") [qkv, q, k, v].forEach((leaf) => leaf.trainable());
  const outputs = () => {
    qkv.zeroGrad();
    const y = selfAttention(qkv, heads);
    if (mode === "forward") return [y];
    backward(y, dy);
    return [y, qkv.grad!];
  };
  const compared = () => {
    const [y, dqkv] = outputs();
    return [...splitHeads(y, problem, 1), ...(dqkv ? splitHeads(dqkv, problem, 3) : [])];
  };
  const most = AFFORDABLE / tokens / tokens / d;
  const count = affordablePart(device, batch * heads, most);
  const split = [q, k, v, dyHeads];
  const tolerance = 2e-5;
  const naive: RivalSpec = {
    outputs: () => plain(split, problem, mode, count),
    share: count / batch / heads,
    tolerance,
  };
  const spec: CaseSpec = {
    operands: [qkv, dy, ...split],
    outputs,
    compared,
    naive,
    composed: { outputs: () => composed(split, problem, mode), tolerance },
  };
  return prepared(name, spec);
}

function benchmark(problem: Problem, mode: Mode, tier: Benchmark["tier"]): Benchmark {
  const { batch, heads, tokens, d } = problem;
  const name = `attention/${mode}/b${batch}h${heads}t${tokens}d${d}`;
  // Two products forward; backward makes the scores again and four more.
  const products = mode === "forward" ? 2 : 7;
  const array = 4 * batch * heads * tokens * d;
  return {
    name,
    tier,
    bound: "fma",
    flops: products * 2 * batch * heads * tokens * tokens * d,
    // q, k, v and the result; then those, its gradient and three gradients.
    bytes: array * (mode === "forward" ? 4 : 12),
    prepare: (device) => Promise.resolve(prepare(device, name, problem, mode)),
  };
}

/** Student, teacher and predictor lengths of the base step with its two head sizes. */
export const ATTENTION_BENCHMARKS: readonly Benchmark[] = [[12, 64], [16, 32]].flatMap((
  [heads, d],
) =>
  [58, 134, 191].flatMap((tokens) =>
    MODES.map((mode) => {
      const checked = tokens === 134 && d === 64;
      const tier = checked ? "check" : tokens === 191 && mode !== "forward" ? "quick" : "full";
      return benchmark({ batch: 8, heads, tokens, d }, mode, tier);
    })
  )
);
