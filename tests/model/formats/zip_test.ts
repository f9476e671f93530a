/** Zip archives: read by ranges, written as torch writes them, hostile ones refused. */
import { assertEquals, assertInstanceOf, assertStringIncludes, assertThrows } from "@std/assert";
import { crc32 as runtimeCrc32 } from "node:zlib";
import fc from "fast-check";
import { unzipSync, zipSync } from "fflate";
import { bytesAccess } from "../../../model/formats/stored_tensor.ts";
import { crc32, plainCrc32 } from "../../../model/formats/crc32.ts";
import { MAX_INFLATED, ZipArchive, ZipError } from "../../../model/formats/zip_read.ts";
import { zipChunks } from "../../../model/formats/zip_write.ts";
import { file, joined, raw, SparseBytes, u32 } from "../../support/pickle_bytes.ts";
import { full, test } from "../../support/tier.ts";

test("checksums are the runtime's, and the same in plain TypeScript", () => {
  assertEquals(crc32, runtimeCrc32);
  const check = fc.property(fc.uint8Array({ maxLength: 99 }), fc.nat(0xffff_ffff), (bytes, sum) => {
    assertEquals(plainCrc32(bytes, sum), runtimeCrc32(bytes, sum));
    assertEquals(plainCrc32(bytes.subarray(3), plainCrc32(bytes.subarray(0, 3))), crc32(bytes));
  });
  fc.assert(check, { seed: 1 });
});

const open = (bytes: Uint8Array) => new ZipArchive(bytesAccess(bytes));

function refused(work: () => unknown, part: string): void {
  const error = assertThrows(work) as Error;
  assertInstanceOf(error, ZipError);
  assertEquals(error.name, "ZipError");
  assertStringIncludes(error.message, part);
}

/**
 * A copy with 32-bit fields set: offset from the start of the n-th record with this mark, value.
 */
function changed(
  bytes: Uint8Array,
  mark: string,
  at: number,
  value: number,
  { which = 0, width = 4 } = {},
): Uint8Array {
  const copy = bytes.slice();
  let found = -1;
  for (let i = 0, left = which; i < copy.length - 4; i++) {
    if (mark.split("").every((it, k) => copy[i + k] === it.charCodeAt(0)) && left-- === 0) {
      found = i;
      break;
    }
  }
  assertEquals(found >= 0, true, `no ${JSON.stringify(mark)}`);
  const view = new DataView(copy.buffer);
  if (width === 2) view.setUint16(found + at, value, true);
  else view.setUint32(found + at, value, true);
  return copy;
}

const CENTRAL = "PK\x01\x02", LOCAL = "PK\x03\x04", END = "PK\x05\x06", END64 = "PK\x06\x06";
const LOCATOR = "PK\x06\x07";

const noise = Uint8Array.from({ length: 3000 }, (_, i) => i * 2654435761 >>> 13);
const two = joined(zipChunks([file("a/one", noise), file("a/two", raw("hello"))]));
const packed = zipSync({ one: [new Uint8Array(5000), { level: 9 }], two: [noise, { level: 0 }] });

test("zip: what is written, another library reads, and the other way round", () => {
  const contents = fc.uniqueArray(
    fc.tuple(fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }), fc.uint8Array()),
    { selector: ([name]) => name, maxLength: 6 },
  );
  fc.assert(fc.property(contents, fc.integer({ min: 0, max: 9 }), (list, level) => {
    const own = joined(zipChunks(list.map(([name, bytes]) => file(name, bytes))));
    const theirs = unzipSync(own);
    assertEquals(new Map(Object.entries(theirs)), new Map(list));
    const named = list.filter(([name]) => name !== "__proto__");
    const other = open(zipSync(Object.fromEntries(named), { level: level as 0 }));
    assertEquals(other.entries.size, named.length);
    for (const [name, bytes] of named) assertEquals(other.read(other.entry(name), 1e6), bytes);
  }));
});

test("zip: contents begin at multiples of 64 bytes", () => {
  for (const { offset } of open(two).entries.values()) assertEquals(offset % 64, 0);
});

test("zip: ranges of stored and deflated entries", () => {
  for (
    const [bytes, name, content] of [
      [two, "a/one", noise],
      [packed, "one", new Uint8Array(5000)],
    ] as const
  ) {
    const archive = open(bytes);
    const entry = archive.entry(name);
    assertEquals(joined(archive.range(entry, 0, content.length)), content.slice());
    assertEquals(joined(archive.range(entry, 7, 100)), content.slice(7, 107));
    assertEquals(joined(archive.range(entry, content.length, 0)).length, 0);
    refused(() => joined(archive.range(entry, 1, content.length)), "past the end");
    refused(() => joined(archive.range(entry, -1, 1)), "past the end");
    refused(() => archive.read(entry, 99), "is above 99");
  }
  refused(() => open(two).entry("three"), 'no "three"');
});

