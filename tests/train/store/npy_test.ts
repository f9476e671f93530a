/** .npy headers and values against the format's description, byte by byte. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  decodeValues,
  encodeValues,
  ITEM_BYTES,
  NpyError,
  npyFileBytes,
  npyHeader,
  parseNpyHeader,
} from "../../../train/io/npy.ts";
import { full, test } from "../../support/tier.ts";

/** A header put together by hand: magic, version, length, text, spaces, line feed. */
function handmade(text: string, version = 1): Uint8Array {
  const fixed = version === 1 ? 10 : 12;
  const length = Math.ceil((fixed + text.length + 1) / 64) * 64 - fixed;
  const bytes = new Uint8Array(fixed + length).fill(0x20);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, version, 0]);
  bytes.set(
    version === 1 ? [length & 255, length >> 8] : [length & 255, length >> 8, 0, 0],
    8,
  );
  bytes.set(new TextEncoder().encode(text), fixed);
  bytes[bytes.length - 1] = 0x0a;
  return bytes;
}

/** An IEEE 754 number from its bits, by the definition. */
function fromBits(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >>> (exponentBits + fractionBits) & 1 ? -1 : 1;
  const exponent = bits >>> fractionBits & (2 ** exponentBits - 1);
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  return exponent === 0
    ? sign * fraction * 2 ** (1 - bias)
    : sign * (1 + fraction) * 2 ** (exponent - bias);
}

test("the header is what NumPy 2.4 writes for zeros((80, 5), float32)", () => {
  const text = "{'descr': '<f4', 'fortran_order': False, 'shape': (80, 5), }";
  assertEquals(npyHeader([80, 5], "f32"), handmade(text));
  assertEquals(npyHeader([80, 5], "f32").length, 128);
});

test("headers go through writing and reading, and files have their size", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(5000), { maxLength: 4 }),
      fc.constantFrom("f32" as const, "f16" as const),
      (shape, dtype) => {
        const bytes = npyHeader(shape, dtype);
        assertEquals(bytes.length % 64, 0);
        const header = parseNpyHeader(bytes);
        assertEquals(header, { dtype, shape, offset: bytes.length });
        const count = shape.reduce((product, axis) => product * axis, 1);
        assertEquals(npyFileBytes(header) - bytes.length, count * (dtype === "f32" ? 4 : 2));
      },
    ),
  );
});

test("values are little-endian IEEE 754, bit for bit", () => {
  for (const [dtype, exponent, fraction] of [["f32", 8, 23], ["f16", 5, 10]] as const) {
    const width = ITEM_BYTES[dtype];
    const finite = fc.integer({ min: 0, max: 2 ** (8 * width) - 1 })
      .filter((bits) => (bits >>> fraction & (2 ** exponent - 1)) !== 2 ** exponent - 1);
    fc.assert(fc.property(fc.array(finite), fc.nat(3), (bits, shift) => {
      const bytes = new Uint8Array(shift + width * bits.length);
      bits.forEach((value, i) => {
        for (let b = 0; b < width; b++) bytes[shift + i * width + b] = value >>> (8 * b);
      });
      const values = decodeValues(bytes.subarray(shift), dtype);
      const expected = bits.map((value) => fromBits(value, exponent, fraction));
      assertEquals([...values], expected);
      assertEquals([...encodeValues(Float32Array.from(expected), dtype)], [
        ...bytes.subarray(shift),
      ]);
    }));
  }
});

test("headers of other writers are read: versions 2 and 3, other order, quotes, spaces", () => {
  const dicts = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (80, 5), }",
    "{'shape':(80,5),'fortran_order':False,'descr':'<f4'}",
    '{ "fortran_order" : False , "descr" : "<f4" , "shape" : ( 80L , 5L ) }',
  ];
  for (const dict of dicts) {
    for (const version of [1, 2, 3]) {
      const bytes = handmade(dict, version);
      assertEquals(parseNpyHeader(bytes), { dtype: "f32", shape: [80, 5], offset: bytes.length });
    }
  }
  assertEquals(parseNpyHeader(handmade(dicts[0].replace("(80, 5)", "(7,)"))).shape, [7]);
});

test("what cannot be used is refused with what is wrong", () => {
  const dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (80, 5), }";
  const cases: [Uint8Array, string][] = [
    [new Uint8Array(0), "not a .npy file"],
    [new TextEncoder().encode("RIFF....WAVE"), "not a .npy file"],
    [handmade(dict).subarray(0, 9), "cut off"],
    [handmade(dict).subarray(0, 100), "cut off"],
    [handmade(dict, 4), "version 4.0"],
    [handmade(dict.replace("<f4", ">f4")), "type >f4"],
    [handmade(dict.replace("<f4", "<f8")), "type <f8"],
    [handmade(dict.replace("'<f4'", "[('a', '<f4')]")), "must be <f4 or <f2"],
    [handmade(dict.replace("False", "True")), "Fortran"],
    [handmade(dict.replace("(80, 5)", "80")), '"shape"'],
    [handmade(dict.replace("'shape'", "'form'")), '"shape"'],
    [handmade("pickle"), "no usable"],
  ];
  for (const [bytes, message] of cases) {
    assertThrows(() => parseNpyHeader(bytes), NpyError, message);
  }
});

Deno.test("no mutation of a header does anything but give a header or an NpyError", () => {
  const good = npyHeader([80, 608], "f32");
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.nat(good.length),
      (changes, length) => {
        const bytes = good.slice(0, length);
        for (const [at, value] of changes) if (at < length) bytes[at] = value;
        try {
          const { shape, offset } = parseNpyHeader(bytes);
          assert(shape.every((axis) => axis >= 0) && offset <= length);
        } catch (error) {
          assert(error instanceof NpyError, String(error));
        }
      },
    ),
    { numRuns: full ? 2000 : 100 },
  );
});
