/**
 * Public functions on arguments that do not fit: an error of the engine's own that names the
 * function and what was given, never one of the runtime's from inside it.
 */
import { assertEquals, assertRejects } from "@std/assert";
import * as engine from "../../engine/mod.ts";
import {
  add,
  backward,
  type Device,
  LifetimeError,
  mul,
  openDevice,
  ShapeError,
  sum,
  type Tensor,
} from "../../engine/mod.ts";
import { BINARY } from "../../engine/ops/binary_table.ts";
import { UNARY } from "../../engine/ops/unary_table.ts";
import { full, fullOnly, test } from "../support/tier.ts";

const device = await openDevice();

/** What stands where something else belongs. */
const STRANGERS: readonly unknown[] = [undefined, null, 2, NaN, "x", [], {}, new Float32Array(2)];
const SIZES: readonly unknown[] = [-1, 0.5, NaN, Infinity, "2", undefined, null, [2], {}];

const x = device.tensor([1, 2, 3, 4, 5, 6], [2, 3]);
const row = device.tensor([1, 2, 3]);
const ids = device.tensor(Uint32Array.of(0, 1));
const [ids2, x2] = [device.tensor(Uint32Array.of(0, 1), [2, 1]), device.tensor([7, 8], [2, 1])];
const image = device.zeros([1, 1, 4, 4]);
const cube = device.zeros([1, 1, 2, 2, 2]);
const heads = device.zeros([1, 2, 3, 4]);
const pair = device.tensor([0.5, 0.5]);
const leaf = device.tensor([1, 2, 3]).trainable();
const random = new engine.Prng(1);
const ADAM = { betas: [0.9, 0.99], eps: 1e-8, epsPlacement: "torch" };
backward(sum(mul(leaf, leaf)));
const behind = sum(mul(leaf, leaf));

/**
 * Every function and class of the engine that takes tensors, sizes or functions, with arguments
 * that fit, and which of them may be left out. What is not an operand, a size or an option is tried
 * with the same strangers.
 */
