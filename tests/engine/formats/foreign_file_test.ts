/** What lies in the place of a checkpoint is called by its name. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { openCheckpoint } from "../../../model/formats/checkpoint_file.ts";
import { readSafetensors, writeSafetensors } from "../../../engine/formats/safetensors.ts";
import { bytesAccess } from "../../../model/formats/stored_tensor.ts";
import { raw } from "../../support/pickle_bytes.ts";

const LFS = "version https://git-lfs.github.com/spec/v1\n" +
  "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

async function gzipped(text: string): Promise<string> {
  const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(packed).arrayBuffer());
  return String.fromCharCode(...bytes);
}

Deno.test("checkpoint: pointers, pages, archives and other kinds of files are named", async () => {
  const cases: [content: string, part: string][] = [
    ["", "it is empty"],
    [LFS, "a Git LFS pointer, not the file itself; git lfs pull"],
    [`\xef\xbb\xbf${LFS}`, "a Git LFS pointer"],
    ["/annex/objects/SHA256E-s99--abc.pt\n", "a git-annex pointer"],
    ["<!DOCTYPE html><html><title>Sign in</title></html>", "a web page (HTML)"],
    ["\n\n <html lang=en>\n<body>404</body></html>", "a web page (HTML)"],
    ["\xef\xbb\xbf<!doctype HTML>", "a web page (HTML)"],
    ['<?xml version="1.0"?><Error>AccessDenied</Error>', "an XML document"],
    [await gzipped("x".repeat(1000)), "compressed by gzip; unpack it: gunzip"],
    [`${"a".repeat(257)}ustar\0${"\0".repeat(249)}`, "a tar archive"],
    ["BZh91AY&SY\x00\x00", "compressed by bzip2"],
    ["\x93NUMPY\x01\x00v\x00{'descr': '<f4', }", "a NumPy array"],
    ["RIFF\x24\x08\x00\x00WAVEfmt ", "a WAV file"],
    ["\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.", "a bare pickle"],
    ["Entry not found", 'a text that begins with "Entry not found"'],
    ['{"message": "Not Found"}', "a text that begins with"],
  ];
  for (const [content, part] of cases) {
    const bytes = raw(content);
    for (const read of [() => openCheckpoint(bytesAccess(bytes)), () => readSafetensors(bytes)]) {
      const { name, message } = assertThrows(read, Error, part);
      assertEquals(name, "SafetensorsError");
      assertStringIncludes(message, "it is ");
    }
  }
});

Deno.test("checkpoint: a file whose length begins as another kind's is read all the same", () => {
  // Headers of 640 bytes begin as a pickle (80 02), such of 559,903 as gzip (1f 8b 08).
  for (const length of [640, 0x088b20 - 8, 0x1f8b08]) {
    const empty = writeSafetensors([], { k: "" });
    const padding = length - (empty.length - 8);
    const bytes = writeSafetensors([], { k: "x".repeat(padding) });
    assertEquals(new DataView(bytes.buffer).getUint32(0, true) >= length, true);
    assertEquals(readSafetensors(bytes).metadata.k.length, padding);
  }
  const one = { dtype: "U8", shape: [1], data: new Uint8Array([7]) } as const;
  const bytes = writeSafetensors([["a", one]]);
  const header = raw("\x1f\x8b\x08\x00\x00\x00\x00\x00", bytes.subarray(8, -1));
  const spaces = " ".repeat(0x088b1f - (header.length - 8));
  const file = raw(header, spaces, new Uint8Array([7]));
  assertEquals(readSafetensors(file).tensors.get("a")?.data, new Uint8Array([7]));
});
