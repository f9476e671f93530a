/** Safetensors: headers and values written and read, damaged files refused. */
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertNotMatch,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import {
  encodeHeader,
  headerLength,
  MAX_HEADER_BYTES,
  parseHeader,
  readSafetensors,
  SafetensorsError,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../../engine/formats/safetensors.ts";
import { full, test } from "../../support/tier.ts";

const encoder = new TextEncoder();

/** A file with this header text and so many bytes behind it. */
function file(header: string, dataBytes: number, length?: bigint): Uint8Array {
  const text = encoder.encode(header);
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

function rejected(bytes: Uint8Array): string {
  const error = assertThrows(() => readSafetensors(bytes)) as Error;
  assertInstanceOf(error, SafetensorsError);
  return error.message;
}

function slot(dtype: string, shape: unknown, offsets: unknown): string {
  return JSON.stringify({ dtype, shape, data_offsets: offsets });
}

const number = fc.integer({ min: -128, max: 127 });
const tensor: fc.Arbitrary<SafetensorsTensor> = fc.tuple(
  fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
  fc.constantFrom("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U32", "U8", "BOOL"),
  fc.infiniteStream(number),
).map(([shape, dtype, values]) => {
  const count = shape.reduce((a, b) => a * b, 1);
  const list = [...values.take(count)];
  const make = {
    F64: () => new Float64Array(list.map((it) => it / 3)),
    F32: () => new Float32Array(list.map((it) => it / 3)),
    F16: () => new Uint16Array(list),
    BF16: () => new Uint16Array(list),
    I64: () => new BigInt64Array(list.map((it) => BigInt(it) << 40n)),
    I32: () => new Int32Array(list),
    I16: () => new Int16Array(list),
    I8: () => new Int8Array(list),
    U32: () => new Uint32Array(list),
    U8: () => new Uint8Array(list),
    BOOL: () => new Uint8Array(list.map((it) => it & 1)),
  } as const;
  return { dtype, shape, data: make[dtype]() };
});
const name = fc.string({ unit: "grapheme" }).filter((it) => it !== "__metadata__");
const entries = fc.uniqueArray(fc.tuple(name, tensor), { selector: ([it]) => it, maxLength: 6 });
const metadata = fc.dictionary(fc.string(), fc.string(), { maxKeys: 4, noNullPrototype: true })
  .filter((it) => !Object.hasOwn(it, "__proto__"));

test("safetensors: what is written is read back, at any position in memory", () => {
  fc.assert(fc.property(entries, metadata, fc.integer({ min: 0, max: 7 }), (list, text, shift) => {
    const bytes = writeSafetensors(list, text);
    const moved = new Uint8Array(bytes.length + shift).subarray(shift);
    moved.set(bytes);
    const back = readSafetensors(moved);
    assertEquals(back.metadata, text);
    assertEquals([...back.tensors].filter(([, it]) => it.data.length > 0), [
      ...list.filter(([, it]) => it.data.length > 0),
    ]);
    assertEquals(new Set(back.tensors.keys()), new Set(list.map(([it]) => it)));
  }));
});

test("safetensors: the exact bytes of a small file", () => {
  const bytes = writeSafetensors(
    [["b", { dtype: "F32", shape: [1, 2], data: new Float32Array([1, -2]) }], [
      "1",
      { dtype: "U8", shape: [3], data: new Uint8Array([7, 8, 9]) },
    ]],
    { step: "3" },
  );
  const header = '{"__metadata__":{"step":"3"},' +
    '"b":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},' +
    '"1":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}';
  const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
  const expected = file(padded, 11);
  expected.set([0, 0, 128, 63, 0, 0, 0, 192, 7, 8, 9], 8 + padded.length);
  assertEquals(bytes, expected);
});

test("safetensors: the header can be read alone", () => {
  const one: SafetensorsTensor = { dtype: "I16", shape: [2], data: new Int16Array([1, 2]) };
  const bytes = encodeHeader([["x", one]]);
  const length = headerLength(bytes.subarray(0, 8), bytes.length + 4);
  assertEquals((8 + length) % 8, 0);
  const { slots } = parseHeader(bytes.subarray(8), 4);
  assertEquals(slots.get("x"), { dtype: "I16", shape: [2], begin: 0, end: 4 });
});

test("safetensors: refuses to write what does not fit together", () => {
  const one: SafetensorsTensor = { dtype: "F32", shape: [2], data: new Float32Array(2) };
  const write = (list: [string, SafetensorsTensor][]) => () => writeSafetensors(list);
  assertThrows(write([["a", one], ["a", one]]), SafetensorsError, '"a" occurs twice');
  assertThrows(write([["__metadata__", one]]), SafetensorsError, "occurs twice");
  assertThrows(
    write([["a", { ...one, shape: [3] }]]),
    SafetensorsError,
    "needs 3 values but has 2",
  );
  assertThrows(write([["a", { ...one, dtype: "I32" }]]), SafetensorsError, "Float32Array");
});

test("safetensors: hostile headers are refused with a reason", () => {
  const f32 = (shape: unknown, offsets: unknown) => `{"a":${slot("F32", shape, offsets)}}`;
  const cases: [bytes: Uint8Array, part: string][] = [
    [new Uint8Array(0), "it is empty"],
    [new Uint8Array(7), "too short"],
    [file("{}", 0, 3n), "past the end"],
    [file("{}", 0, 2n ** 64n - 1n), "header length"],
    [file("{}", 0, BigInt(MAX_HEADER_BYTES) + 1n), "is above"],
    [file("", 0), "not valid JSON"],
    [file("{", 0), "not valid JSON"],
    [file("[]", 0), "not a JSON object"],
    [file("null", 0), "not a JSON object"],
    [file('{"__metadata__":{"a":1}}', 0), "__metadata__"],
    [file('{"__metadata__":["a"]}', 0), "__metadata__"],
    [file('{"a":3}', 0), "is not an object"],
    [file(`{"a":${slot("F31", [1], [0, 4])}}`, 4), "unknown dtype"],
    [file(`{"a":${slot("toString", [1], [0, 4])}}`, 4), "unknown dtype"],
    [file('{"a":{"dtype":"F32","data_offsets":[0,4]}}', 4), "bad shape"],
    [file(f32([-1], [0, 4]), 4), "bad shape"],
    [file(f32([1.5], [0, 4]), 4), "bad shape"],
    [file(f32([1e300], [0, 4]), 4), "bad shape"],
    [file(`{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}`, 4), "bad shape"],
    [file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,-1e999]}}`, 4), "bad offsets"],
    [file(`{"a":${slot("F32", [1], [0, 4])},"a":${slot("F32", [1], [0, 4])}}`, 4), "occurs twice"],
    [file('{"__metadata__":{"k":"1","k":"2"}}', 0), "occurs twice"],
    [file('{"__metadata__":{},"__metadata__":{}}', 0), "occurs twice"],
    [file(`{"a":{"x":{"y":{}},"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), "nest"],
    [file(f32([1], [0, 8]), 4), "past the end of the data"],
    [file(f32([1], [4, 0]), 4), "bad offsets"],
    [file(f32([1], [0]), 4), "bad offsets"],
    [file(f32([1], [0, 4, 8]), 4), "bad offsets"],
    [file(f32([1], [-4, 0]), 4), "bad offsets"],
    [file(f32([2], [0, 4]), 4), "needs 8 bytes"],
    [file(f32([2 ** 40, 2 ** 40], [0, 4]), 4), "bytes but its offsets hold 4"],
    [file(f32([1], [0, 4]), 8), "4 bytes after the last tensor are unused"],
    [file(f32([1], [4, 8]), 8), "are unused"],
    [
      file(`{"a":${slot("F32", [2], [0, 8])},"b":${slot("F32", [2], [4, 12])}}`, 12),
      '"b" overlaps',
    ],
  ];
  for (const [bytes, part] of cases) assertStringIncludes(rejected(bytes), part);
  const invalidUtf8 = file("{  }", 0);
  invalidUtf8.set([0xff], 9);
  assertStringIncludes(rejected(invalidUtf8), "not valid JSON");
});

test("safetensors: headers of many, long or deep values are refused before they are built", () => {
  const long = "x".repeat(2_000_000);
  const cases: [json: string, part: string][] = [
    ["[".repeat(2_000_000), "nests too deep"],
    [`{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`, "nests too deep"],
    [`{"a":[${"0,".repeat(2_200_000)}0]}`, "more than 2097152 values"],
    [
      `{"a":${slot("F32", Array(65).fill(1), [0, 4])}}`,
      "bad shape [1, 1, 1, 1, 1, 1, 1, 1, … (65)]",
    ],
    [`{"a":${slot(long, [1], [0, 4])}}`, "unknown dtype"],
    [`{"a":${slot("F32", long, [0, 4])}}`, "bad shape"],
    [`{"a":${slot("F32", [[1]], [0, 4])}}`, "nests too deep"],
    [`{"${long}":${slot("U8", [0], [0, 0])}}`, "is too long"],
    ['{"\\u001b[31m\\n":3}', "is not an object"],
  ];
  for (const [json, part] of cases) {
    const message = rejected(file(json, 0));
    assertStringIncludes(message, part);
    assert(message.length < 400, message.slice(0, 400));
    assertNotMatch(message, /\p{Cc}/u);
  }
});

test("safetensors: colons and escapes in names and texts are no pairs", () => {
  const list: [string, SafetensorsTensor][] = ["a:b", '"', '\\":', "\\"].map((it) => [
    it,
    { dtype: "U8", shape: [1], data: new Uint8Array([1]) },
  ]);
  const back = readSafetensors(writeSafetensors(list, { 'k":': '{"x":{"y":1}}' }));
  assertEquals([...back.tensors.keys()], list.map(([it]) => it));
});

test("safetensors: names such as __proto__ are plain names", () => {
  const back = readSafetensors(file(`{"__proto__":${slot("U8", [1], [0, 1])}}`, 1));
  assertEquals([...back.tensors.keys()], ["__proto__"]);
});

Deno.test("safetensors: a damaged file is read or refused, never anything else", () => {
  const good = writeSafetensors([
    ["a", { dtype: "F32", shape: [2, 2], data: new Float32Array([1, 2, 3, 4]) }],
    ["b", { dtype: "I64", shape: [1], data: new BigInt64Array([5n]) }],
  ], { k: "v" });
  const position = fc.integer({ min: 0, max: good.length - 1 });
  const damage = fc.tuple(position, fc.integer({ min: 0, max: 255 }), fc.nat(good.length));
  fc.assert(
    fc.property(damage, ([at, value, length]) => {
      const bytes = good.slice(0, length);
      if (at < bytes.length) bytes[at] = value;
      try {
        for (const { shape, data } of readSafetensors(bytes).tensors.values()) {
          assertEquals(shape.reduce((a, b) => a * b, 1), data.length);
        }
      } catch (error) {
        assertInstanceOf(error, SafetensorsError);
      }
    }),
    { numRuns: full ? 500 : 100 },
  );
});
