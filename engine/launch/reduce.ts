/**
 * How reductions along an axis are cut into passes and launched.
 *
 * @module
 */
import type { Kernel, KernelInsight } from "../kernel.ts";
import { type Shape, sizeOf } from "../shape.ts";
import type { Constants } from "../template.ts";
import type { Tensor } from "../tensor.ts";

const WORKGROUP = 64;
/** Blocks that keep an adapter busy, and invocations side by side that do. */
const ENOUGH = { blocks: 512, invocations: 16384 };
/** Invocations that keep a software adapter busy: groups of eight, equally many for each core. */
const ENOUGH_STREAMS = 128;
/** Elements in sequence, a page of them or at least half, that a processor fetches ahead. */
const STREAM = 1024;
/** Vectors side by side of an invocation that walks down columns. */
const MOST_COLUMNS = 48;
/** Slices that neighbours side by side reduce in one pass. */
const ONCE = 128;
/** Elements that a processor sums sooner than a second pass is launched. */
const SMALL = 4096;

/** A dense tensor seen as `[outer, reduce, inner]`. */
export interface Extent {
  /** Product of the axes before. */
  readonly outer: number;
  /** The reduced axis. */
  readonly reduce: number;
  /** Product of the axes after. */
  readonly inner: number;
}

/** How one pass cuts the reduced axis. */
export interface Pass extends Extent {
  /** Elements per load. */
  readonly width: number;
  /** Loads lie along the reduced axis. */
  readonly row: boolean;
  /** Invocations that share a block of a row. */
  readonly lanes: number;
  /** Loads side by side of one invocation, where they do not lie along the reduced axis. */
  readonly columns: number;
  /** Neighbouring invocations take different blocks, not neighbouring columns. */
  readonly streams: boolean;
  /** Blocks that one invocation does one after the other. */
  readonly repeat: number;
  /** Units (elements, or vec4 of a row) per block. */
  readonly block: number;
  /** Blocks of the reduced axis. */
  readonly parts: number;
}

/**
 * Runs of reduced axes, innermost first, each with the axes around it as they are by then; axes of
 * size 1 join any run.
 */
export function reducedRuns(shape: Shape, reduced: readonly boolean[]): Extent[] {
  const left = [...shape];
  const runs: Extent[] = [];
  const take = (first: number, end: number) => {
    runs.push({
      outer: sizeOf(left.slice(0, first)),
      reduce: sizeOf(left.slice(first, end)),
      inner: sizeOf(left.slice(end)),
    });
    left.fill(1, first, end);
  };
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (!reduced[axis] || shape[axis] === 1) continue;
    let first = axis;
    while (first > 0 && (reduced[first - 1] || shape[first - 1] === 1)) first--;
    take(first, axis + 1);
    axis = first;
  }
  if (runs.length === 0) take(0, 0);
  return runs;
}

/** Most elements of a tensor that a window may hold. */
export const windowLimit = ({ device, itemSize }: Tensor): number =>
  (device.bindingLimit - device.offsetAlignment) / itemSize;

/**
 * A window that starts at an aligned offset, and how many elements before `start` that is.
 */
export function alignedWindow(tensor: Tensor, start: number, count: number) {
  const { device, itemSize, offset } = tensor;
  const before = (offset + start) % (device.offsetAlignment / itemSize);
  return { operand: { tensor, start: start - before, count: count + before }, before };
}

/**
 * Rounds of the kernels of {@link runPass}, which take `step` units of a row at a time and then one
 * by one.
 */
export const passRounds =
  (step: number): KernelInsight["rounds"] =>
  ({ constants: { ROW, LANES, UNROLL }, params: { reduce, block, repeat } }) => {
    const units = Math.min(reduce, block);
    const taken = (length: number, step: number) => Math.ceil(length / step) + step + 1;
    return ROW
      ? repeat * (taken(units / Number(LANES), step) + 1) + 1
      : taken(units, Number(UNROLL));
  };

/**
 * Runs a kernel over the blocks of a pass, in pieces where a binding would exceed the adapter's
 * limit.
 *
 * @param kernel has the parameters and constants of kernels/reduce.wgsl
 * @param outputs `[outer, parts, inner]`, with offset parameters `offset_out_0`, `offset_out_1`, …
 */
