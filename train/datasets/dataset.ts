/**
 * What a data set as people download it tells: where its lists and its audio lie, its clips with
 * classes and parts.
 *
 * @module
 */
import { parse } from "../deps/csv.ts";
import { join } from "../deps/path.ts";
import { NoDataError } from "../errors.ts";

/** A clip as the lists of a data set have it. */
export interface ListedClip {
  /** Its file below the folder of audio, with `/` between folders. */
  readonly file: string;
  /** Its classes. */
  readonly labels: readonly string[];
  /** Classes that somebody listened for, where they are not all. */
  readonly known?: readonly string[];
  /** Fold, or train, validation or test; undefined where the split leaves the clip out. */
  readonly part: string | undefined;
}

/** An event of a clip, as events.csv has it. */
export interface ListedEvent {
  /** Of the clip. */
  readonly filename: string;
  /** ms. */
  readonly onset_ms: number;
  /** ms. */
  readonly offset_ms: number;
  /** Its class. */
  readonly label: string;
}

/** What the lists of a download say. */
export interface Listing {
  /** The download: the folder that has the lists. */
  readonly root: string;
  /** Folder of audio, in it. */
  readonly audio: string;
  /** Folders below it that hold nothing but the set's audio. */
  readonly folders: readonly string[];
  /** In the order of the set's own lists. */
  readonly clips: readonly ListedClip[];
  /** Of sets that differ among themselves: what this one is called. */
  readonly title?: string;
  /** And which column its parts are in. */
  readonly column?: Dataset["column"];
  /** And how it is judged. */
  readonly metric?: Dataset["metric"];
  /** Events, for events.csv, where they are what is looked for. */
  readonly events?: readonly ListedEvent[];
}

/** A data set: one file of this folder each. */
export interface Dataset {
  /** As its authors write it. */
  readonly title: string;
  /** One sentence for help: split, rule, source. */
  readonly about: string;
  /** How the paper judges it (model/README.md, Probes). */
  readonly metric: "accuracy" | "mAP";
  /** Column of meta.csv that has the parts. */
  readonly column: "fold" | "split";
  /** Clips of a whole download that the split has, where that is known. */
  readonly clips?: number;
  /** Classes. */
  readonly classes?: number;
  /**
   * Reads the lists.
   *
   * @throws {NoDataError} if `dir` is not such a download, or a list is damaged
   */
  read(dir: string): Promise<Listing>;
}

/**
 * Finds a download by files and folders that it must have.
 *
 * @param places folders below `dir` that it may lie in; archives bring one of their own
 * @param layouts paths by role, of each way in which it is spread
 * @returns the first place with a layout of which all exist, and its paths
 * @throws {NoDataError} that says what was looked for
 */
export async function locate<Role extends string>(
  dir: string,
  title: string,
  places: readonly string[],
  layouts: readonly Readonly<Record<Role, string>>[],
): Promise<Readonly<Record<Role | "root", string>>> {
  for (const place of places) {
    for (const layout of layouts) {
      const paths = Object.entries<string>(layout).map(([role, path]) => [
        role,
        join(dir, place, path),
      ]);
      const found = await Promise.all(paths.map(([, path]) => exists(path)));
      if (found.every((it) => it)) {
        return Object.fromEntries([["root", join(dir, place)], ...paths]);
      }
    }
  }
  const expected = layouts.map((layout) =>
    `  ${Object.values<string>(layout).filter((it) => it !== "").join(", ")}`
  );
  const below = places.filter((it) => it !== "").map((it) => join(dir, it));
  throw new NoDataError(
    [
      `${dir}: no ${title} here; looked for all of`,
      expected.join("\n  or all of\n"),
      `in ${[dir, ...below].join(", ")}`,
    ].join("\n"),
  );
}

/** Whether there is a file or folder of that path. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * Reads a list with a header.
 *
 * @param columns that it must have
 * @throws {NoDataError} if it cannot be read or lacks one
 */
export async function readTable<Column extends string>(
  file: string,
  columns: readonly Column[],
): Promise<Record<Column, string>[]> {
  const rows: Record<string, string | undefined>[] = parsed(
    file,
    await readList(file),
    (text) => parse(text, { skipFirstRow: true }),
  );
  const lacking = columns.filter((it) => rows.length === 0 || !Object.hasOwn(rows[0], it));
  if (lacking.length > 0) {
    throw new NoDataError(`${file}: has no clips, or lacks ${lacking.join(", ")} in its header`);
  }
  return rows as Record<Column, string>[];
}

/** Lines of a list without header that are not empty. @throws {NoDataError} if it cannot be read */
export async function readLines(file: string): Promise<string[]> {
  return (await readList(file)).split(/\r?\n/).map((it) => it.trim()).filter((it) => it !== "");
}

/** Text of a list without a byte order mark. @throws {NoDataError} if it cannot be read */
export async function readList(file: string): Promise<string> {
  try {
    // A named pipe would make it wait.
    if (!(await Deno.stat(file)).isFile) throw new Error("not a regular file");
    return (await Deno.readTextFile(file)).replace(/^\ufeff/, "");
  } catch (error) {
    throw new NoDataError(`${file}: cannot be read: ${(error as Error).message}`);
  }
}

/** What `parser` makes of a list's text. @throws {NoDataError} if it throws */
export function parsed<Result>(
  file: string,
  text: string,
  parser: (text: string) => Result,
): Result {
  try {
    return parser(text);
  } catch (error) {
    throw new NoDataError(`${file}: is damaged: ${(error as Error).message}`);
  }
}
