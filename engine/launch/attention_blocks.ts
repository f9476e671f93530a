/**
 * Attention of many tokens in blocks of queries by keys: parts of operands, and which blocks there
 * are.
 *
 * @module
 */
import type { Tensor } from "../tensor.ts";
import { heads4, type Operand, type Range, sharedHeads } from "./attention_pass.ts";
import { MOST_TOKENS, type Problem } from "./attention_variants.ts";
import { converted } from "./copy.ts";

/** What scores are changed by. */
export interface Beside {
  /** u32 or f32 per key, or per query and key: where it is 0 the key is hidden. */
  readonly mask?: Operand;
  /** f32 or f16 per query and key, added to the scaled scores. */
  readonly bias?: Operand;
  /** f32 or f16 per query, a factor of the bias. */
  readonly gate?: Operand;
}

/** `count` tokens of an operand, from `first` on. */
export function tokensOf(operand: Operand, [first, tokens]: Range): Operand {
  return { ...operand, start: operand.start + first * operand.token, tokens };
}

/** Queries and keys of the operands that scores are changed by. */
export function besideWithin({ mask, bias, gate }: Beside, queries: Range, keys: Range): Beside {
  const part = (it: Operand) =>
    it.key === undefined ? tokensOf(it, keys) : pairsOf(it, queries, keys);
  return {
    ...mask && { mask: part(mask) },
    ...bias && { bias: part(bias) },
    ...gate && { gate: tokensOf(gate, queries) },
  };
}

/** Some queries and keys of an operand per query and key; what repeats stays one. */
export function pairsOf(operand: Operand, queries: Range, keys: Range): Operand {
  const { start, token, key = 0 } = operand;
  return {
    ...operand,
    start: start + queries[0] * token + keys[0] * key,
    tokens: token === 0 ? 1 : queries[1],
    keys: key === 0 ? 1 : keys[1],
  };
}

/** An operand as a view [B, H, T, width]. */
export function viewOf({ batch: batches, heads }: Problem, operand: Operand): Tensor {
  const { tensor, start, batch, head, token, tokens, width, shared = 1 } = operand;
  const shape = [batches, heads / shared, tokens, width];
  return tensor.view(shape, [batch, head, token, 1], tensor.offset + start);
}

/** An f32 operand: itself, or a dense copy. */
export function widened(problem: Problem, operand: Operand): Operand {
  if (operand.tensor.dtype === "f32") return operand;
  const copy = heads4(converted(viewOf(problem, operand), "f32"));
  return sharedHeads(copy, operand.shared ?? 1);
}

/** Queries by keys of one launch. */
export interface Block {
  readonly queries: Range;
  readonly keys: Range;
  /** Whether query i sees keys 0 to i + `shift` of the block only, or all of them. */
  readonly causal: boolean;
  readonly shift: number;
  /** Whether it is the first block with these queries. */
  readonly firstKeys: boolean;
  /** Whether it is the first block with these keys. */
  readonly firstQueries: boolean;
}

/** The most tokens of one launch: what loops and bindings allow. */
export function blockSize(operands: readonly Operand[], { mask, bias }: Beside): number {
  const { device } = operands[0].tensor;
  const rows = [mask, bias].filter((it) => it?.key !== undefined) as Operand[];
  const widest = Math.max(
    ...[...operands, ...rows].map(({ token, tensor }) => token * tensor.itemSize),
  );
  const bindable = Math.floor((device.bindingLimit - device.offsetAlignment) / widest / 8) * 8;
  return Math.max(8, Math.min(MOST_TOKENS, bindable));
}

/**
 * Cuts a problem into blocks of `size` tokens; those that `causal` hides altogether are left out,
 * but for the first of each query.
 */
export function blocksOf({ tq, tk, causal, shift }: Problem, size: number): Block[] {
  const cut = (count: number) =>
    Array.from({ length: Math.ceil(count / size) }, (_, i): Range => {
      return [i * size, Math.min(size, count - i * size)];
    });
  const met = new Set<number>();
  return cut(tq).flatMap((queries) => {
    // Keys that the first and the last of these queries see.
    const [fewest, most] = [queries[0], queries[0] + queries[1] - 1].map((i) => i + shift + 1);
    return cut(tk).filter(([first]) => !causal || first === 0 || first < most).map((keys) => {
      const partly = causal && keys[0] + keys[1] > fewest;
      const firstQueries = !met.has(keys[0]);
      met.add(keys[0]);
      return {
        queries,
        keys,
        causal: partly,
        shift: partly ? shift + queries[0] - keys[0] : 0,
        firstKeys: keys[0] === 0,
        firstQueries,
      };
    });
  });
}
