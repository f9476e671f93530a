/**
 * Joins the elementwise launches of a plan: where a result is read by one launch alone, its maps
 * are computed there, and it needs no memory. Each map keeps the bits that it has alone
 * (launch/elementwise.ts).
 *
 * @module
 */
import {
  isVector,
  type MapLaunch,
  type MapOperand,
  type MapStep,
  type MapValue,
} from "./launch/elementwise.ts";
import type { PoolBuffer } from "./memory.ts";
import { collapseAxes, denseStrides, isDense, sameShape } from "./shape.ts";

/** Storage buffers that WebGPU grants to every kernel. */
const MOST_BUFFERS = 8;
/** Parameters in a block of 256 bytes. */
const MOST_PARAMETERS = 64;
/** Maps in a launch: compilers take longer than in proportion to the text. */
const MOST_STEPS = 16;

/** What one event of a plan does, in order with the others. */
export interface Work {
  /** Present for elementwise launches. */
  readonly map?: MapLaunch;
  /** Events are joined only if they are done under the same condition. */
  readonly when?: object;
  /** Memory that it reads or writes. */
  readonly touches: readonly { readonly buffer: PoolBuffer; readonly writes: boolean }[];
}

/**
 * @param events all that the plan does
 * @param isPassing whether memory belongs to the plan alone and nobody asks for it afterwards
 * @param fits whether a launch can be dispatched
 * @returns the launches that change, by index of the event; undefined for one that is left out
 */
export function fuse(
  events: readonly Work[],
  isPassing: (buffer: PoolBuffer) => boolean,
  fits: (launch: MapLaunch) => boolean,
): Map<number, MapLaunch | undefined> {
  const touchedBy = new Map<PoolBuffer, Set<number>>();
  const writtenBy = new Map<PoolBuffer, number[]>();
  events.forEach(({ touches }, i) => {
    for (const { buffer, writes } of touches) {
      touchedBy.set(buffer, (touchedBy.get(buffer) ?? new Set()).add(i));
      if (writes) writtenBy.set(buffer, [...writtenBy.get(buffer) ?? [], i]);
    }
  });
  const changed = new Map<number, MapLaunch | undefined>();
  /** The event that an event was joined to. */
  const joinedTo = new Map<number, number>();

  /** The event that makes `buffer` for `reader` alone, if it may happen there as well. */
  const makerOf = (buffer: PoolBuffer, reader: number, { out }: MapLaunch): number | undefined => {
    const users = touchedBy.get(buffer)!;
    const [maker, ...others] = writtenBy.get(buffer) ?? [];
    if (!isPassing(buffer) || users.size !== 2 || others.length > 0 || !(maker < reader)) {
      return undefined;
    }
    const { map, when } = events[maker];
    if (!map || map.steps[0].readOut || when !== events[reader].when) return undefined;
    let longer = 0;
    for (const source of new Set(map.loads.map((it) => it.buffer))) {
      const overwritten = writtenBy.get(source)?.some((i) => i > maker && i < reader);
      if (source === out.buffer || overwritten) return undefined;
      const last = Math.max(...touchedBy.get(source)!);
      if (isPassing(source) && last < reader) longer += source.bytes;
    }
    // The operands live longer instead of the result: in turn, or where that is no more memory.
    let apart = false;
    for (let i = maker + 1; i < reader && !apart; i++) apart = joinedTo.get(i) !== reader;
    return apart && longer > buffer.bytes ? undefined : maker;
  };

  for (let reader = events.length - 1; reader >= 0; reader--) {
    let launch = events[reader].map;
    if (!launch || joinedTo.has(reader)) continue;
    const open = launch.loads.map(({ buffer }) => buffer);
    for (let buffer; (buffer = open.pop()) !== undefined;) {
      const maker = touchedBy.get(buffer)!.has(reader) && makerOf(buffer, reader, launch);
      if (maker === undefined || maker === false) continue;
      const made = events[maker].map!;
      const joined: MapLaunch | undefined = join(launch, buffer, made);
      if (!joined || !fits(joined)) continue;
      launch = joined;
      joinedTo.set(maker, reader);
      changed.set(maker, undefined).set(reader, launch);
      touchedBy.set(buffer, new Set());
      for (const source of made.loads) {
        const users = touchedBy.get(source.buffer)!;
        users.delete(maker);
        users.add(reader);
        open.push(source.buffer);
      }
    }
  }
  return changed;
}

const isLoad = (operand: MapValue): operand is number =>
  typeof operand === "number" && operand >= 0;

