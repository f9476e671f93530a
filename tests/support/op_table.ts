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

/** The table, formatted as `deno fmt` leaves it. */
export function opTable(ops: readonly SampledOp[]): string {
  const rows = [...ops].sort((a, b) => a.op.name < b.op.name ? -1 : 1).map((sampled) => {
    const { op } = sampled;
    const floats = isIndexOnly(sampled) ? ["no", "no"] : ["yes", op.half ? "yes" : "through f32"];
    return [op.name, ...floats, integers(sampled), op.backward ? "yes" : "no"];
  });
  return markdownTable(HEAD, rows);
}
