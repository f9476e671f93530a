/**
 * Labelled folders: `audio/` with the clips and `meta.csv` with a line for each.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import { quoted } from "../../engine/formats/printable.ts";
import { NoDataError } from "../errors.ts";
import { readCsv } from "../io/csv.ts";

/** A clip of a labelled folder. */
export interface LabelledClip {
  /** Audio file. */
  readonly path: string;
  /** Its classes; none only in a folder where clips have several. */
  readonly labels: readonly string[];
  /** Classes that somebody listened for; of others nothing is known. Undefined: all of them. */
  readonly known?: readonly string[];
  /**
   * The part of the data it is in, by which clips to learn from and clips to try are kept apart.
   */
  readonly part: string;
}

/** What a labelled folder holds. */
export interface LabelledFolder {
  /** Where it is. */
  readonly dir: string;
  /** In the order of meta.csv. */
  readonly clips: readonly LabelledClip[];
  /** Each part in turn is tried with the others as training clips, or only `test` with `train`. */
  readonly protocol: "leave-one-part-out" | "split";
}

/**
 * Reads `meta.csv` of a labelled folder: `filename`, `label`, `category` or `target`, and `fold` or
 * `split`; without either, every fifth line is a fold. A column `known` names the classes that
 * somebody listened for.
 *
 * @param labels of each file by its name, which then take the column's place; files without any may
 * be missing
 * @throws {NoDataError} if the file cannot be read, lacks a column, or has no usable line.
 */
export function labelledFolder(
  dir: string,
  labels?: ReadonlyMap<string, readonly string[]>,
): LabelledFolder {
  const file = join(dir, "meta.csv");
  const rows = readCsv(file, `${dir} is no labelled folder: `);
  const has = (name: string) => rows.length > 0 && Object.hasOwn(rows[0], name);
  const labelColumn = ["label", "category", "target"].find(has) ?? "";
  if (!has("filename") || (labelColumn === "" && !labels)) {
    throw new NoDataError(
      `${file}: needs a line per clip with filename${labels ? "" : " and label or category"}`,
    );
  }
  const partColumn = ["fold", "split"].find(has);
  const someKnown = has("known") && !labels;
  const several = labels !== undefined || someKnown ||
    rows.some((row) => row[labelColumn]?.includes(";"));
  const clips = rows.map((row, i) => {
    const { filename = "", [labelColumn]: cell = "" } = row;
    const own = labels ? labels.get(filename) ?? [] : wordsIn(cell);
    const cellOfPart = partColumn === undefined ? String(i % 5) : (row[partColumn] ?? "").trim();
    const part = partColumn === "split" ? splitPart(cellOfPart) : cellOfPart;
    if (filename === "" || (own.length === 0 && !several) || part === "") {
      // The header is line 1.
      throw new NoDataError(
        `${file}: clip ${i + 1} lacks filename, ${labelColumn} or ${partColumn}`,
      );
    }
    return {
      path: join(dir, "audio", filename),
      labels: own,
      ...(someKnown && { known: wordsIn(row.known ?? "") }),
      part,
    };
  });
  const parts = [...new Set(clips.map(({ part }) => part))];
  const unknown = partColumn === "split" ? parts.filter((it) => !PARTS.includes(it)) : [];
  if (unknown.length > 0) {
    throw new NoDataError(
      `${file}: split must be ${PARTS.join(", ")}, but is also ` +
        unknown.slice(0, 10).map(quoted).join(", "),
    );
  }
  const folder: LabelledFolder = {
    dir,
    clips,
    protocol: partColumn === "split" ? "split" : "leave-one-part-out",
  };
  const [{ tried, known }] = trials(folder, clips, ({ part }) => part);
  if (tried.length === 0 || known.length === 0) {
    throw new NoDataError(
      `${file}: nothing to learn from or nothing to try; ` +
        "it needs two folds, or train and test (or validation) in split",
    );
  }
  return folder;
}

/** Words of a cell between semicolons. */
function wordsIn(cell: string): string[] {
  return cell.split(";").map((it) => it.trim()).filter((it) => it !== "");
}

/** Parts of a split. */
const PARTS: readonly string[] = ["train", "validation", "test"];

/** A word of the column `split` in the name that it has here: FSD50K says val, NSynth valid. */
function splitPart(word: string): string {
  const lower = word.toLowerCase();
  return lower === "val" || lower === "valid" ? "validation" : lower;
}

/** Which clips are tried after learning from which others. */
export function trials<Item>(
  { protocol }: Pick<LabelledFolder, "protocol">,
  items: readonly Item[],
  partOf: (item: Item) => string,
): { tried: Item[]; known: Item[] }[] {
  const parts = new Set(items.map(partOf));
  const among = (...names: string[]) => items.filter((it) => names.includes(partOf(it)));
  if (protocol === "split") {
    return [{ tried: among(parts.has("test") ? "test" : "validation"), known: among("train") }];
  }
  return [...parts].map((part) => ({
    tried: among(part),
    known: items.filter((it) => partOf(it) !== part),
  }));
}