const CALLS: Readonly<Record<string, readonly [args: readonly unknown[], optional?: number[]]>> = {
  ...Object.fromEntries(
    [...Object.keys(UNARY), "contiguous", "transpose"].map((name) => [name, [[x]]]),
  ),
  nanToNum: [[x, {}], [1]],
  softplus: [[x, {}], [1]],
  ...Object.fromEntries(
    [
      ...Object.keys(BINARY).filter((name) => name !== "pow"),
      ...["equal", "notEqual", "less", "lessEqual", "greater", "greaterEqual", "logicalAnd"],
      ...["logicalOr", "logicalXor", "bceWithLogits", "mse", "cosineLoss"],
    ].map((name) => [name, [[x, x]]]),
  ),
  ...Object.fromEntries(
    [
      "sum",
      "mean",
      "max",
      "min",
      "prod",
      "logsumexp",
      "norm",
      "diff",
      "std",
      "variance",
      "argmax",
      "argmin",
      "argsort",
      "sort",
      "softmax",
    ]
      .concat("logSoftmax").map((name) => [name, [[x, {}], [1]]]),
  ),
  ...Object.fromEntries(
    ["bitwiseAnd", "bitwiseOr", "bitwiseXor", "leftShift", "rightShift"]
      .map((name) => [name, [[ids, ids]]]),
  ),
  ...Object.fromEntries(
    ["cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"].map((name) => [name, [[x, 1], [1]]]),
  ),
  bitwiseNot: [[ids]],
  logicalNot: [[x]],
  any: [[x, {}], [1]],
  all: [[x, {}], [1]],
  matmul: [[x, device.zeros([3, 2])]],
  linear: [[x, x, device.zeros([2]), {}], [2, 3]],
  mlp: [[x, [{ weight: x }], {}], [2]],
  reshape: [[x, [3, 2]]],
  permute: [[x, [1, 0]]],
  slice: [[x, 0, 0, 1]],
  concat: [[[x, x], 0]],
  stack: [[[x, x], 0], [1]],
  expand: [[row, [2, 3]]],
  repeat: [[x, [2, 1]]],
  split: [[x, 0, 2]],
  pad: [[x, [[0, 1], [1, 0]], 0], [2]],
  cast: [[x, "f32"]],
  where: [[x, x, x]],
  clamp: [[x, 0, 1]],
  pow: [[x, 2]],
  embedding: [[x, ids]],
  indexSelect: [[x, ids, 0], [2]],
  take: [[x, ids, 0], [2]],
  gather: [[x, device.zeros([2, 1], "u32"), 1], [2]],
  takeAlong: [[x, device.zeros([2, 1], "u32"), 1], [2]],
  scatterAdd: [[x, ids, 2]],
  oneHot: [[ids, 2]],
  batchedIndexSelect: [[device.zeros([1, 2, 3]), device.zeros([1, 1], "u32"), {}], [2]],
  topk: [[x, 2, {}], [2]],
  rmsNorm: [[x, row, 1e-6], [2]],
  layerNorm: [[x, row, row, 1e-6], [3]],
  residualLayerNorm: [[x, x, row, row, 1e-6], [4]],
  l2Normalize: [[x, 1e-6], [1]],
  rfft: [[x, {}], [1]],
  irfft: [[device.zeros([3, 2]), 4, {}], [1, 2]],
  fft: [[device.zeros([3, 2]), {}], [1]],
  ifft: [[device.zeros([3, 2]), {}], [1]],
  complexMul: [[device.zeros([3, 2]), device.zeros([2])]],
  fftshift: [[x, 0]],
  ifftshift: [[x, [0, 1]]],
  fftfreq: [[device, 4, 0.5], [2]],
  rfftfreq: [[device, 4, 0.5], [2]],
  frames: [[x, 2, 1]],
  overlapAdd: [[x, 1]],
  stft: [[x, { size: 2, hop: 1 }]],
  istft: [[device.zeros([2, 2, 2]), { size: 2, hop: 1 }]],
  conv1d: [[device.zeros([1, 1, 4]), device.zeros([1, 1, 2]), device.zeros([1]), {}], [2, 3]],
  conv2d: [[image, device.zeros([1, 1, 2, 2]), device.zeros([1]), {}], [2, 3]],
  dropout: [[x, { rate: 0.5, seed: 1 }]],
  randomUniform: [[device, [2], 1, {}], [3]],
  randomNormal: [[device, [2], 1, {}], [3]],
  hostUniform: [[4, 1, 0, 0], [2, 3]],
  crossEntropy: [[x, ids, {}], [2]],
  ...Object.fromEntries(
    ["huberLoss", "smoothL1Loss", "l1Loss", "klDiv"].map((name) => [name, [[x, x, {}], [2]]]),
  ),
  nllLoss: [[x, ids, {}], [2]],
  bce: [[pair, pair, {}], [2]],
  prelu: [[x, device.zeros([1])]],
  glu: [[device.zeros([2, 4]), 1], [1]],
  lerp: [[x, x, 0.5]],
  isclose: [[x, x, {}], [2]],
  quantile: [[x, 0.5, {}], [2]],
  median: [[x, {}], [1]],
  countNonzero: [[x, {}], [1]],
  searchsorted: [[row, row, {}], [2]],
  cosineSimilarity: [[x, x, {}], [2]],
  pairwiseDistance: [[x, x, {}], [2]],
  cdist: [[x, x, {}], [2]],
  cosineEmbeddingLoss: [[x, x, pair, {}], [3]],
  marginRankingLoss: [[x, x, x, {}], [3]],
  tripletMarginLoss: [[x, x, x, {}], [3]],
  unfold: [[image, 2, {}], [2]],
  fold: [[device.zeros([1, 4, 9]), 4, 2, {}], [3]],
  windowPartition: [[device.zeros([1, 4, 6, 2]), 2, {}], [2]],
  windowReverse: [[device.zeros([6, 4, 2]), [4, 6], 2, {}], [3]],
  pixelShuffle: [[device.zeros([1, 4, 2, 2]), 2]],
  pixelUnshuffle: [[image, 2]],
  elu: [[x, 1], [1]],
  leakyRelu: [[x, 0.1], [1]],
  ...Object.fromEntries(
    ["maxPool", "avgPool"].flatMap((name) =>
      [1, 2, 3].map((n) => [`${name}${n}d`, [[n === 3 ? cube : image, 2, {}], [2]]])
    ),
  ),
  ...Object.fromEntries(
    ["adaptiveMaxPool", "adaptiveAvgPool"].flatMap((name) =>
      [1, 2].map((n) => [`${name}${n}d`, [[image, 2]]])
    ),
  ),
  conv3d: [[cube, device.zeros([1, 1, 2, 2, 2]), device.zeros([1]), {}], [2, 3]],
  convTranspose1d: [
    [device.zeros([1, 1, 4]), device.zeros([1, 1, 2]), device.zeros([1]), {}],
    [2, 3],
  ],
  convTranspose2d: [[image, device.zeros([1, 1, 2, 2]), device.zeros([1]), {}], [2, 3]],
  interpolate: [[image, { size: [2, 2] }]],
  lstmCell: [[device.zeros([2, 12]), x]],
  gruCell: [[device.zeros([2, 9]), device.zeros([2, 9]), x]],
  rotary: [[device.zeros([3, 4]), device.zeros([3, 2, 2]), {}], [2]],
  rotaryTable: [[device, 3, 4, {}], [3]],
  batchNorm: [[x, row, row, {}], [1, 2, 3]],
  groupNorm: [[x, 1, {}], [2]],
  instanceNorm: [[heads, {}], [1]],
  centredCrossEntropy: [
    [x, x, row, { studentTemperature: 1, teacherTemperature: device.tensor([1]) }],
  ],
  attention: [[heads, heads, heads, {}], [3]],
  at: [[x, 0, "::-1"], [1, 2]],
  squeeze: [[device.zeros([2, 1]), 1], [1]],
  unsqueeze: [[x, 0]],
  flatten: [[x, 0, 1], [1, 2]],
  swapaxes: [[x, 0, 1]],
  moveaxis: [[x, 0, 1]],
  flip: [[x, 0], [1]],
  roll: [[x, 1, 0], [2]],
  chunk: [[x, 2, 0], [2]],
  tile: [[x, [2]]],
  repeatInterleave: [[x, 2, 0], [2]],
  meshgrid: [[[row, row], {}], [1]],
  diag: [[x, 0], [1]],
  diagonal: [[x, 0, 0, 1], [1, 2, 3]],
  diagEmbed: [[x, 0], [1]],
  tril: [[x, 0], [1]],
  triu: [[x, 0], [1]],
  einsum: [["ij,kj->ik", x, x]],
  tensordot: [[x, x, 2], [2]],
  outer: [[row, row]],
  scatter: [[x, ids2, x2, {}], [3]],
  maskedFill: [[x, row, 1]],
  arange: [[device, 3, {}], [2]],
  linspace: [[device, 0, 1, 3, "f32"], [4]],
  hannWindow: [[device, 3]],
  eye: [[device, 2, 2, "f32"], [2, 3]],
  fullLike: [[x, 1, "f32"], [2]],
  zerosLike: [[x, "f32"], [1]],
  onesLike: [[x, "f32"], [1]],
  emptyLike: [[x, "f32"], [1]],
  randint: [[device, 0, 2, [3], 1, {}], [5]],
  randLike: [[x, 1, {}], [2]],
  randnLike: [[x, 1, {}], [2]],
  bernoulli: [[x, 1, {}], [2]],
  categorical: [[x, 1, {}], [2]],
  permutation: [[device, 3, 1]],
  selfAttention: [[device.zeros([1, 3, 24]), 2, {}], [2]],
  backward: [[x, x], [1]],
  grad: [[behind, leaf, { retainGraph: true }], [2]],
  fill: [[device.zeros([3]), 0]],
  capture: [[device, [x], (x: Tensor) => add(x, 1)]],
  jit: [[device, (x: Tensor) => add(x, 1), {}], [2]],
  measure: [[device, () => new engine.Linear(device, 3, 2, 1), () => x], [2]],
  scope: [[() => x]],
  composite: [[() => x]],
  keep: [[device.zeros([1])]],
  noGrad: [[() => x]],
  recompute: [[(x: Tensor) => add(x, 1), x]],
  checkpoint: [[(x: Tensor) => add(x, 1)]],
  detach: [[x]],
  assign: [[device.zeros([3]), row, device.zeros([1])], [2]],
  addScaled: [[device.zeros([3]), row, 2, device.zeros([1])], [3]],
  emaStep: [[device.zeros([3]), row, pair]],
  sgdStep: [[[leaf], 0.1]],
  gradientNorm: [[[x, row], 1]],
  clipGradients: [[[leaf], 1]],
  adamStep: [[{ values: row, grads: row, m: row, v: row }, device.zeros([8]), pair]],
  adamHyperValues: [[{ ...ADAM, lr: 1, weightDecay: 0, step: 1 }]],
  lossScaleStep: [[device.zeros([6]), pair, 2]],
  storeRow: [[x, row, device.zeros([1])]],
  loadRow: [[row, x, device.zeros([1]), 0], [3]],
  constantRate: [[0.1]],
  exponentialDecay: [[1, 0.9]],
  linearRamp: [[0, 1, 10]],
  stepDecay: [[1, 10, 0.1], [2]],
  warmupCosine: [[1, 10, 100, 0], [3]],
  constantValues: [[[2], 1]],
  normalValues: [[[2], random, 1]],
  uniformValues: [[[2], random, 1]],
  truncatedNormalValues: [[[2], random, 1, 2], [3]],
  xavierNormal: [[[2, 3], random, 1], [2]],
  xavierUniform: [[[2, 3], random, 1], [2]],
  SGD: [[[leaf], { rate: 1, momentum: 0.9 }]],
  Adam: [[[leaf], { rate: 1 }]],
  AdamW: [[[leaf], { rate: 1, ...ADAM }]],
  LARS: [[[["w", leaf]], { rate: 1 }]],
  LossScale: [[device, 4, { first: 1, growthWindow: 2 }]],
  Linear: [[device, 3, 2, 1, {}], [4]],
  Conv1d: [[device, 2, 2, 3, 1, {}], [5]],
  Conv2d: [[device, 2, 2, 3, 1, {}], [5]],
  Conv3d: [[device, 2, 2, 3, 1, {}], [5]],
  ConvTranspose1d: [[device, 2, 2, 3, 1, {}], [5]],
  ConvTranspose2d: [[device, 2, 2, 3, 1, {}], [5]],
  LayerNorm: [[device, 3, 1e-6, 0], [2, 3]],
  RMSNorm: [[device, 3, 1e-6, 0], [2, 3]],
  BatchNorm: [[device, 3, {}, 0], [2, 3]],
  GroupNorm: [[device, 1, 3, {}, 0], [3, 4]],
  InstanceNorm: [[device, 3, {}, 0], [2, 3]],
  Embedding: [[device, 3, 2, 1]],
  Dropout: [[device, 0.5, 1]],
  LSTM: [[device, 3, 2, 1, {}], [4]],
  GRU: [[device, 3, 2, 1, {}], [4]],
  MultiHeadAttention: [[device, 4, 2, 1, {}], [4]],
  Mlp: [[device, 3, 2, 1]],
  TransformerBlock: [[device, 4, 2, 1, {}], [4]],
  Sequential: [[(x: Tensor) => x], [0]],
};

