/**
 * Folders of a timestamp task: audio/, meta.csv with the parts, events.csv with what sounds when.
 *
 * @module
 */
import { join } from "../../deps/path.ts";
import { NoDataError } from "../../errors.ts";
import { quoted } from "../../../engine/formats/printable.ts";
import { readCsv } from "../../io/csv.ts";
import { type LabelledFolder, labelledFolder } from "../../data/labelled_folder.ts";

/** An event as a folder lists it. */
export interface NamedEvent {
  /** Its class. */
  readonly label: string;
  /** ms. */
  readonly onset: number;
  /** ms. */
  readonly offset: number;
}

/** A folder whose clips' labels are those of their events. */
export interface EventFolder extends LabelledFolder {
  /** By path of the audio file; files without events may be missing. */
  readonly events: ReadonlyMap<string, readonly NamedEvent[]>;
}

const FILE = "events.csv";
const COLUMNS = ["filename", "onset_ms", "offset_ms", "label"] as const;

/** Whether a labelled folder is one of a timestamp task. */
export function hasEvents(dir: string): boolean {
  try {
    return Deno.statSync(join(dir, FILE)).isFile;
  } catch (error) {
    // What else is wrong with it, its reader says.
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Reads `events.csv` (`filename,onset_ms,offset_ms,label`, a line per event) and `meta.csv`
 * (`filename` and `fold` or `split`, a line per file) of a folder.
 *
 * @throws {NoDataError} if a file cannot be read, lacks a column, or has no usable line.
 */
export function eventFolder(dir: string): EventFolder {
  const file = join(dir, FILE);
  const rows = readCsv(file);
  const lacking = COLUMNS.filter((name) => rows.length === 0 || !Object.hasOwn(rows[0], name));
  if (lacking.length > 0) {
    throw new NoDataError(`${file}: needs a line per event with ${COLUMNS.join(", ")}`);
  }
  const events = rows.map(({ filename = "", onset_ms = "", offset_ms = "", label = "" }, i) => {
    const [onset, offset] = [onset_ms, offset_ms].map((it) => it.trim() === "" ? NaN : Number(it));
    if (
      filename === "" || label.trim() === "" ||
      !(onset >= 0 && onset <= offset && offset < Infinity)
    ) {
      throw new NoDataError(
        `${file}: event ${i + 1} lacks a file, a label, or an onset before its offset`,
      );
    }
    return { filename, label: label.trim(), onset, offset };
  });
  const byFile = Map.groupBy(events, ({ filename }) => filename);
  const labels = new Map(
    [...byFile].map(([name, own]) => [name, [...new Set(own.map(({ label }) => label))]]),
  );
  const folder = labelledFolder(dir, labels);
  const listed = new Set(folder.clips.map(({ path }) => path));
  const named = [...byFile].map(([name, own]) =>
    [join(dir, "audio", name), own.map(({ filename: _, ...event }) => event)] as const
  );
  const unknown = [...byFile.keys()].find((name) => !listed.has(join(dir, "audio", name)));
  if (unknown) throw new NoDataError(`${file}: ${quoted(unknown)} is not in meta.csv`);
  return { ...folder, events: new Map(named) };
}
