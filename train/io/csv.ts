/**
 * Tables with a header line, as people keep them beside their sounds.
 *
 * @module
 */
import { parse } from "../deps/csv.ts";
import { NoDataError } from "../errors.ts";
import { readRegularText } from "./regular_file.ts";

/**
 * The rows of a comma-separated file by the names of its header; a byte order mark is passed over.
 *
 * @param what begins the message where it cannot be read
 * @throws {NoDataError} if it cannot be read or is no such table.
 */
export function readCsv(file: string, what = ""): Partial<Record<string, string>>[] {
  try {
    return parse(readRegularText(file).replace(/^\ufeff/, ""), { skipFirstRow: true });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new NoDataError(`${what}${file} cannot be read: ${reason}`);
  }
}
