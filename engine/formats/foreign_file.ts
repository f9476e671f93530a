/**
 * Names what lies in the place of a checkpoint: pointers of Git LFS, pages of a site, archives.
 *
 * @module
 */
import { quoted } from "./printable.ts";

/** Bytes from the start of a file that tell what it is. */
export const START_BYTES = 512;

/** First bytes, as characters, of kinds of files that are met in the place of weights. */
const KINDS: readonly (readonly [start: RegExp | string, kind: string, advice?: string])[] = [
  [
    "version https://git-lfs.github.com/",
    "a Git LFS pointer, not the file itself",
    "git lfs pull fetches it",
  ],
  [
    /^(\S*\/)?\.?(git\/)?annex\/objects\//,
    "a git-annex pointer, not the file itself",
    "git annex get fetches it",
  ],
  [
    /^\s*<(!doctype\s+html|html|head|body|script|meta|!--)/i,
    "a web page (HTML), not weights",
    "download the file itself, not the page about it",
  ],
  [/^\s*<(\?xml|Error>)/i, "an XML document, not weights"],
  ["\x1f\x8b\x08", "compressed by gzip", "unpack it: gunzip, or tar -xzf where it is a .tar.gz"],
  [/^BZh[1-9]/, "compressed by bzip2", "unpack it first"],
  ["\xfd7zXZ\0", "compressed by xz", "unpack it first"],
  ["\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first"],
  ["7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"],
  ["Rar!\x1a\x07", "a RAR archive", "unpack it first"],
  [/^[^]{257}ustar/, "a tar archive", "unpack it first: tar -xf"],
  // Where PyTorch's are read as well, zip archives do not come this far.
  ["PK\x03\x04", "a zip archive, as PyTorch's .pt are", "deno task import makes safetensors of it"],
  ["PK\x05\x06", "an empty zip archive"],
  ["PK\x07\x08", "a part of a zip archive"],
  ["\x93NUMPY", "a NumPy array (.npy), not a checkpoint"],
  ["\x89HDF\r\n", "an HDF5 file (Keras, MATLAB); PyTorch and safetensors are read"],
  ["GGUF", "a GGUF file; PyTorch and safetensors are read"],
  [/^RIFF[^]{4}WAVE/, "a WAV file, not a checkpoint"],
  ["fLaC", "a FLAC file, not a checkpoint"],
  ["OggS", "an Ogg file, not a checkpoint"],
  ["\x89PNG\r\n", "a PNG picture, not a checkpoint"],
  ["%PDF-", "a PDF document, not a checkpoint"],
  ...["\x80\x02", "\x80\x03", "\x80\x04", "\x80\x05"].map((start) =>
    [
      start,
      "a bare pickle; what torch.save writes since PyTorch 1.6 and safetensors are read",
      "save it anew: torch.save(OBJECT, OUT)",
    ] as const
  ),
];

/** What stands at byte 8 of safetensors, behind the length of the header. */
const BRACE = 0x7b;

/**
 * What a file is, if it is of a kind that is mistaken for a checkpoint.
 *
 * @param start its first bytes, {@link START_BYTES} of them where it has as many
 * @returns a sentence for after "it is", with advice; undefined for what may be a checkpoint
 */
export function foreignKind(start: Uint8Array): string | undefined {
  if (start.byteLength === 0) return "empty";
  if (start[8] === BRACE) return undefined;
  const withBom = start[0] === 0xef && start[1] === 0xbb && start[2] === 0xbf;
  const text = String.fromCharCode(...start.subarray(withBom ? 3 : 0, START_BYTES));
  const found = KINDS.find(([start]) =>
    typeof start === "string" ? text.startsWith(start) : start.test(text)
  );
  if (found) return found[2] === undefined ? found[1] : `${found[1]}; ${found[2]}`;
  // Lengths of headers have zeros among their bytes: text has none.
  if (start.byteLength >= 8 && /^[\t\n\r\x20-\x7e]+$/.test(text)) {
    return `a text that begins with ${quoted(text.slice(0, 60))}, not weights`;
  }
  return undefined;
}
