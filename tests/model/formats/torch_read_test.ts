/**
 * Files of torch.save: golden ones read to the bit, written ones read back, hostile ones refused.
 */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { fromFileUrl } from "@std/path";
import fc from "fast-check";
import { PickleDict, PickleTuple, type PickleValue } from "../../../model/formats/pickle_values.ts";
import {
  bytesAccess,
  ITEM_BYTES,
  type StoredTensor,
  storedTensor,
  valuesOf,
  wholeBytes,
} from "../../../model/formats/stored_tensor.ts";
import { readSafetensors, type SafetensorsDtype } from "../../../engine/formats/safetensors.ts";
import {
  isLegacyTorch,
  openTorch,
  TorchError,
  TorchTensor,
  torchTensors,
} from "../../../model/formats/torch_read.ts";
import { torchChunks, TorchDict, type TorchValue } from "../../../model/formats/torch_write.ts";
import {
  archive,
  dictOf,
  int,
  joined,
  raw,
  SparseBytes,
  tensor,
  text,
} from "../../support/pickle_bytes.ts";
import { full, test } from "../../support/tier.ts";

const GOLDEN = fromFileUrl(new URL("../../golden/", import.meta.url));
const golden = (name: string) => Deno.readFileSync(GOLDEN + name);

function tensorsOf(bytes: Uint8Array): Map<string, StoredTensor> {
  return torchTensors(openTorch(bytesAccess(bytes)).value, bytes.length);
}

function dict(value: PickleValue | undefined): PickleDict {
  if (!(value instanceof PickleDict)) throw new Error("no dictionary");
  return value;
}

/** Plain data as the golden JSON shows it. */
function plain(value: PickleValue | undefined): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof PickleTuple) return value.items.map(plain);
  if (value instanceof PickleDict) {
    return Object.fromEntries([...value].map(([key, it]) => [String(key), plain(it)]));
  }
  if (value instanceof TorchTensor) {
    return `tensor [${Array.from(valuesOf(wholeBytes(value), value.dtype)).join(", ")}]`;
  }
  return value;
}

test("torch: views, strides, shared storage and every type, as torch read them", () => {
  const reference = readSafetensors(golden("checkpoint_pt.safetensors")).tensors;
  const expected = JSON.parse(new TextDecoder().decode(golden("checkpoint_pt.json")));
  const file = openTorch(bytesAccess(golden("reader_cases.pt")));
  const tensors = torchTensors(dict(file.value).get("tensors")!, 1e6);
  assertEquals([...tensors.keys()], Object.keys(expected.reader_cases));
  for (const [name, it] of tensors) {
    const wanted = reference.get(`reader.${name}`)!;
    assertEquals(it.shape, wanted.shape, name);
    assertEquals(
      Array.from(valuesOf(wholeBytes(it), it.dtype)),
      Array.from(wanted.data, Number),
      name,
    );
  }
  assertEquals(tensors.get("bfloat16")?.dtype, "BF16");
  assertEquals(plain(dict(file.value).get("nested")), expected.reader_nested);
});

test("torch: a fairseq checkpoint's tensors have the sums that torch found", () => {
  const bytes = golden("matpac_full.pt");
  const model = dict(openTorch(bytesAccess(bytes)).value).get("model")!;
  assertEquals(dict(dict(model).attributes).has("_metadata"), true);
  const tensors = torchTensors(model, bytes.length);
  const expected = JSON.parse(new TextDecoder().decode(golden("checkpoint_pt.json")))
    .model_tensors_in_matpac_full_pt;
  assertEquals(new Set(tensors.keys()), new Set(Object.keys(expected)));
  for (const [name, it] of tensors) {
    const values = Array.from(valuesOf(wholeBytes(it), it.dtype));
    const { sum, l2, first, last } = expected[name];
    assertEquals([values[0], values.at(-1)], [first, last], name);
    // The same float32 values, added in another order in float64.
    const near = (found: number, wanted: number) =>
      assertEquals(Math.abs(found - wanted) <= 1e-10 * (1 + l2 * values.length), true, name);
    near(values.reduce((a, x) => a + x, 0), sum);
    near(Math.sqrt(values.reduce((a, x) => a + x * x, 0)), l2);
  }
});

test("torch: what training programs put beside a model, in protocols 2 and 4", () => {
  for (const name of ["odds.pt", "odds_v4.pt"]) {
    const bytes = golden(`torch/${name}`);
    const { value } = openTorch(bytesAccess(bytes));
    const get = (key: string) => dict(value).get(key);
    assertEquals(plain(get("args")), {
      lr: 0.1,
      device: "cuda",
      betas: [0.9, 0.95],
      out: "/runs/a",
    });
    assertEquals(plain(get("numpy")), [0.25, -1.5, -3, true]);
    assertEquals(get("array"), { what: "numpy array" });
    assertEquals([get("large"), get("negative")], [2n ** 80n, -(2 ** 40)]);
    assertEquals([get("set"), get("frozen")], [new Set([3]), new Set([4])]);
    assertEquals(get("bytes"), new Uint8Array([0, 255]));
    assertEquals(plain(get("counts")), { a: [1, 2] });
    const tensors = torchTensors(value, bytes.length);
    const values = [...tensors].map(([key, it]) => [
      key,
      ...Array.from(valuesOf(wholeBytes(it), it.dtype)),
    ]);
    assertEquals(values, [["model.weight", 0, 1, 2, 3, 4, 5], ["tail", 7, 7]]);
  }
});