export function runPass(
  kernel: Kernel,
  input: Tensor,
  outputs: readonly Tensor[],
  pass: Pass,
  scale: number,
  constants: Constants,
): void {
  const { device } = input;
  const { row, width, lanes, columns, block, inner, parts, streams, repeat } = pass;
  const unit = row ? width : inner;
  const units = pass.reduce / (row ? width : 1);
  const groups = row ? 1 : inner / width / columns;
  // Neighbours that take different rows share no memory: as few as the adapter runs side by side.
  const workgroup = streams ? 8 : WORKGROUP;
  /** Outer indices `o0 ..`, blocks `b0 ..`; part of the blocks only for a single outer index. */
  const launch = (o0: number, outer: number, b0: number, blocks: number): void => {
    const reduce = blocks === parts ? units : Math.min(blocks * block, units - b0 * block);
    const read = outer * reduce * unit;
    const written = outer * blocks * inner;
    const fits = read <= windowLimit(input) &&
      outputs.every((output) => written <= windowLimit(output));
    if (!fits && (outer > 1 || blocks > 1)) {
      if (outer > 1) {
        const half = outer >> 1;
        launch(o0, half, 0, parts);
        launch(o0 + half, outer - half, 0, parts);
      } else {
        const half = blocks >> 1;
        launch(o0, 1, b0, half);
        launch(o0, 1, b0 + half, blocks - half);
      }
      return;
    }
    const from = alignedWindow(input, (o0 * units + b0 * block) * unit, read);
    const to = outputs.map((output) => alignedWindow(output, (o0 * parts + b0) * inner, written));
    const offsets = to.map(({ before }, i) => [`offset_out_${i}`, before / (row ? 1 : width)]);
    const count = outer * blocks * groups;
    device.run(
      kernel,
      {
        WG: workgroup,
        W: width,
        E: input.dtype,
        HALF: input.dtype === "f16",
        LANES: lanes,
        SUBGROUPS: device.info.subgroupSize >= lanes,
        ROW: row,
        COLS: columns,
        STREAMS: streams,
        UNROLL: Math.max(2, Math.ceil(8 / columns)),
        ...constants,
      },
      [from.operand, ...to.map(({ operand }) => operand)],
      {
        count,
        parts: blocks,
        groups,
        reduce,
        block,
        repeat,
        offset_in: from.before / width,
        ...Object.fromEntries(offsets),
        scale,
      },
      Math.ceil(Math.ceil(count / repeat) * (row ? lanes : 1) / workgroup),
    );
  };
  launch(0, pass.outer, 0, parts);
}

/** Largest divisor of `count` up to `most`. */
function divisorUpTo(count: number, most: number): number {
  let divisor = Math.min(count, most);
  while (count % divisor !== 0) divisor--;
  return divisor;
}

/**
 * Chooses the cut of the next pass from the sizes and the kind of adapter; undefined when not even
 * two slices fit one binding.
 *
 * @param out what the last pass writes
 * @param whole whether few elements may be one block, which partials of long sums may not: fewer
 * roundings
 */
export function choosePass(
  input: Tensor,
  out: Tensor,
  { outer, reduce, inner }: Extent,
  whole = false,
): Pass | undefined {
  const { software } = input.device.info;
  const limit = windowLimit(input);
  const row = inner === 1;
  const along = row ? reduce : inner;
  const aligned = input.offset % 4 === 0 && (row || out.offset % 4 === 0);
  const width = along % 4 === 0 && aligned ? 4 : 1;
  const units = row ? reduce / width : reduce;
  const cut = (block: number, rest: Partial<Pass> = {}): Pass => ({
    ...{ outer, reduce, inner, width, row, lanes: 1, columns: 1, streams: false, repeat: 1, block },
    parts: Math.ceil(units / block),
    ...rest,
  });
  if (row) {
    const most = Math.floor(limit / width);
    // A processor reads fastest what each lane has in sequence, a GPU what neighbours have side by
    // side.
    const stream = Math.min(reduce <= 2 * STREAM ? units : STREAM / width, most);
    const repeat = stream < units ? 1 : Math.ceil(STREAM / reduce);
    const invocations = Math.floor(outer * Math.ceil(units / stream) / repeat);
    if (software && stream * repeat * width * 2 >= STREAM && invocations >= ENOUGH_STREAMS) {
      return cut(stream, { streams: true, repeat });
    }
    if (units <= Math.min(32, most)) return cut(units);
    const lanes = software ? 8 : 32;
    if (software && whole && outer * reduce <= SMALL && units <= most) {
      return cut(units, { lanes });
    }
    const enough = Math.ceil(units * outer / ENOUGH.blocks / (8 * lanes)) * 8 * lanes;
    return cut(Math.min(enough, 2048, most, units), { lanes });
  }
  const most = Math.floor(limit / inner);
  if (most < Math.min(2, reduce)) return undefined;
  const across = inner / width;
  if (!software) {
    const invocations = outer * across;
    if (reduce <= most && (reduce <= 64 || invocations >= ENOUGH.invocations && reduce <= 1024)) {
      return cut(reduce);
    }
    const enough = Math.max(64, Math.ceil(reduce * invocations / ENOUGH.invocations / 64) * 64);
    return cut(Math.min(enough, 256, most, reduce));
  }
  const columns = divisorUpTo(across, MOST_COLUMNS);
  const perRow = outer * across / columns;
  const enough = Math.floor(reduce * perRow / (2 * ENOUGH_STREAMS));
  const block = Math.min(Math.max(16, enough), 256, most, reduce);
  if (
    width === 4 && columns >= Math.min(16, across) &&
    Math.ceil(reduce / block) * perRow >= ENOUGH_STREAMS
  ) {
    return cut(block, { columns, streams: true });
  }
  // Few rows, or columns that nothing divides: neighbours take neighbouring columns.
  const octets = Math.ceil(outer * across / 8);
  const shared = reduce <= ONCE ? reduce : Math.max(16, Math.ceil(reduce * octets / ONCE));
  return cut(Math.min(shared, 256, most, reduce));
}
