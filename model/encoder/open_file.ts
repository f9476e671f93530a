/**
 * Files that encoders are loaded from, in Deno and in Node; browsers fetch them.
 *
 * @module
 */
import type { RandomAccess } from "../formats/stored_tensor.ts";
import { EncoderError } from "./file_values.ts";

/** What runtimes have, and browsers have not: bundles for them are made without. */
interface Runtime {
  readonly Deno?: typeof Deno;
  readonly process?: { getBuiltinModule(name: "node:fs"): typeof import("node:fs") };
}

/**
 * A file whose parts can be read.
 *
 * @throws {EncoderError} if it is none, or cannot be fetched; the runtime's own error if it cannot
 * be opened.
 */
export async function openFile(path: string | URL): Promise<RandomAccess & Disposable> {
  const { isFile, size, readAt, close } = (globalThis as Runtime).Deno
    ? denoFile(path)
    : (globalThis as Runtime).process
    ? nodeFile(path)
    : await fetched(path);
  if (!isFile) {
    close();
    throw new EncoderError(`${path} is not a regular file`);
  }
  return {
    size,
    read: (offset, length) => {
      const bytes = new Uint8Array(length);
      for (let done = 0; done < length;) {
        const read = readAt(bytes.subarray(done), offset + done);
        if (read === 0) throw new EncoderError("the file became shorter while it was read");
        done += read;
      }
      return bytes;
    },
    [Symbol.dispose]: close,
  };
}

interface OpenFile {
  readonly isFile: boolean;
  readonly size: number;
  /** How many bytes it read. */
  readonly readAt: (into: Uint8Array, offset: number) => number;
  readonly close: () => void;
}

/** In place of what is no file, as opening a named pipe would wait. */
const NO_FILE: OpenFile = { isFile: false, size: 0, readAt: () => 0, close: () => {} };

function denoFile(path: string | URL): OpenFile {
  if (!Deno.statSync(path).isFile) return NO_FILE;
  const file = Deno.openSync(path);
  return {
    isFile: true,
    size: file.statSync().size,
    readAt: (into, offset) => {
      file.seekSync(offset, Deno.SeekMode.Start);
      return file.readSync(into) ?? 0;
    },
    close: () => file.close(),
  };
}

function nodeFile(path: string | URL): OpenFile {
  // Asked for when it is needed: an import would end everything where there is no such module.
  const fs = (globalThis as Runtime).process!.getBuiltinModule("node:fs");
  if (!fs.statSync(path).isFile()) return NO_FILE;
  const file = fs.openSync(path, "r");
  return {
    isFile: true,
    size: fs.fstatSync(file).size,
    readAt: (into, offset) => fs.readSync(file, into, 0, into.length, offset),
    close: () => fs.closeSync(file),
  };
}

async function fetched(address: string | URL): Promise<OpenFile> {
  const response = await fetch(address).catch((cause) => {
    throw new EncoderError(`${address} cannot be fetched: ${cause.message}`, { cause });
  });
  if (!response.ok) {
    throw new EncoderError(
      `${address} cannot be fetched: ${response.status} ${response.statusText}`,
    );
  }
  const bytes = new Uint8Array(await response.arrayBuffer());
  const readAt = (into: Uint8Array, offset: number): number => {
    const part = bytes.subarray(offset, offset + into.length);
    into.set(part);
    return part.length;
  };
  return { isFile: true, size: bytes.length, readAt, close: () => {} };
}