/** `reader` with the maps of `maker` in place of what it loads from `buffer`. */
function join(reader: MapLaunch, buffer: PoolBuffer, maker: MapLaunch): MapLaunch | undefined {
  const [read, ...again] = reader.loads.filter((load) => load.buffer === buffer);
  if (again.some((it) => it.offset !== read.offset || !sameShape(it.strides, read.strides))) {
    return undefined;
  }
  const space = readThrough(reader, read, maker);
  if (!space) return undefined;
  const loads: MapOperand[] = [];
  const place = (load: MapOperand): number => {
    const same = loads.findIndex((it) =>
      it.buffer === load.buffer && it.offset === load.offset && it.dtype === load.dtype &&
      sameShape(it.strides, load.strides)
    );
    return same >= 0 ? same : loads.push(load) - 1;
  };
  const { length: count } = maker.steps;
  const madeAt = space.made.map(place);
  const readAt = space.read.map((load) => load.buffer === buffer ? -count : place(load));
  const steps: MapStep[] = [
    ...maker.steps.map((step) => ({
      ...step,
      operands: step.operands.map((it) => isLoad(it) ? madeAt[it] : it),
    })),
    ...reader.steps.map((step) => ({
      ...step,
      operands: step.operands.map((it) =>
        isLoad(it) ? readAt[it] : typeof it === "number" ? it - count : it
      ),
    })),
  ];
  const { shape, strides } = collapseAxes(
    space.shape,
    [...loads, space.out].map((it) => it.strides),
  );
  const joined = {
    shape,
    loads: loads.map((load, i) => ({ ...load, strides: strides[i] })),
    steps,
    out: { ...space.out, strides: strides[loads.length] },
  };
  const numbers = steps.flatMap(({ operands }) => operands.filter((it) => typeof it !== "number"));
  const parameters = 8 + 2 * steps.length + numbers.length + loads.length +
    shape.length * (2 + loads.length);
  if (
    loads.length >= MOST_BUFFERS || steps.length > MOST_STEPS || parameters > MOST_PARAMETERS
  ) return undefined;
  // Nothing that goes by vectors is to go by elements instead, but for the one load of a view.
  if (!isVector(joined)) {
    const whole = maker.loads.filter(({ strides }) => strides.some((step) => step !== 0));
    if (isVector(reader) || isVector(maker) && whole.length > 1) return undefined;
  }
  return joined;
}

/**
 * The index space of `reader`, with axes split where the memory behind `read` has several, and what
 * `maker` loads for its elements.
 */
function readThrough(
  reader: MapLaunch,
  read: MapOperand,
  maker: MapLaunch,
): { shape: number[]; read: MapOperand[]; made: MapOperand[]; out: MapOperand } | undefined {
  if (!isDense(maker.shape, maker.out.strides)) return undefined;
  const steps = denseStrides(maker.shape);
  let rest = read.offset - maker.out.offset;
  const base = steps.map((step, axis) => {
    const at = Math.floor(rest / step);
    rest -= at * step;
    return at < maker.shape[axis] ? at : NaN;
  });
  if (!base.every((at) => at >= 0)) return undefined;
  // How far the reader's axes so far go along each of the maker's.
  const reach = [...base];
  const all = [...reader.loads, reader.out];
  /** From the innermost; `along` is the maker's axis and the steps along it. */
  const axes: { size: number; strides: number[]; along?: [axis: number, step: number] }[] = [];
  for (let axis = reader.shape.length - 1; axis >= 0; axis--) {
    let size = reader.shape[axis];
    let strides = all.map((it) => it.strides[axis]);
    let step = read.strides[axis];
    while (size > 1 && maker.loads.length > 0) {
      const to = steps.findIndex((it, i) => maker.shape[i] > 1 && it <= step && step % it === 0);
      // An axis that is read again and again would be computed so.
      if (to < 0) return undefined;
      const by = step / steps[to];
      const most = maker.shape[to] / by;
      let part = size;
      if (reach[to] + by * (size - 1) >= maker.shape[to]) {
        if (reach[to] > 0 || !Number.isInteger(most) || most < 2 || size % most !== 0) {
          return undefined;
        }
        part = most;
      }
      reach[to] += by * (part - 1);
      axes.push({ size: part, strides, along: [to, by] });
      size /= part;
      step *= part;
      const times = part;
      strides = strides.map((it) => it * times);
    }
    if (size > 1 || maker.loads.length === 0) axes.push({ size, strides });
  }
  axes.reverse();
  const placed = (it: MapOperand, i: number) => ({
    ...it,
    strides: axes.map(({ strides }) => strides[i]),
  });
  return {
    shape: axes.map(({ size }) => size),
    read: reader.loads.map(placed),
    out: placed(reader.out, reader.loads.length),
    made: maker.loads.map((it) => ({
      ...it,
      offset: base.reduce((at, index, axis) => at + index * it.strides[axis], it.offset),
      strides: axes.map(({ along }) => along ? along[1] * it.strides[along[0]] : 0),
    })),
  };
}
