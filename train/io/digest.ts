/**
 * Names made of content.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** SHA-256 of values that JSON can hold, in hexadecimal digits. */
export function digestOf(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}
