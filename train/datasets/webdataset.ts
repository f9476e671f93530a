/**
 * WebDataset tars (https://github.com/webdataset/webdataset) of labelled sounds, as X-ARES ships
 * them: `KEY.flac` (or .wav, .ogg, .mp3) and `KEY.json` with the label. Audio is taken out of the
 * tars into the labelled folder.
 *
 * @module
 */
import { basename, dirname, join } from "../deps/path.ts";
import { NoDataError } from "../errors.ts";
import { AUDIO_EXTENSIONS, walkFiles } from "../io/folders.ts";
import { replaceFile } from "../io/atomic_write.ts";
import { openRegular } from "../io/regular_file.ts";
import { readFully } from "../io/bytes.ts";
import type { ListedClip } from "./dataset.ts";

/** Bytes of a block of a tar. */
const BLOCK = 512;
/** Largest text that is read of an entry: descriptions and long names are small. */
const MOST_TEXT = 1 << 24;
/** Fields of a description that can hold the label, the likeliest first. */
export const LABEL_FIELDS: readonly string[] = [
  ...["label", "labels", "category", "class", "classes", "target", "targets", "tags"],
  ...["language", "speaker", "speaker_id", "emotion", "keyword", "genre", "instrument"],
];

/** A file in a tar. */
export interface TarEntry {
  readonly name: string;
  readonly size: number;
  /** Reads all of it. */
  bytes(): Uint8Array<ArrayBuffer>;
}

/**
 * The regular files of a tar (ustar, GNU's and pax's long names), one after the other.
 *
 * @throws {NoDataError} if it is damaged or cut off.
 */
export function* tarEntries(path: string): Generator<TarEntry> {
  using file = openRegular(path);
  const total = file.statSync().size;
  const read = (at: number, size: number): Uint8Array<ArrayBuffer> => {
    file.seekSync(at, Deno.SeekMode.Start);
    const bytes = readFully(file, size);
    if (bytes.length < size) throw new NoDataError(`${path}: is cut off`);
    return bytes;
  };
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).replace(/\0.*$/s, "");
  let long: string | undefined;
  let at = 0;
  while (at + BLOCK <= total) {
    const header = read(at, BLOCK);
    if (header.every((it) => it === 0)) return;
    const sum = header.reduce((a, b, i) => a + (i >= 148 && i < 156 ? 32 : b), 0);
    const size = octal(header.subarray(124, 136));
    if (size === undefined || octal(header.subarray(148, 156)) !== sum) {
      throw new NoDataError(`${path}: is no tar, or damaged at byte ${at}`);
    }
    const first = at + BLOCK;
    if (first + size > total) throw new NoDataError(`${path}: is cut off`);
    at = first + Math.ceil(size / BLOCK) * BLOCK;
    const kind = String.fromCharCode(header[156]);
    if (kind === "L" || kind === "x") {
      if (size > MOST_TEXT) throw new NoDataError(`${path}: a name of ${size} bytes`);
      const content = text(read(first, size));
      const named = kind === "L" ? content : /^\d+ path=(.*)$/m.exec(content)?.[1];
      long = named ?? long;
      continue;
    }
    const prefix = text(header.subarray(257, 262)) === "ustar" && header[262] === 0
      ? text(header.subarray(345, 500))
      : "";
    const short = text(header.subarray(0, 100));
    const name = long ?? (prefix === "" ? short : `${prefix}/${short}`);
    long = undefined;
    if (kind === "0" || kind === "\0") yield { name, size, bytes: () => read(first, size) };
  }
  if (at !== total) throw new NoDataError(`${path}: is cut off`);
}

function octal(bytes: Uint8Array): number | undefined {
  const text = new TextDecoder().decode(bytes).replace(/[\0 ]+$/, "").trim();
  return /^[0-7]+$/.test(text) ? parseInt(text, 8) : undefined;
}

/** A clip that was found in a tar. */
interface TarClip {
  audio?: { readonly ending: string; readonly tar: string };
  labels?: readonly string[];
}

/** What tars hold. */
export interface TarListing {
  /** Clips with label and audio, their files below `audio/`. */
  readonly clips: readonly ListedClip[];
  /** Column of meta.csv. */
  readonly column: "fold" | "split";
  /** The field that the label is in. */
  readonly field: string;
}

/** The part that a tar is, by its name: a fold, or train, validation or test. */
export function partOfTar(name: string): { readonly part: string; readonly fold: boolean } {
  const fold = /fold[-_]?(\d+)/i.exec(name)?.[1];
  if (fold !== undefined) return { part: fold, fold: true };
  const word = /(?:^|[^a-z])(train|dev|valid|val|validation|test|eval)(?:[^a-z]|$)/i.exec(name)?.[1]
    .toLowerCase();
  if (word === undefined) {
    throw new NoDataError(
      `${name}: its name tells neither a fold (fold1) nor a part (train, valid, test)`,
    );
  }
  const part = word === "train"
    ? "train"
    : word === "test" || word === "eval"
    ? "test"
    : "validation";
  return { part, fold: false };
}