const types = Object.keys(ITEM_BYTES).filter((it) => it !== "U32") as SafetensorsDtype[];
const anyTensor = fc.tuple(
  fc.constantFrom(...types),
  fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
  fc.infiniteStream(fc.nat(255)),
).map(([dtype, shape, stream]) => {
  const bytes = shape.reduce((a, b) => a * b, ITEM_BYTES[dtype]);
  return storedTensor(dtype, shape, new Uint8Array([...stream.take(bytes)]));
});

test("torch: what is written is read back, values and nesting", () => {
  const leaf = fc.oneof(
    fc.constantFrom(null, true, false),
    fc.double({ noNaN: true }).filter((it) => !Object.is(it, -0)),
    fc.maxSafeInteger(),
    fc.string({ unit: "grapheme" }),
  );
  const tensors = fc.uniqueArray(fc.tuple(fc.string(), anyTensor), { selector: ([key]) => key });
  fc.assert(fc.property(tensors, fc.array(leaf), fc.boolean(), (list, others, ordered) => {
    const inner: [string, TorchValue][] = list;
    const value = new TorchDict([["m", new TorchDict(inner, ordered)], ["o", others]]);
    const bytes = joined(torchChunks(value, "x"));
    const file = openTorch(bytesAccess(bytes));
    assertEquals(file.prefix, "x");
    const root = dict(file.value);
    assertEquals(dict(root.get("m")).kind, ordered ? "OrderedDict" : "dict");
    assertEquals(root.get("o"), others);
    for (const [key, it] of list) {
      const back = dict(root.get("m")).get(key) as unknown as StoredTensor;
      assertEquals([back.dtype, back.shape], [it.dtype, it.shape]);
      assertEquals(wholeBytes(back), wholeBytes(it));
    }
  }));
});

test("torch: a type that torch has no storage for is refused", () => {
  const one = storedTensor("U32", [1], new Uint8Array(4));
  assertThrows(() => joined(torchChunks(one)), TorchError, "no storage for U32");
});

test("torch: any strides give what an index loop gives", () => {
  const axis = fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 9 }));
  fc.assert(fc.property(fc.array(axis, { maxLength: 4 }), fc.nat(5), (axes, offset) => {
    const shape = axes.map(([size]) => size), strides = axes.map(([, stride]) => stride);
    const storage = Float32Array.from({ length: 150 }, (_, i) => i);
    const bytes = archive(
      dictOf({ t: tensor({ size: int(150), offset: int(offset), shape, strides }) }),
      { 0: new Uint8Array(storage.buffer) },
    );
    let places = [offset];
    for (const [size, stride] of axes) {
      places = places.flatMap((it) => Array.from({ length: size }, (_, i) => it + i * stride));
    }
    const it = tensorsOf(bytes).get("t")!;
    assertEquals(Array.from(valuesOf(wholeBytes(it), "F32")), places);
  }));
});

test("torch: hostile tensors are refused with a reason", () => {
  const cases: [Parameters<typeof tensor>[0], string][] = [
    [{ shape: [5] }, "reaches past its storage"],
    [{ shape: [2], strides: [4] }, "reaches past its storage"],
    [{ shape: [4], offset: int(1) }, "reaches past its storage"],
    [{ shape: [0], strides: [1], offset: int(5) }, "reaches past its storage"],
    [{ shape: [4], offset: int(-1) }, "a tensor's offset is -1"],
    [{ shape: [2], strides: [-1] }, "a tensor's strides is -1"],
    [{ shape: [-4] }, "a tensor's shape is -4"],
    [{ shape: [2, 2], strides: [1] }, "2 axes but 1 strides"],
    [{ shape: Array(65).fill(1), strides: Array(65).fill(1) }, "65 axes"],
    [{ shape: Array(5).fill(2 ** 30), strides: Array(5).fill(2 ** 30) }, "too large"],
    [{ offset: "G\x7f\xf0\0\0\0\0\0\0" }, "offset is Infinity"],
    [{ offset: "\x8a\x09" + "\xff".repeat(8) + "\x00" }, "offset is a number"],
    [{ offset: text("0") }, "offset is a string"],
    [{ size: int(5) }, "is to have 20 bytes but has 16"],
    [{ size: int(3) }, "is to have 12 bytes but has 16"],
    [{ size: int(-4) }, "the size of a storage is -4"],
    [{ type: "DoubleStorage" }, "is to have 32 bytes"],
    [{ key: "1" }, 'no "a/data/1"'],
    [{ key: "../version" }, 'no "a/data/../version"'],
    [{ type: "ComplexFloatStorage" }, "torch.ComplexFloatStorage"],
  ];
  for (const [words, part] of cases) {
    const error = assertThrows(() => tensorsOf(archive(dictOf({ t: tensor(words) })))) as Error;
    assertStringIncludes(`${error.name}: ${error.message}`, part);
    assertEquals(["TorchError", "ZipError", "PickleError"].includes(error.name), true, error.name);
  }
});

