/** Manifests and tables of names. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import fc from "fast-check";
import { NoDataError } from "../../../train/errors.ts";
import { Loader } from "../../../train/data/loader.ts";
import {
  manifestChunks,
  NameTable,
  parseManifest,
  readManifest,
} from "../../../train/data/manifest.ts";
import { fileSource } from "../../../train/data/clip_source.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const parse = (text: string) => parseManifest(encode(text), "list.tsv");

async function joined(chunks: Iterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  return await new Response(ReadableStream.from(chunks)).bytes();
}

/** Names as files have them: no line ends, not empty; tabs and any script are possible. */
const name = fc.string({ unit: "grapheme", minLength: 1 }).filter((it) => !/[\r\n]/.test(it));

Deno.test("any names and lengths go through a manifest, with both kinds of line ends", async () => {
  await fc.assert(
    fc.asyncProperty(
      name.filter((it) => !it.includes("\t") && it.trim() !== ""),
      fc.array(fc.tuple(name, fc.nat(2 ** 32 - 1))),
      fc.boolean(),
      async (root, files, windows) => {
        let bytes = await joined(manifestChunks(root, files));
        const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
        assertEquals(text, [root, ...files.map((row) => row.join("\t")), ""].join("\n"));
        if (windows) bytes = encode(text.replaceAll("\n", "\r\n"));
        const manifest = parseManifest(bytes, "list.tsv");
        assertEquals(manifest.root, root.replace(/^\ufeff/, ""));
        assertEquals(
          files.map((_, i) => [manifest.names.at(i), manifest.lengths[i]]),
          files,
        );
        assertEquals(manifest.names.size, files.length);
      },
    ),
  );
});

Deno.test("a last line without an end counts, and a byte order mark does not", () => {
  const { root, names, lengths } = parse("\ufeff/data\na.npy\t608\nb.npy\t7");
  assertEquals([root, names.at(0), names.at(1), ...lengths], ["/data", "a.npy", "b.npy", 608, 7]);
});

Deno.test("broken lines are refused with file and line number", () => {
  const cases: [string, string][] = [
    ["", "list.tsv, line 1: must hold the root"],
    ["\na\t5\n", "line 1: must hold the root"],
    ["a.npy\t608\nb.npy\t608\n", "line 1: must hold the root folder alone, but has a tab"],
    ["/data\na.npy 608\n", 'line 2: must be PATH, a tab and a length, but is "a.npy 608"'],
    ["/data\na\t1\nb\t\n", "line 3:"],
    ["/data\na\t1\nb\t-4\n", "line 3:"],
    ["/data\na\t1\nb\t4.5\n", "line 3:"],
    ["/data\na\t1\n\t45\n", "line 3:"],
    ["/data\na\t1\n\nb\t45\n", "line 3:"],
    ["/data\na\t4294967296\n", "line 2:"],
  ];
  for (const [text, message] of cases) assertThrows(() => parse(text), NoDataError, message);
  fc.assert(fc.property(fc.nat(50), fc.constantFrom("x", "", "a\tb", "a\t1e3"), (good, bad) => {
    const text = `/data\n${"a.npy\t608\n".repeat(good)}${bad}\n`;
    assertThrows(() => parse(text), NoDataError, `list.tsv, line ${good + 2}:`);
  }));
});

Deno.test("a manifest is read from its root, or from its own folder where that is gone", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, "train.tsv");
    for (const [line, root] of [[dir, dir], ["/nowhere/at/all", dir], [".", join(dir, ".")]]) {
      await Deno.writeTextFile(path, `${line}\na.npy\t5\n`);
      assertEquals((await readManifest(path)).root, root);
    }
    await Deno.writeTextFile(path, "/data\n");
    await assertRejects(() => readManifest(path), NoDataError, "lists no files");
    await assertRejects(() => readManifest(join(dir, "absent.tsv")), NoDataError, "cannot be read");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("a table gives its names back and tells endings in any case", async () => {
  await fc.assert(fc.asyncProperty(fc.array(name, { maxLength: 300 }), async (names) => {
    const table = await NameTable.from(names);
    assertEquals(names.map((_, i) => table.at(i)), names);
    names.forEach((it, i) => assertEquals(table.endsWith(i, ".npy"), /\.npy$/i.test(it)));
  }));
  const table = await NameTable.from(["a.npy", "B.NPY", "npy", "a.npy.wav", "a_npy"]);
  assertEquals([0, 1, 2, 3, 4].map((i) => table.endsWith(i, ".npy")), [
    true,
    true,
    false,
    false,
    false,
  ]);
});

Deno.test("200,000 lines: every clip comes up once in an epoch, and the next epoch has another order", async () => {
  const size = 200_000;
  const rows = Array.from({ length: size }, (_, i) => [`${i % 97}/clip-${i}.npy`, 608] as const);
  const { names } = parseManifest(await joined(manifestChunks("/data", rows)), "list.tsv");
  assertEquals(names.size, size);
  assertEquals([0, 54_321, size - 1].map((i) => names.at(i)), [
    "0/clip-0.npy",
    `${54_321 % 97}/clip-54321.npy`,
    `${(size - 1) % 97}/clip-199999.npy`,
  ]);
  const source = {
    ...fileSource("manifest list.tsv", "/data", names),
    crop: () => Promise.resolve({ kind: "logmel" as const, values: new Float32Array(80) }),
  };
  const loader = new Loader({ source, batch: 1000, cropSamples: 400, seed: 1, ahead: 1 });
  const epochs: number[][] = [[], []];
  for (let batch = 0; batch < 400; batch++) {
    const { clips, epoch } = await loader.next();
    assertEquals(epoch, Math.floor(batch / 200));
    epochs[epoch].push(...clips);
  }
  for (const clips of epochs) {
    const seen = new Uint8Array(size);
    for (const clip of clips) seen[clip]++;
    assert(seen.every((count) => count === 1));
  }
  assert(epochs[0].some((clip, i) => clip !== epochs[1][i]));
});
