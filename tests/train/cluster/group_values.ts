/** What ranks of the tests of groups add up and gather. */
import { Prng } from "../../../engine/prng.ts";

/** Values of a rank, of many magnitudes: their sums depend on the order. */
export function rowOf(rank: number, length: number): Float32Array {
  const prng = new Prng(11, rank, length);
  return Float32Array.from({ length }, () => prng.normal() * 2 ** (prng.integer(20) - 10));
}

/** A rank's text: of another length on each, empty on rank 0. */
export function textOf(rank: number): string {
  return "ü2".repeat(rank * 1000);
}

/** SHA-256 of values or of a text: launchers tear long lines of output apart. */
export async function digest(content: Float32Array | string): Promise<string> {
  const bytes = typeof content === "string"
    ? new TextEncoder().encode(content)
    : new Float32Array(content);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
