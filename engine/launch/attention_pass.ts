/**
 * One pass of an attention kernel: how operands are addressed, and how a launch is split where a
 * binding would exceed the adapter's limit.
 *
 * @module
 */
import type { Tensor } from "../tensor.ts";
import type { Device, TensorWindow } from "../device.ts";
import { ROW_BYTES } from "../images.ts";
import type { Kernel } from "../kernel.ts";
import type { Params } from "../recorder.ts";
import type { Constants } from "../template.ts";
import type { AttentionVariant, PassKind, Problem } from "./attention_variants.ts";

/** A tensor addressed by batch, head and token; strides in elements. */
export interface Operand {
  /** Memory; f32 or f16. */
  readonly tensor: Tensor;
  /** First element, relative to the tensor. */
  readonly start: number;
  /** Elements between batches. */
  readonly batch: number;
  /** Elements between heads. */
  readonly head: number;
  /** Elements between tokens. */
  readonly token: number;
  /** Number of tokens. */
  readonly tokens: number;
  /** Elements per token: the head size, or less for statistics. */
  readonly width: number;
  /** Elements between keys, of what lies per query and key. */
  readonly key?: number;
  /** Keys of that. */
  readonly keys?: number;
  /** Query heads that share a head; default 1. */
  readonly shared?: number;
  /** Batches of it, which repeat where the problem has more; default as many. */
  readonly period?: number;
}

/** Walks a [B, H, T, d] tensor whose last axis has stride 1. */
export function heads4(tensor: Tensor): Operand {
  const [batch, head, token] = tensor.strides;
  const [, , tokens, width] = tensor.shape;
  return { tensor, start: 0, batch, head, token, tokens, width };
}

/** The same where `shared` query heads read each head of the tensor. */
export function sharedHeads(operand: Operand, shared: number): Operand {
  return shared === 1 ? operand : { ...operand, shared };
}

/** Walks heads of `width` elements in a dense [B, T, N] tensor, `first` heads from its start. */
export function headsOf(tensor: Tensor, width: number, first = 0): Operand {
  const [, tokens, all] = tensor.shape;
  return {
    tensor,
    start: first * width,
    batch: tokens * all,
    head: width,
    token: all,
    tokens,
    width,
  };
}

/** Strides, those of axes of size 1 being 0. */
const steps = ({ shape, strides }: Tensor): number[] =>
  shape.map((size, i) => size === 1 ? 0 : strides[i]);

/**
 * Walks what lies per query and key: a tensor that broadcasts to [B, H, Tq, Tk], whose last axis
 * has stride 1, or has fewer batches than B, which repeat.
 */
export function perPair(tensor: Tensor): Operand {
  const [batch, head, token, key] = steps(tensor);
  const [batches, , tokens, keys] = tensor.shape;
  const period = batches > 1 ? { period: batches } : {};
  return { tensor, start: 0, batch, head, token, tokens, width: 1, key, keys, ...period };
}

/** Walks a dense [B, T] tensor that all heads share. */
export function perToken(tensor: Tensor): Operand {
  const [, tokens] = tensor.shape;
  return { tensor, start: 0, batch: tokens, head: 0, token: 1, tokens, width: 1 };
}

/** Walks a tensor that broadcasts to [B, H, T]. */
export function perRow(tensor: Tensor): Operand {
  const [batch, head, token] = steps(tensor);
  return { tensor, start: 0, batch, head, token, tokens: tensor.shape[2], width: 1 };
}

/** Storage buffers that WebGPU grants to every kernel. */
export const MOST_BUFFERS = 8;

type Operands = Readonly<Record<string, Operand>>;

/** One of the computations. */
export interface Pass {
  readonly kind: PassKind;
  /** Only read, `d` elements per token. */
  readonly reads: Operands;
  /** Written, `d` elements per token. */
  readonly writes: Operands;
  /** Written and read back by other passes: scalars per token, or f32 where the rest may be f16. */
  readonly statistics: Readonly<Record<string, { readonly operand: Operand; written: boolean }>>;
  /**
   * Whether the statistic `pair` has the gate of the bias, which the gradient of the gate takes the
   * place of where it is written.
   */
  readonly gated?: boolean;
}

/** Elements from the first to behind the last that the operand's heads touch. */
export function extent(operand: Operand, batches: number, heads: number): number {
  const { shared = 1, key = 0, keys = 1, period = batches } = operand;
  return (Math.min(batches, period) - 1) * operand.batch +
    (Math.ceil(heads / shared) - 1) * operand.head +
    (operand.tokens - 1) * operand.token + (keys - 1) * key + operand.width;
}

