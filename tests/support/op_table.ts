/**
 * The table of ops in engine/README.md, from the registry; `deno task docs` writes it.
 *
 * @module
 */
import { markdownTable } from "./markdown.ts";
import type { SampledOp } from "./samples.ts";

const HEAD = ["op", "f32", "f16", "u32, i32", "gradient"];

/** What integer operands are to an op, as its samples show. */
function integers({ op, samples }: SampledOp): string {
  if (op.dtypes === "same") return "yes";
  const seen = { integer: new Set<number>(), float: new Set<number>() };
  for (const { inputs, integer } of samples) {
    inputs.forEach((_, i) => seen[integer?.[i] === undefined ? "float" : "integer"].add(i));
  }
  if (seen.integer.size === 0) return "no";
  const either = [...seen.integer].some((i) => seen.float.has(i));
  return either ? "yes" : "beside";
}

/** Whether all of an op's operands are integers in every sample. */
function isIndexOnly({ samples }: SampledOp): boolean {
  return samples.every(({ inputs, integer }) => inputs.every((_, i) => integer?.[i] !== undefined));
}

type Row = readonly [string, string, string, string, string];

function rowOf(sampled: SampledOp): Row {
  const { op } = sampled;
  const floats = isIndexOnly(sampled) ? ["no", "no"] : ["yes", op.half ? "yes" : "through f32"];
  return [op.name, floats[0], floats[1], integers(sampled), op.backward ? "yes" : "no"];
}

/** What a function takes that is made of ops: what all of them take, or of that floats alone. */
function composedRow({ op, of, floats }: SampledOp, rows: ReadonlyMap<string, Row>): Row {
  const least = (column: number, values: readonly string[]) =>
    values[Math.max(...of!.map((part) => values.indexOf(rows.get(part)![column])))];
  return [
    op.name,
    least(1, ["yes", "no"]),
    least(2, ["yes", "through f32", "no"]),
    floats ? "no" : least(3, ["yes", "beside", "no"]),
    least(4, ["yes", "no"]),
  ];
}

/** The table of ops and of functions that are made of them, formatted as `deno fmt` leaves it. */
export function opTable(ops: readonly SampledOp[], composed: readonly SampledOp[] = []): string {
  const own = new Map(ops.map((it) => [it.op.name, rowOf(it)]));
  const rows = [...own.values(), ...composed.map((it) => composedRow(it, own))];
  return markdownTable(HEAD, rows.sort(([a], [b]) => a < b ? -1 : 1));
}
