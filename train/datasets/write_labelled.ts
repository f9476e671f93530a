/**
 * Writes a labelled folder (train/README.md, Labelled data sets) for a download: meta.csv, and
 * audio/ as one link to where the audio lies.
 *
 * One link and not one for each clip: it is there at once and takes no room also for 300,000 clips,
 * and Windows lets everybody make it (a junction, while links to files need a privilege there).
 * Names in meta.csv keep the download's folders. On Linux and macOS the link is relative, so both
 * folders can be moved together.
 *
 * @module
 */
import { stringify } from "../deps/csv.ts";
import { basename, dirname, isAbsolute, join, relative, resolve, SEPARATOR } from "../deps/path.ts";
import { nameDiskFull, NoDataError, UsageError } from "../errors.ts";
import { AUDIO_EXTENSIONS, isFolder, type OnSkip, walkFiles } from "../io/folders.ts";
import { replaceFile, writeAtomic } from "../io/atomic_write.ts";
import type { Dataset, ListedEvent, Listing } from "./dataset.ts";

/** A clip of meta.csv. */
export interface MetaRow {
  /** Below audio/, with `/` between folders. */
  readonly filename: string;
  /** None only in a set where clips have several. */
  readonly labels: readonly string[];
  /** Classes that somebody listened for; undefined: all of them. */
  readonly known?: readonly string[];
  /** Fold, or train, validation or test. */
  readonly part: string;
}

/** What of a listing is there; names of files are below the folder of audio. */
export interface Matched {
  /** In the order of the set's lists. */
  readonly rows: readonly MetaRow[];
  /** Clips of the split that have no file. */
  readonly missing: readonly string[];
  /** Audio that the lists do not know. */
  readonly surplus: readonly string[];
  /** Clips that the split leaves out. */
  readonly leftOut: readonly string[];
  /** Folders that cannot be listed, and why. */
  readonly unread: readonly { readonly path: string; readonly reason: string }[];
}

/**
 * Holds the lists against the files. A file counts for a clip also with another ending of audio, as
 * after a conversion.
 *
 * @throws {NoDataError} if no clip has a file, or too few parts are left to learn from one and test
 * another
 */
export async function matchFiles(
  { title, column }: Pick<Dataset, "title" | "column">,
  listing: Listing,
): Promise<Matched> {
  const byName = new Map<string, string>();
  const names = new Set<string>();
  const unread: { path: string; reason: string }[] = [];
  const onSkip = (path: string, reason: string) => void unread.push({ path, reason });
  for await (const name of audioNames(listing, onSkip)) {
    names.add(name);
    byName.set(withoutEnding(name), name);
  }
  const rows: MetaRow[] = [];
  const [missing, leftOut]: [string[], string[]] = [[], []];
  for (const { file, labels, known, part } of listing.clips) {
    const filename = names.has(file) ? file : byName.get(withoutEnding(file));
    if (filename !== undefined) names.delete(filename);
    // It would be two in a cell of meta.csv.
    const parted = labels.find((it) => it.includes(";"));
    if (parted !== undefined) throw new NoDataError(`${title}: class "${parted}" has a ";"`);
    if (part === undefined) leftOut.push(file);
    else if (filename === undefined) missing.push(file);
    else rows.push({ filename, labels, ...(known && { known }), part });
  }
  const parts = new Set(rows.map(({ part }) => part));
  const enough = column === "fold" ? parts.size > 1 : parts.has("train") && parts.has("test");
  if (!enough) {
    throw new NoDataError(
      `${listing.audio}: too little of ${title} is there: ${rows.length} clips, ` +
        `${column}s: ${[...parts].join(", ") || "none"}; ${missing.length} have no file` +
        missing.slice(0, 3).map((it) => `\n  ${it}`).join(""),
    );
  }
  return { rows, missing, surplus: [...names], leftOut, unread };
}

/** Names of the audio in the folders that are there. */
async function* audioNames(
  { audio, folders }: Listing,
  onSkip: OnSkip,
): AsyncGenerator<string> {
  for (const folder of folders) {
    const path = join(audio, folder);
    // A download that is partial lacks folders.
    if (!(await isFolder(path))) continue;
    for await (const file of walkFiles(path, AUDIO_EXTENSIONS, onSkip)) {
      yield relative(audio, file).replaceAll("\\", "/");
    }
  }
}

function withoutEnding(name: string): string {
  const ending = AUDIO_EXTENSIONS.find((it) => name.toLowerCase().endsWith(it)) ?? "";
  return name.slice(0, name.length - ending.length);
}

/** How {@link writeLabelled} puts audio into the folder. */
export interface WriteOptions {
  /** Copies it instead of linking to it. */
  readonly copy: boolean;
  /** Called with the files that are copied, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Ends copying. */
  readonly signal?: AbortSignal;
}

/**
 * Makes or renews a labelled folder. Files and link appear when they are complete; the same input
 * gives the same bytes. In the download's own folder only meta.csv is written.
 *
 * @param listing the download
 * @param out the labelled folder
 * @throws {UsageError} if `out` cannot be this folder, or links are not allowed there
 */