/** What takes no tensors and no sizes, or belongs to kernels; and what waits. */
const OTHERS = new Set([
  ...["openDevice", "itemSizeOf", "defineKernel", "generate", "formatBytes", "chromeTrace"],
  ...["table", "defineOp", "registry", "rowChunks", "rowsOf", "philox", "within"],
  ...["nonzero", "unique", "bincount", "histogram", "allclose", "profile", "precompile"],
  ...["fingerprint", "tune", "readSafetensors", "writeSafetensors"],
  // Devices make and take what they need themselves, errors have no rules, and Prng one of its own.
  ...["Device", "Profiler", "Tuning", "Tensor", "Module", "Optimizer", "Prng"],
  ...["Recurrent", "Convolution", "KeyValueCache"],
]);

Deno.test("the table names every function and class of the engine", () => {
  const functions = Object.entries(engine).filter(([name, it]) =>
    typeof it === "function" && !name.endsWith("Error")
  );
  const unknown = functions.map(([name]) => name)
    .filter((name) => !(name in CALLS) && !OTHERS.has(name));
  assertEquals(unknown, []);
});

/** Functions that a function is another name or a little more of, where errors may name those. */
const OTHER_NAMES: Readonly<Record<string, readonly string[]>> = {
  take: ["indexSelect", "embedding"],
  takeAlong: ["gather"],
  indexSelect: ["embedding"],
  conv1d: ["conv2d"],
  convTranspose1d: ["convTranspose2d"],
  einsum: ["matmul"],
  tensordot: ["matmul"],
  outer: ["mul"],
  tile: ["repeat"],
  // The body's.
  capture: ["add"],
  recompute: ["add"],
  maskedFill: ["where"],
};

