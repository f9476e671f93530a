/**
 * Walks through folders.
 *
 * @module
 */
import { join } from "../deps/path.ts";

/** Endings that count as audio; the content decides how a file is decoded. */
export const AUDIO_EXTENSIONS: readonly string[] = [
  ".wav",
  ".flac",
  ".ogg",
  ".oga",
  ".opus",
  ".mp3",
];

/** A folder that cannot be listed. The message names it and says why. */
export class FolderError extends Error {
  /** The class name, as printed. */
  override readonly name = "FolderError";
}

/** Hears what is left out and why. */
export type OnSkip = (path: string, reason: string) => void;

/**
 * Lists the audio files under a folder and its subfolders. Links are followed, each real folder is
 * entered once, so loops end. Hidden files and folders (a name with a leading dot) are left out.
 *
 * @param folder path of the folder.
 * @param onSkip hears of subfolders that cannot be listed; without it they end the walk
 * @returns paths that begin with `folder`, in the order of the names' UTF-16 code units, folder by
 * folder: the same on every machine and in every locale. A broken link with an audio name is
 * listed, so that it is reported when opened.
 * @throws FolderError when a folder does not exist, is a file or must not be read.
 */
export async function listAudioFiles(folder: string, onSkip?: OnSkip): Promise<string[]> {
  return await Array.fromAsync(walkFiles(folder, AUDIO_EXTENSIONS, onSkip));
}

/**
 * The files under a folder that have one of some endings, found as {@link listAudioFiles} does, one
 * after the other.
 *
 * @param extensions endings in lower case; files have them in any case
 * @throws FolderError as {@link listAudioFiles}.
 */
export async function* walkFiles(
  folder: string,
  extensions: readonly string[],
  onSkip?: OnSkip,
): AsyncGenerator<string> {
  yield* walk(folder, new Set(), extensions, onSkip);
}

async function* walk(
  folder: string,
  visited: Set<string>,
  extensions: readonly string[],
  onSkip: OnSkip | undefined,
): AsyncGenerator<string> {
  const root = visited.size === 0;
  const entries: Deno.DirEntry[] = [];
  try {
    const real = await Deno.realPath(folder);
    if (visited.has(real)) return;
    visited.add(real);
    for await (const entry of Deno.readDir(folder)) entries.push(entry);
  } catch (error) {
    // The folder that was asked for must be there.
    if (!onSkip || root) {
      throw new FolderError(`${folder}: ${reason(error)}`);
    }
    onSkip(folder, reason(error));
    return;
  }
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    if (entry.name.startsWith(".")) continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory || (entry.isSymlink && await isFolder(path))) {
      yield* walk(path, visited, extensions, onSkip);
    } else if (hasExtension(entry.name, extensions)) {
      yield path;
    }
  }
}

function hasExtension(name: string, extensions: readonly string[]): boolean {
  const lower = name.toLowerCase();
  return extensions.some((extension) => lower.endsWith(extension));
}

/** Names in a folder; none when there is no folder. */
export async function namesIn(dir: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(dir)) names.push(name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names;
}

/** Whether a path is that of a folder; a broken link or no path is none. */
export async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch {
    return false;
  }
}

function reason(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "no such folder";
  if (error instanceof Deno.errors.NotADirectory) return "not a folder";
  if (error instanceof Deno.errors.PermissionDenied) {
    return "no permission to read this folder";
  }
  return error instanceof Error ? error.message : String(error);
}