test("zip: entries and offsets beyond 4 GiB, by ranges", () => {
  const zeros = new Uint8Array(1 << 24);
  const pieces = 257;
  const large = {
    name: "large",
    size: pieces * zeros.length,
    *chunks() {
      for (let i = 0; i < pieces; i++) yield zeros;
    },
  };
  const source = new SparseBytes(zipChunks([large, file("small", noise)]));
  const archive = new ZipArchive(source);
  assertEquals(archive.entry("large").size, large.size);
  const small = archive.entry("small");
  assertEquals(small.offset > 2 ** 32, true);
  assertEquals(joined(archive.range(small, 0, noise.length)), noise.slice());
  assertEquals(source.asked < 100_000, true, `${source.asked} bytes were read`);
});

test("zip: damage of contents is found by the checksum, also where a range misses it", () => {
  const archive = open(two);
  const damaged = two.slice();
  damaged[archive.entry("a/one").offset + 2999] ^= 1;
  const other = open(damaged);
  const entry = other.entry("a/one");
  refused(() => other.read(entry, 1e6), "is damaged: its checksum is");
  refused(() => joined(other.range(entry, 0, 10)), "is damaged");
  const flipped = changed(packed, CENTRAL, 16, 0);
  refused(() => open(flipped).read(open(flipped).entry("one"), 1e6), "is damaged");
});

test("zip: hostile directories are refused with a reason", () => {
  const large = 0xfffffff0;
  const cases: [Uint8Array, string][] = [
    [new Uint8Array(0), "end record is missing"],
    [raw("PK"), "end record is missing"],
    [two.slice(0, -1), "end record is missing"],
    [raw(END, u32(0), "\x00\x00\x01\x00", u32(0), u32(0), "\x00\x00"), "do not fit a directory"],
    [raw(END, "\x01\x00\x01\x00", u32(0), u32(0), u32(0), "\x00\x00"), "in several parts"],
    [changed(two, LOCATOR, 8, large), "out of place"],
    [changed(two, LOCATOR, 12, large), "out of place"],
    [changed(two, LOCATOR, 8, 0), "Zip64 end record is missing"],
    [changed(two, END64, 32, 1 << 20), "too large"],
    [changed(two, END64, 36, 1 << 30), "too large"],
    [changed(two, END64, 40, large), "too large"],
    [changed(two, END64, 48, large), "reaches past its end record"],
    [changed(two, END64, 32, 1), "of the directory are unused"],
    [changed(two, END64, 32, 3), "directory"],
    [changed(two, CENTRAL, 0, 0), "directory is damaged"],
    [changed(two, CENTRAL, 28, 0xffff, { width: 2 }), "directory is damaged"],
    [changed(two, CENTRAL, 8, 0x0809, { width: 2 }), "is encrypted"],
    [changed(two, CENTRAL, 10, 12, { width: 2 }), "packed by method 12"],
    [changed(two, CENTRAL, 10, 8, { width: 2 }), "does not fit the directory"],
    [changed(two, CENTRAL, 24, 2999), "its two sizes differ"],
    [changed(two, CENTRAL, 20, large), "reaches into the directory"],
    [changed(two, CENTRAL, 42, large), "begins past the directory"],
    [changed(two, CENTRAL, 42, 1), "does not fit the directory"],
    [changed(two, CENTRAL, 42, 0xffffffff), "Zip64 field is missing"],
    [changed(two, CENTRAL, 42, 0, { which: 1 }), "overlaps"],
    [changed(two, LOCAL, 28, 0xffff, { width: 2 }), "reaches into the directory"],
    [changed(packed, CENTRAL, 24, 1 << 30), "claims to inflate"],
    [changed(packed, CENTRAL, 46, 0x80808080), "not UTF-8"],
  ];
  for (const [bytes, part] of cases) refused(() => open(bytes), part);
  const same = joined(zipChunks([file("x", noise), file("x", noise)]));
  refused(() => open(same), '"x" occurs twice');
});

test("zip: a bomb is stopped at the size it claims, and its claim has bounds", () => {
  const zeros = new Uint8Array(1 << 22);
  const bomb = zipSync({ x: [zeros, { level: 9 }] });
  // Claims a quarter of what it inflates to.
  const less = changed(bomb, CENTRAL, 24, zeros.length / 4);
  refused(() => open(less).read(open(less).entry("x"), 1e9), "does not inflate to 1048576");
  const more = changed(bomb, CENTRAL, 24, zeros.length + 1);
  refused(() => open(more).read(open(more).entry("x"), 1e9), "does not inflate to");
  refused(() => open(changed(bomb, CENTRAL, 24, MAX_INFLATED)), "claims to inflate");
  const broken = changed(bomb, LOCAL, 31, 0xffffffff);
  refused(() => open(broken).read(open(broken).entry("x"), 1e9), "not valid deflated data");
});

Deno.test("zip: a damaged archive is read or refused, never anything else", () => {
  const good = fc.constantFrom(two, packed);
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(good, damage, fc.boolean(), fc.nat(), (bytes, changes, cut, length) => {
      const copy = bytes.slice(0, cut ? length % bytes.length : bytes.length);
      // From the end, where the directory is, more than from the start.
      for (const [at, value] of changes) {
        if (copy.length > 0) copy[copy.length - 1 - at % Math.min(copy.length, 400)] = value;
      }
      try {
        const archive = open(copy);
        for (const entry of archive.entries.values()) archive.read(entry, 1e6);
      } catch (error) {
        assertInstanceOf(error, ZipError);
      }
    }),
    { numRuns: full ? 3000 : 100 },
  );
});