/** What was found wrong, all of it at once. */
const faults: string[] = [];

/** Calls, and expects a result or an error that names the function. */
function holds(name: string, args: readonly unknown[], label: string): boolean {
  try {
    const call = (engine as unknown as Record<string, new (...args: unknown[]) => unknown>)[name];
    const made = engine.scope(() =>
      /^[A-Z]/.test(name) ? new call(...args) : Reflect.apply(call, undefined, args)
    );
    if (!(made instanceof engine.Tensor)) (made as Partial<Disposable>)?.[Symbol.dispose]?.();
    return true;
  } catch (error) {
    if (!(error instanceof ShapeError || error instanceof LifetimeError)) {
      faults.push(`${label}: ${error}`);
      return false;
    }
    const names = [name, ...OTHER_NAMES[name] ?? []];
    if (!names.some((it) => error.message.includes(it))) {
      faults.push(`${label}: not named in: ${error.message}`);
    }
    return false;
  }
}

/** Rows of tables that differ in their WGSL alone: the quick tier takes one of each table. */
const ALIKE = new Set([
  ...[...Object.keys(UNARY), ...Object.keys(BINARY)]
    .filter((name) => !["neg", "add", "pow"].includes(name)),
  ...["notEqual", "less", "lessEqual", "greater", "greaterEqual", "logicalOr", "logicalXor"],
  ...["bitwiseOr", "bitwiseXor", "leftShift", "rightShift", "cumprod", "cummin"],
]);