/** Labels in a description. */
function labelsIn(value: unknown): string[] {
  const all = Array.isArray(value) ? value : [value];
  return all.filter((it) => typeof it === "string" || typeof it === "number").map(String);
}

/**
 * Takes the audio out of all tars below a folder.
 *
 * @param field of the descriptions that has the label; default the first of {@link LABEL_FIELDS}
 * that the first description has
 * @param out labelled folder, in whose `audio/` files are written; those that are there with the
 * same size stay
 * @throws {NoDataError} if there are no tars, one is damaged, or a clip has no label
 */
export async function unpackTars(
  dir: string,
  out: string,
  { field, signal, onProgress }: {
    readonly field?: string;
    readonly signal?: AbortSignal;
    readonly onProgress?: (clips: number) => void;
  } = {},
): Promise<TarListing> {
  const tars = (await Array.fromAsync(walkFiles(dir, [".tar"]))).sort();
  if (tars.length === 0) throw new NoDataError(`${dir}: no .tar files in it`);
  const parts = tars.map((it) => partOfTar(basename(it)));
  if (parts.some(({ fold }) => fold !== parts[0].fold)) {
    throw new NoDataError(`${dir}: some tars are folds, others parts of a split`);
  }
  const clips: ListedClip[] = [];
  let chosen = field;
  for (const [i, tar] of tars.entries()) {
    const own = new Map<string, TarClip>();
    const clipOf = (key: string): TarClip => {
      if (!own.has(key)) own.set(key, {});
      return own.get(key)!;
    };
    const folder = basename(tar).replace(/\.tar$/, "");
    for (const entry of tarEntries(tar)) {
      signal?.throwIfAborted();
      const base = basename(entry.name);
      const dot = base.indexOf(".");
      if (dot <= 0) continue;
      const [key, ending] = [
        entry.name.slice(0, entry.name.length - base.length + dot),
        base.slice(dot),
      ];
      if (ending === ".json") {
        if (entry.size > MOST_TEXT) throw new NoDataError(`${tar}: ${entry.name} is too large`);
        const about = descriptionOf(tar, entry);
        chosen ??= LABEL_FIELDS.find((it) => labelsIn(about[it]).length > 0);
        if (chosen === undefined) {
          throw new NoDataError(
            `${tar}: ${entry.name} has none of ${LABEL_FIELDS.join(", ")}; --label names the field`,
          );
        }
        clipOf(key).labels = labelsIn(about[chosen]);
      } else if (AUDIO_EXTENSIONS.includes(ending.toLowerCase())) {
        const name = safeName(tar, key);
        const file = `${folder}/${name}${ending}`;
        clipOf(key).audio = { ending, tar: file };
        const to = join(out, "audio", file);
        await Deno.mkdir(dirname(to), { recursive: true });
        const there = await Deno.stat(to).catch(() => undefined);
        if (there?.size !== entry.size) {
          await replaceFile(to, async (file) => {
            const bytes = entry.bytes();
            for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
          });
        }
      }
    }
    for (const [key, { audio, labels }] of own) {
      if (!audio) continue;
      if (!labels || labels.length === 0) {
        throw new NoDataError(
          `${tar}: clip ${key} has no label in ${chosen ?? "a .json beside it"}`,
        );
      }
      clips.push({ file: audio.tar, labels, part: parts[i].part });
    }
    onProgress?.(clips.length);
  }
  return { clips, column: parts[0].fold ? "fold" : "split", field: chosen ?? "" };
}

/** @throws {NoDataError} if it is no JSON object */
function descriptionOf(tar: string, entry: TarEntry): Record<string, unknown> {
  try {
    const value = JSON.parse(new TextDecoder().decode(entry.bytes()));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch (error) {
    if (error instanceof NoDataError) throw error;
  }
  throw new NoDataError(`${tar}: ${entry.name} is no JSON object`);
}

/** A key as a name inside `audio/`. @throws {NoDataError} if it would leave it */
function safeName(tar: string, key: string): string {
  const parts = key.split("/").filter((it) => it !== "" && it !== ".");
  if (parts.length === 0 || parts.some((it) => it === ".." || /[\\:\0]/.test(it))) {
    throw new NoDataError(`${tar}: the name ${JSON.stringify(key)} is not taken`);
  }
  return parts.join("/");
}