/** Whether every row of `d` elements can be read by vec4, however batches and heads are split. */
export const inVectors = ({ d }: Problem, operands: readonly Operand[]): boolean =>
  d % 4 === 0 &&
  operands.every(({ tensor, start, batch, head, token, width }) =>
    width !== d || [tensor.offset + start, batch, head, token].every((x) => x % 4 === 0)
  );

/** Batches, heads or tokens in a row. */
export type Range = readonly [first: number, count: number];

/** Two ranges, the first of `size`. */
const cutAt = ([first, count]: Range, size: number): [Range, Range] => [
  [first, size],
  [first + size, count - size],
];

/** Two ranges, the first of a multiple of `step`. */
const halves = (range: Range, step = 1): [Range, Range] =>
  cutAt(range, Math.ceil(range[1] / step / 2) * step);

/** Part of a buffer that is bound, in elements from the beginning of the buffer. */
interface Window {
  /** "read" or "written", by operands that may share it, or the name of a statistic. */
  readonly use: string;
  /** Its first operand. */
  readonly name: string;
  readonly tensor: Tensor;
  first: number;
  end: number;
}

/** Parameters of an operand, and what its memory is called. */
interface Fields {
  readonly offset: string;
  readonly batch: string;
  readonly head: string;
  readonly token: string;
  readonly key: string;
  readonly data: string;
}

const knownFields = new Map<string, Fields>();

/** Names of what belongs to an operand, put together once. */
function fieldsOf(name: string): Fields {
  let fields = knownFields.get(name);
  if (!fields) {
    knownFields.set(
      name,
      fields = {
        offset: `offset_${name}`,
        batch: `batch_${name}`,
        head: `head_${name}`,
        token: `token_${name}`,
        key: `key_${name}`,
        data: `${name}_data`,
      },
    );
  }
  return fields;
}

/** Operands of the backward pass with everything that there is. */
const MOST_OPERANDS = 16;
/** Names of constants by place, put together once. */
const CONSTANTS = Array.from({ length: MOST_OPERANDS }, (_, i) => ({
  NAME: `NAME${i}`,
  BATCH: `BATCH${i}`,
  HEAD: `HEAD${i}`,
  DATA: `DATA${i}`,
  BUFFER: `BUFFER${i}`,
  ACCESS: `ACCESS${i}`,
  TYPE: `TYPE${i}`,
}));

/** Products of queries, keys and channels from which on copies are a small part of the time. */
const WORTH_COPYING = 2 ** 22;

/**
 * How windows that are only read are copied into textures, a token per row; undefined where they
 * cannot be.
 */
function imagesOf(
  { heads, tq, tk, d }: Problem,
  reads: Operands,
  batches: Range,
  windowOf: Readonly<Record<string, Window>>,
): Map<Window, TensorWindow> | undefined {
  const { device } = Object.values(reads)[0].tensor;
  if (!device.images.usable) return undefined;
  if (batches[1] * heads * tq * tk * d < WORTH_COPYING) return undefined;
  const images = new Map<Window, TensorWindow>();
  for (const [name, operand] of Object.entries(reads)) {
    const { tensor, start, batch, head, token, tokens, width, shared = 1 } = operand;
    const columns = start % token + (Math.ceil(heads / shared) - 1) * head + width;
    const row = Math.floor((start + batches[0] * batch) / token);
    const height = (batches[1] - 1) * (batch / token) + tokens;
    const bytesPerRow = token * tensor.itemSize;
    const texels = token / 4;
    const image = { width: texels, height, bytesPerRow };
    const first = row * token;
    const known = images.get(windowOf[name]);
    const fits = tensor.dtype === "f32" && columns <= token && batch % token === 0 &&
      bytesPerRow % ROW_BYTES === 0 && device.images.fits(image) &&
      first + height * token <= tensor.size &&
      (!known || known.tensor === tensor && known.start === first &&
          known.image!.height === height && known.image!.bytesPerRow === bytesPerRow);
    if (!fits) return undefined;
    images.set(windowOf[name], { tensor, start: first, count: height * token, image });
  }
  return images.size <= device.gpu.limits.maxStorageTexturesPerShaderStage ? images : undefined;
}

/** A launch but for the memory that its windows are in. */
interface Known {
  /** What it depends on. */
  readonly key: Key;
  readonly kernel: Kernel;
  readonly constants: Constants;
  readonly params: Params;
  readonly groups: readonly [number, number, number];
  /** Each in the memory of operand `of`, in elements from the beginning of the buffer. */
  readonly windows: readonly {
    readonly of: number;
    readonly first: number;
    readonly count: number;
  }[];
}

const knownLaunches = new WeakMap<Device, WeakMap<AttentionVariant, Map<number, Known>>>();
/** Launches that are kept of each variant, one of each hash. */
const MOST_LAUNCHES = 1024;

