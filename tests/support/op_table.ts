/**
 * README's table of ops, from the registry. `deno run -A tests/engine/op_table.ts` writes it anew.
 *
 * @module
 */
import { type Op, registry } from "../../engine/op.ts";
import { markdownTable, README, withTable } from "./readme.ts";

const HEAD = ["op", "f32", "f16", "u32, i32", "gradient"];

/** What integer operands are to an op, as its samples show. */
function integers(op: Op<unknown>): string {
  if (op.dtypes === "same") return "yes";
  const seen = { integer: new Set<number>(), float: new Set<number>() };
  for (const { inputs, integer } of op.samples()) {
    inputs.forEach((_, i) => seen[integer?.[i] === undefined ? "float" : "integer"].add(i));
  }
  if (seen.integer.size === 0) return "no";
  const either = [...seen.integer].some((i) => seen.float.has(i));
  return either ? "yes" : "beside";
}

/** Whether all of an op's operands are integers in every sample. */
function isIndexOnly(op: Op<unknown>): boolean {
  return op.samples().every(({ inputs, integer }) =>
    inputs.every((_, i) => integer?.[i] !== undefined)
  );
}

/** The table, formatted as `deno fmt` leaves it. */
export function opTable(ops: Iterable<Op<unknown>>): string {
  const rows = [...ops].sort((a, b) => a.name < b.name ? -1 : 1).map((op) => {
    const floats = isIndexOnly(op) ? ["no", "no"] : ["yes", op.half ? "yes" : "through f32"];
    return [op.name, ...floats, integers(op), op.backward ? "yes" : "no"];
  });
  return markdownTable(HEAD, rows);
}

/** All ops there are. */
export async function allOps(): Promise<Op<unknown>[]> {
  const folder = new URL("../../engine/ops/", import.meta.url);
  for (const { name } of Deno.readDirSync(folder)) {
    if (name.endsWith(".ts")) await import(new URL(name, folder).href);
  }
  return [...registry().values()];
}

if (import.meta.main) {
  const table = opTable(await allOps());
  Deno.writeTextFileSync(README, withTable(Deno.readTextFileSync(README), "ops", table));
}