export async function writeLabelled(
  { root, audio }: Pick<Listing, "root" | "audio">,
  out: string,
  column: Dataset["column"],
  rows: readonly MetaRow[],
  options: WriteOptions,
): Promise<void> {
  const target = join(out, "audio");
  const text = stringify(
    rows.map(({ filename, labels, known, part }) => ({
      filename,
      label: labels.join(";"),
      known: known?.join(";"),
      [column]: part,
    })),
    { columns: ["filename", "label", ...(rows.some((it) => it.known) ? ["known"] : []), column] },
    // Tools that go by lines would take the \r for a part of the last cell.
  ).replaceAll("\r\n", "\n");
  try {
    const source = await Deno.realPath(audio);
    const kept = await Deno.lstat(target).catch(() => undefined);
    const linked = await Deno.realPath(target).catch(() => undefined) === source;
    const within = isWithin(await Deno.realPath(root), await realPathOf(resolve(out)));
    if (within && !linked) {
      throw new UsageError(
        `--out ${out}: is in the download, where only meta.csv may be added beside audio/; ` +
          "give a folder outside",
      );
    }
    await Deno.mkdir(out, { recursive: true });
    if (options.copy && !within) await copyAudio(source, target, kept, rows, options);
    else if (!linked) await linkAudio(source, target, kept);
    await writeAtomic(join(out, "meta.csv"), [new TextEncoder().encode(text)]);
  } catch (error) {
    throw nameDiskFull(unwritable(error, `--out ${out}`), out);
  }
}

/** Writes events.csv: the events of clips that are in meta.csv. */
export async function writeEvents(
  out: string,
  events: readonly ListedEvent[],
  rows: readonly MetaRow[],
): Promise<void> {
  const ending = /\.[^./]*$/;
  const names = new Map(rows.map(({ filename }) => [filename.replace(ending, ""), filename]));
  const own = events.flatMap((it) => {
    const filename = names.get(it.filename.replace(ending, ""));
    return filename === undefined ? [] : [{ ...it, filename }];
  });
  const columns = ["filename", "onset_ms", "offset_ms", "label"];
  const text = stringify(own, { columns }).replaceAll("\r\n", "\n");
  await writeAtomic(join(out, "events.csv"), [new TextEncoder().encode(text)]);
}

/** Whether a real path is that of a folder or below it. */
function isWithin(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return !isAbsolute(way) && way !== ".." && !way.startsWith(`..${SEPARATOR}`);
}

/** The real path that an absolute path has or would have. */
async function realPathOf(path: string): Promise<string> {
  try {
    return await Deno.realPath(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound) || dirname(path) === path) throw error;
    return join(await realPathOf(dirname(path)), basename(path));
  }
}

async function linkAudio(
  source: string,
  target: string,
  kept: Deno.FileInfo | undefined,
): Promise<void> {
  if (kept && !kept.isSymlink) {
    throw new UsageError(`${target}: is there and is no link; give another --out, or --copy`);
  }
  const folder = await Deno.realPath(dirname(target));
  const beside = `${target}.tmp`;
  const left = await Deno.lstat(beside).catch(() => undefined);
  // Left by a process that was killed; a file or folder is somebody else's.
  if (left?.isSymlink) await Deno.remove(beside);
  try {
    if (Deno.build.os === "windows") await Deno.symlink(source, beside, { type: "junction" });
    else await Deno.symlink(relative(folder, source), beside);
  } catch (error) {
    throw new UsageError(`${target}: cannot be a link here; try --copy`, (error as Error).message);
  }
  if (kept) await Deno.remove(target);
  await Deno.rename(beside, target);
}

async function copyAudio(
  source: string,
  target: string,
  kept: Deno.FileInfo | undefined,
  rows: readonly MetaRow[],
  { onProgress, signal }: Omit<WriteOptions, "copy">,
): Promise<void> {
  // Through a link the copies would land in the download.
  if (kept?.isSymlink) await Deno.remove(target);
  for (const [done, { filename }] of rows.entries()) {
    signal?.throwIfAborted();
    const [from, to] = [join(source, filename), join(target, filename)];
    await Deno.mkdir(dirname(to), { recursive: true });
    const { size, isFile } = await Deno.stat(from);
    if (!isFile) throw new NoDataError(`${from} is not a regular file`);
    const there = await Deno.stat(to).catch(() => undefined);
    // A file of that name is complete, because it is renamed when it is.
    if (there?.size !== size) {
      await replaceFile(to, async (file) => {
        using source = await Deno.open(from);
        for await (const piece of source.readable) {
          for (let at = 0; at < piece.length;) at += await file.write(piece.subarray(at));
        }
      });
    }
    onProgress?.(done + 1, rows.length);
  }
}

/** What the file system refuses, in words that name what was to be written. */
export function unwritable(error: unknown, name: string): unknown {
  const refused = [
    Deno.errors.PermissionDenied,
    Deno.errors.NotADirectory,
    Deno.errors.AlreadyExists,
    Deno.errors.IsADirectory,
  ];
  if (!refused.some((it) => error instanceof it)) return error;
  return new UsageError(`${name}: cannot be written`, (error as Error).message);
}