/** Small launches of a variant by the hash of their {@link keyOf}: they come by the thousand. */
function launchesOf(device: Device, variant: AttentionVariant): Map<number, Known> {
  let byVariant = knownLaunches.get(device);
  if (!byVariant) knownLaunches.set(device, byVariant = new WeakMap());
  let launches = byVariant.get(variant);
  if (!launches) byVariant.set(variant, launches = new Map());
  return launches;
}

type Field = string | number | boolean | undefined;
type Key = readonly Field[];

/** Everything that a launch depends on but for its memory. */
function keyOf(
  { tq, tk, d, scale, causal, shift, shared, scored }: Problem,
  { kind, statistics, gated }: Pass,
  all: readonly (readonly [name: string, operand: Operand])[],
  batches: Range,
  heads: Range,
): Key {
  const key: Field[] = [kind, tq, tk, d, scale, causal, shift, shared, scored, gated];
  key.push(batches[0], batches[1], heads[0], heads[1]);
  for (let i = 0; i < all.length; i++) {
    const [name, operand] = all[i];
    const { tensor, start, batch, head, token, tokens, width } = operand;
    let same = 0;
    while (all[same][1].tensor.storage !== tensor.storage) same++;
    key.push(name, statistics[name]?.written, same, tensor.dtype, tensor.offset + start, batch);
    key.push(head, token, tokens, width, operand.key, operand.keys, operand.shared, operand.period);
  }
  return key;
}

/** A number by which keys are found; texts and flags count for nothing. */
function hashOf(key: Key): number {
  let hash = key.length;
  for (let i = 0; i < key.length; i++) {
    const field = key[i];
    if (typeof field === "number") hash = Math.imul(hash ^ field, 0x01000193);
  }
  return hash;
}

function isSame(a: Key, b: Key): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/**
 * Runs one pass over all batches and heads, split where they are too many for a launch or a window
 * would exceed the binding limit.
 */