test("torch: values repeated beyond reason and endless containers are refused", () => {
  const wide = tensor({ shape: [2 ** 20, 2 ** 20], strides: [0, 0] });
  const refused = (pickle: Uint8Array, part: string) =>
    assertThrows(() => tensorsOf(archive(pickle)), TorchError, part);
  refused(dictOf({ t: wide }), "its tensors come to more than");
  const some = tensor({ shape: [2 ** 20], strides: [0] });
  const many = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [String(i), some]));
  refused(dictOf(many), "its tensors come to more than");
  // A list in itself; ten lists, each of ten times the one before; lists in lists.
  refused(raw("\x80\x02]q\x00h\x00a."), "contain themselves");
  const levels = Array.from(
    { length: 10 },
    (_, i) => `](${`h${String.fromCharCode(i)}`.repeat(10)}eq${String.fromCharCode(i + 1)}`,
  );
  refused(raw("\x80\x02]q\x000", levels.join("0"), "."), "values");
  refused(raw("\x80\x02", "]".repeat(1000), "a".repeat(999), "."), "nest too deep");
  refused(
    dictOf({ "a.b": tensor(), a: `}${text("b")}${tensor()}s` }),
    'two tensors are called "a.b"',
  );
});

test("torch: other archives are told apart", () => {
  const other = joined(torchChunks(new TorchDict([])));
  const renamed = other.map((it) => it);
  // "data.pkl" to "data.pkm" wherever it stands.
  for (let i = 0; i < renamed.length - 8; i++) {
    if (String.fromCharCode(...renamed.subarray(i, i + 8)) === "data.pkl") renamed[i + 7]++;
  }
  assertThrows(() => openTorch(bytesAccess(renamed)), TorchError, "no data.pkl");
  assertEquals(isLegacyTorch(raw("\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")), true);
  assertEquals(isLegacyTorch(other), false);
});

test("torch: a tensor beyond 4 GiB is read alone", () => {
  const zeros = new Uint8Array(1 << 24);
  const pieces = 257;
  const large: StoredTensor = {
    dtype: "U8",
    shape: [pieces * zeros.length],
    *chunks() {
      for (let i = 0; i < pieces; i++) yield zeros;
    },
  };
  const small = storedTensor("I32", [2], new Uint8Array([1, 0, 0, 0, 2, 0, 0, 0]));
  const source = new SparseBytes(torchChunks(new TorchDict([["large", large], ["small", small]])));
  const tensors = torchTensors(openTorch(source).value, source.size);
  assertEquals(tensors.get("large")?.shape, large.shape);
  assertEquals(wholeBytes(tensors.get("small")!), wholeBytes(small));
  assertEquals(source.asked < 200_000, true, `${source.asked} bytes were read`);
});

Deno.test("torch: a damaged file is read or refused, never anything else", () => {
  const files = ["reader_cases.pt", "torch/odds.pt", "torch/odds_v4.pt"].map(golden);
  const expected = new Set(["TorchError", "ZipError", "PickleError"]);
  fc.assert(
    fc.property(
      fc.constantFrom(...files),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }),
      fc.option(fc.nat()),
      (good, changes, cut) => {
        const bytes = good.slice(0, cut === null ? good.length : cut % good.length);
        for (const [at, value] of changes) if (bytes.length > 0) bytes[at % bytes.length] = value;
        try {
          for (const it of tensorsOf(bytes).values()) wholeBytes(it);
        } catch (error) {
          assertEquals(error instanceof Error && expected.has(error.name), true, String(error));
        }
      },
    ),
    { numRuns: full ? 3000 : 100 },
  );
  // The checksum would refuse nearly all of that; past it, the program itself is damaged.
  const pickle = dictOf({
    a: tensor(),
    b: `](${int(1)}${text("x")}e`,
    c: tensor({ shape: [2, 2], strides: [2, 1] }),
  });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(pickle.length - 1), fc.nat(255)), { maxLength: 3 }),
      (changes) => {
        const bytes = pickle.slice();
        for (const [at, value] of changes) bytes[at] = value;
        try {
          for (const it of tensorsOf(archive(bytes)).values()) wholeBytes(it);
        } catch (error) {
          assertEquals(error instanceof Error && expected.has(error.name), true, String(error));
        }
      },
    ),
    { numRuns: full ? 3000 : 100 },
  );
});