const elsewhere: Device = await openDevice();

/** Operands that may not fit, by their shapes and types. */
const OPERANDS: readonly (readonly [shape: readonly number[], dtype: engine.DType])[] = [
  ...[[0], [], [5, 7], [1, 2, 3, 4, 5]].map((shape) => [shape, "f32"] as const),
  ...(["u32", "i32", ...device.features.f16 ? ["f16" as const] : []] as const).map((dtype) =>
    [[2, 3], dtype] as const
  ),
];

/**
 * Tries a function with each of its arguments replaced.
 *
 * @param launched told of each operand that was tried
 */
async function tryStrangers(name: string, launched: (label: string) => Promise<void> | void) {
  const [args, optional = []] = CALLS[name];
  for (const [i, arg] of args.entries()) {
    const tried = (what: unknown, shown: string): boolean =>
      holds(name, args.map((it, k) => k === i ? what : it), `${name}, argument ${i}: ${shown}`);
    for (const stranger of [...STRANGERS, ...SIZES]) {
      const worked = tried(stranger, Deno.inspect(stranger));
      const left = stranger === undefined && optional.includes(i);
      // A number may stand for an operand; nothing else may stand for a tensor.
      const list = Array.isArray(stranger) || ArrayBuffer.isView(stranger);
      const wrong = arg instanceof engine.Tensor
        ? typeof stranger !== "number" && !list
        : typeof arg === "function"
        ? stranger !== undefined
        : typeof arg === "number" && typeof stranger === "string";
      if (worked && wrong && !left) {
        faults.push(`${name}, argument ${i}: ${Deno.inspect(stranger)} is taken`);
      }
    }
    if (!(arg instanceof engine.Tensor)) continue;
    // Whatever is no fit is said.
    for (const [shape, dtype] of OPERANDS) {
      const other = device.empty(shape, dtype);
      tried(other, `[${shape}] of ${dtype}`);
      await launched(`${name}, argument ${i}: [${shape}] of ${dtype}`);
      other.dispose();
    }
    const foreign = elsewhere.empty(arg.shape, arg.dtype);
    const alone = args.filter((it) => it instanceof engine.Tensor).length === 1;
    if (tried(foreign, "of another device") && !alone) {
      faults.push(`${name}, argument ${i}: a tensor of another device is taken`);
    }
    foreign.dispose();
  }
  holds(name, [], `${name} of nothing`);
}

const names = Object.keys(CALLS).filter((name) => full || !ALIKE.has(name));

Deno.test("every function and class refuses strangers by an error that names it", async () => {
  // Nothing is compiled, and nothing runs.
  const recorder = device.recorder as { map?: unknown };
  Object.assign(device, { run() {} });
  Object.assign(recorder, { map() {} });
  try {
    for (const name of names) await tryStrangers(name, () => {});
  } finally {
    delete (device as Partial<Device>).run;
    delete recorder.map;
  }
  assertEquals(faults, []);
});

fullOnly("what is taken runs", async () => {
  for (const name of names) {
    await tryStrangers(name, async (label) => {
      try {
        await device.sync();
      } catch (error) {
        throw new Error(label, { cause: error });
      }
    });
  }
  assertEquals(faults, []);
});

test("what waits refuses strangers as well", async () => {
  for (const stranger of STRANGERS) {
    await assertRejects(() => engine.profile(stranger as never, () => x), ShapeError, "profile");
    const { precompile } = engine;
    await assertRejects(() => precompile(stranger as never, () => x), ShapeError, "precompile");
    if (typeof stranger !== "function") {
      await assertRejects(() => engine.profile(device, stranger as never), ShapeError, "profile");
    }
  }
});