export function launch(
  variant: AttentionVariant,
  problem: Problem,
  pass: Pass,
  batches: Range = [0, problem.batch],
  heads: Range = [0, problem.heads],
): void {
  const { reads, writes, statistics } = pass;
  const all: (readonly [name: string, operand: Operand])[] = [];
  for (const name in reads) all.push([name, reads[name]]);
  for (const name in writes) all.push([name, writes[name]]);
  for (const name in statistics) all.push([name, statistics[name].operand]);
  const { d } = problem;
  const { device, dtype } = all[0][1].tensor;
  const small = batches[1] * heads[1] * problem.tq * problem.tk * d < WORTH_COPYING;
  const launches = small ? launchesOf(device, variant) : undefined;
  const key = launches && keyOf(problem, pass, all, batches, heads);
  const hash = key && hashOf(key);
  const known = launches?.get(hash!);
  if (known && isSame(known.key, key!)) {
    const operands = known.windows.map(({ of, first, count }): TensorWindow => {
      const { tensor } = all[of][1];
      return { tensor, start: first - tensor.offset, count };
    });
    device.run(known.kernel, known.constants, operands, known.params, known.groups);
    return;
  }
  const launchPart = (b: Range, h: Range) => launch(variant, problem, pass, b, h);
  for (const [, { period = Infinity }] of all) {
    // What repeats begins with its first batch, or does not end within.
    const rest = period - batches[0] % period;
    if (rest === period || rest >= batches[1]) continue;
    cutAt(batches, rest).forEach((part) => launchPart(part, heads));
    return;
  }
  const firstOf = ({ tensor, start, batch, head, shared = 1, period = Infinity }: Operand) =>
    tensor.offset + start + batches[0] % period * batch + Math.floor(heads[0] / shared) * head;
  const windows: Window[] = [];
  const windowOf: Record<string, Window> = {};
  for (const [name, operand] of all) {
    const { tensor } = operand;
    const at = firstOf(operand);
    const end = at + extent(operand, batches[1], heads[1]);
    const first = at - at % (device.offsetAlignment / tensor.itemSize);
    const use = name in reads ? "read" : name in writes ? "written" : name;
    // Parts of a fused tensor: WebGPU lets no two bindings overlap where one is for writing, and a
    // plan binds all of them so.
    let window = windows.find((it) =>
      it.use === use && it.tensor.storage === tensor.storage &&
      (first < it.end && it.first < end ||
        (Math.max(it.end, end) - Math.min(it.first, first)) * tensor.itemSize <=
          device.bindingLimit)
    );
    if (window) {
      window.first = Math.min(window.first, first);
      window.end = Math.max(window.end, end);
    } else {
      windows.push(window = { use, name, tensor, first, end });
    }
    windowOf[name] = window;
  }
  const most = device.workgroupLimit;
  if (
    batches[1] > most || heads[1] > most ||
    windows.some((w) => (w.end - w.first) * w.tensor.itemSize > device.bindingLimit)
  ) {
    if (batches[1] > 1) halves(batches).forEach((half) => launchPart(half, heads));
    else if (heads[1] > 1) {
      // Heads that share keys stay together until they are all that is left.
      const step = heads[1] > problem.shared ? problem.shared : 1;
      halves(heads, step).forEach((half) => launchPart(batches, half));
    } else {
      throw new RangeError(
        `attention: ${problem.tk} tokens of a head exceed the adapter's binding limit`,
      );
    }
    return;
  }

  const vector = inVectors(problem, all.map(([, operand]) => operand));
  const { tq, tk, scale, causal, shift, scored } = problem;
  const params: Record<string, number> = { tq, tk, scale };
  const offset = causal && shift !== 0;
  if (offset) params.shift = shift;
  const names: Record<string, string> = {};
  windows.forEach(({ use, name, tensor }, i) => {
    const statistic = statistics[name];
    const written = statistic?.written ?? use === "written";
    const { BUFFER, ACCESS, TYPE } = CONSTANTS[i];
    names[BUFFER] = fieldsOf(name).data;
    names[ACCESS] = written ? "read_write" : "read";
    names[TYPE] = !statistic
      ? "Element"
      : vector && statistic.operand.width === d
      ? `vec4<${tensor.dtype}>`
      : tensor.dtype;
  });
  all.forEach(([name, operand], i) => {
    const step = vector && operand.width === d ? 4 : 1;
    const field = fieldsOf(name);
    params[field.offset] = (firstOf(operand) - windowOf[name].first) / step;
    params[field.batch] = operand.batch / step;
    params[field.head] = operand.head / step;
    params[field.token] = operand.token / step;
    if (operand.key !== undefined || name === "dbias") params[field.key] = operand.key ?? 0;
    const { NAME, BATCH, HEAD, DATA } = CONSTANTS[i];
    const { period = Infinity } = operand;
    names[NAME] = name;
    names[BATCH] = period < batches[1] ? `(group.z % ${period}u)` : "group.z";
    names[HEAD] = operand.shared ? `(group.y / ${operand.shared}u)` : "group.y";
    names[DATA] = fieldsOf(windowOf[name].name).data;
  });
  const chosen = variant.kernelOf(device, pass.kind, problem, vector);
  const images = chosen.images && vector ? imagesOf(problem, reads, batches, windowOf) : undefined;
  if (images) {
    for (const [name, { start, batch, head, token, shared = 1 }] of Object.entries(reads)) {
      const field = fieldsOf(name);
      const column = start % token + Math.floor(heads[0] / shared) * head;
      params[field.offset] = column / 4;
      params[field.batch] = batch / token;
    }
  }
  const tokens = pass.kind === "backwardKv" || pass.kind === "biasKv" ? tk : tq;
  const total = "sum" in statistics ? "sum" : "dq";
  const perPairMask = statistics.mask?.operand.key !== undefined;
  const constants: Constants = Object.freeze({
    D: d,
    D4: Math.ceil(d / 4),
    VEC: vector,
    E: dtype,
    CAUSAL: causal,
    OFFSET: offset,
    MASK: "mask" in statistics && !perPairMask,
    PAIR_MASK: perPairMask,
    BIAS: "bias" in statistics,
    GATE: "gate" in statistics || pass.gated === true,
    DBIAS: "dbias" in statistics,
    PAIR: "pair" in statistics,
    DGATE: pass.gated === true && statistics.pair.written,
    SCORED: scored,
    BLIND: scored || offset || "mask" in statistics,
    READS: Object.keys(reads).length,
    WIDE: Object.keys(reads).length + Object.keys(writes).length,
    OPERANDS: all.length,
    BUFFERS: windows.length,
    IMAGES: images?.size ?? 0,
    SUMS: total === "sum",
    TOTAL: total,
    TOTAL_DATA: windowOf[total] ? `${windowOf[total].name}_data` : "",
    ...names,
    ...chosen.constants,
  });
  const groups = [Math.ceil(tokens / chosen.tokens), heads[1], batches[1]] as const;
  const { kernel } = chosen;
  if (launches) {
    const found = windows.map(({ name, first, end }) => {
      const of = all.findIndex(([it]) => it === name);
      return { of, first, count: end - first };
    });
    if (launches.size === MOST_LAUNCHES) launches.clear();
    launches.set(hash!, { key: key!, kernel, constants, params, groups, windows: found });
  }
  const operands = windows.map((window) => {
    const { tensor, first, end } = window;
    return images?.get(window) ?? { tensor, start: first - tensor.offset, count: end - first };
  });
  device.run(kernel, constants, operands, params, groups);
}
