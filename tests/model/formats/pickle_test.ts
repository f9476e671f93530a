/** The unpickler: plain data comes out, everything else is refused with one clear error. */
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertNotMatch,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { PICKLE_LIMITS, unpickle } from "../../../model/formats/pickle.ts";
import {
  PickleDict,
  PickleError,
  PickleTuple,
  type PickleValue,
} from "../../../model/formats/pickle_values.ts";
import { dictOf, int, raw, text, u32 } from "../../support/pickle_bytes.ts";
import { full, test } from "../../support/tier.ts";

const read = (...parts: readonly string[]) => unpickle(raw("\x80\x02", ...parts, "."));

function refused(bytes: Uint8Array, part: string): void {
  const error = assertThrows(() => unpickle(bytes)) as Error;
  assertInstanceOf(error, PickleError);
  assertEquals(error.name, "PickleError");
  assertStringIncludes(error.message, part);
}

test("pickle: every kind of plain value", () => {
  assertEquals(read("N"), null);
  assertEquals(read("\x88"), true);
  assertEquals(read(int(-7)), -7);
  assertEquals(read("K\xff"), 255);
  assertEquals(read("M\x01\x02"), 513);
  assertEquals(read("\x8a\x00"), 0);
  assertEquals(read("\x8a\x01\x80"), -128);
  assertEquals(read("\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00"), 2n ** 64n - 1n);
  assertEquals(read("G\x3f\xb9\x99\x99\x99\x99\x99\x9a"), 0.1);
  assertEquals(read("X\x03\x00\x00\x00h\xc3\xa9"), "hé");
  assertEquals(read("U\x02ab"), "ab");
  assertEquals(read("C\x02\x00\xff"), new Uint8Array([0, 255]));
  assertEquals(read("K\x01K\x02\x86"), new PickleTuple([1, 2]));
  assertEquals(read("(K\x01K\x02K\x03K\x04t"), new PickleTuple([1, 2, 3, 4]));
  assertEquals(read("](K\x01]K\x02ae"), [1, [2]]);
  assertEquals(read("]q\x050K\x01h\x05\x86"), new PickleTuple([1, []]));
  assertEquals(read("cargparse\nNamespace\n)\x81}X\x01\x00\x00\x00aK\x05sb"), namespace());
  // Protocol 4: framed, memoized, names from the stack.
  const four = raw(
    "\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x0bcollections\x94\x8c\x0bOrderedDict",
    "\x94\x93\x94)R\x94\x8c\x01k\x8f(K\x01\x90s.",
  );
  const ordered = new PickleDict("OrderedDict");
  ordered.set("k", new Set([1]));
  assertEquals(unpickle(four), ordered);
});

function dict(value: PickleValue): PickleDict {
  if (!(value instanceof PickleDict)) throw new Error("no dictionary");
  return value;
}

function namespace(): PickleDict {
  const dict = new PickleDict("Namespace");
  dict.set("a", 5);
  return dict;
}

test("pickle: state given to an OrderedDict stays beside its entries", () => {
  const value = read(
    "ccollections\nOrderedDict\n)R",
    text("k"),
    "K\x01s}",
    text("_metadata"),
    "Nsb",
  );
  assertEquals([...dict(value)], [["k", 1]]);
  assertEquals([...dict(dict(value).attributes).keys()], ["_metadata"]);
});

test("pickle: names such as __proto__ are plain keys", () => {
  const value = unpickle(dictOf({ __proto__x: "N", ["__proto__"]: int(1), constructor: int(2) }));
  assertEquals([...dict(value).keys()], ["__proto__x", "__proto__", "constructor"]);
  assertEquals(Object.getPrototypeOf(value), PickleDict.prototype);
});

test("pickle: globals that are not on the list are refused by name", () => {
  for (
    const [module, name] of [
      ["os", "system"],
      ["posix", "system"],
      ["builtins", "eval"],
      ["builtins", "getattr"],
      ["__builtin__", "exec"],
      ["torch.hub", "load"],
      ["numpy.testing._private.utils", "runstring"],
      ["collections", "__class__"],
      ["__proto__", "toString"],
    ]
  ) {
    const message = `"${module}.${name}", which is not on the list`;
    refused(raw(`\x80\x02c${module}\n${name}\n${text("id")}\x85R.`), message);
    refused(raw("\x80\x04", text(module), text(name), "\x93."), message);
  }
  refused(raw("\x80\x02c", "x".repeat(2000), "\ny\n."), "a name has no end");
});

test("pickle: only what may be called is called", () => {
  refused(raw("\x80\x02", text("print"), ")R."), "a string that cannot be called");
  refused(raw("\x80\x02c__builtin__\nint\n)R."), "a global that cannot be called");
  refused(raw("\x80\x02cargparse\nNamespace\n)R."), "cannot be called");
  refused(raw("\x80\x02ccollections\nOrderedDict\n)\x81."), "an object of a global is made");
  refused(raw("\x80\x02ccollections\nOrderedDict\n]R."), "arguments are a list");
  refused(raw("\x80\x02]}b."), "state is given to a list");
  refused(raw("\x80\x02", text("x"), "Q."), "refers to data outside");
  // NEWOBJ_EX, INST, OBJ, EXT1, PERSID and the text opcodes of protocol 0.
  for (const opcode of ["\x92", "i", "o", "\x82", "P", "I", "S", "V", "F", "L", "p", "g"]) {
    refused(raw("\x80\x02", opcode, "1\n1\n."), "is not one that is read here");
  }
});

test("pickle: damaged and boundless programs end with an error", () => {
  const cases: [Uint8Array, string][] = [
    [raw(""), "ends at 0"],
    [raw("\x80\x02"), "ends at 2"],
    [raw("\x80\x02N"), "ends at 3"],
    [raw("\x80\x09N."), "protocol 9"],
    [raw("\x80\x02."), "a value is missing"],
    [raw("\x80\x02NN."), "1 values are left behind"],
    [raw("\x80\x02(."), "a value is missing"],
    [raw("\x80\x02t."), "a mark is missing"],
    [raw("\x80\x02h\x07."), "value 7 was never remembered"],
    [raw("\x80\x02q\x00."), "a value is missing"],
    [raw("\x80\x02X\xff\xff\xff\x00abc."), "to follow"],
    [raw("\x80\x02X\xff\xff\xff\xffabc."), "too long"],
    [raw("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), "too long"],
    [raw("\x80\x02\x8b", u32(257), "x".repeat(257), "."), "too long"],
    [raw("\x80\x02X\x01\x00\x00\x00\xff."), "not UTF-8"],
    [raw("\x80\x02}(K\x01u."), "a key has no value"],
    [raw("\x80\x02}]Ns."), "a list is used as a key"],
    [raw("\x80\x02NK\x01a."), "appended to None"],
    [raw("\x80\x02](K\x01\x90."), "added to a list"],
    [dictOf({}).with(2, 0x5d), "entries are given to a list"],
    [raw("\x80\x02}", text("k"), "Ns", text("k"), "Ns."), 'the key "k" occurs twice'],
    [raw("\x80\x02", "(".repeat(2000), "."), "nest deeper"],
    [raw("\x80\x02", "N".repeat(1_100_000), "."), "wait on the stack"],
    [raw("\x80\x02", "N0".repeat(1_100_000), "."), "more than 1000000 values"],
    [raw("\x80\x02", "(1".repeat(2_100_000), "."), "more than 4000000 steps"],
    [new Uint8Array(PICKLE_LIMITS.bytes + 1), "bytes are more than"],
  ];
  for (const [bytes, part] of cases) refused(bytes, part);
});

test("pickle: calling with one long list again and again is bounded", () => {
  const list = `](${"N".repeat(100_000)}eq\x00`;
  const again = "0c__builtin__\nset\nh\x00\x85R".repeat(1000);
  refused(raw("\x80\x02", list, again, "."), "go through too much");
  const path = `${text("x".repeat(60_000))}q\x00`;
  const longer = "cpathlib\nPosixPath\nh\x00h\x00\x86R";
  refused(raw("\x80\x02", path, longer, "."), "a path is too long");
});

test("pickle: what is no text is never made one, however much it stands for", () => {
  // A list of two that hold the one below twice, 60 levels up: 2^60 numbers in 800 bytes.
  const level = "0](h\x00h\x00eq\x00";
  const doubled = `](K\x01K\x01eq\x00${level.repeat(60)}`;
  const deep = "]".repeat(100_000) + "a".repeat(99_999);
  for (const value of [doubled, deep]) {
    refused(raw("\x80\x04", value, text("x"), "\x93."), "names a string in a list");
    refused(raw("\x80\x04", text("x"), value, "\x93."), "names a list in a string");
    refused(raw("\x80\x04", value, ")R."), "a list that cannot be called");
    refused(raw("\x80\x04", text("f"), value, "R."), "arguments are a list");
    refused(raw("\x80\x04}", value, "Ns."), "a list is used as a key");
    refused(raw("\x80\x04}", value, "\x85q\x01Nsh\x01Ns."), "the key a tuple");
    refused(raw("\x80\x04cargparse\nNamespace\n)\x81", value, "b."), "Namespace is a list");
  }
});

test("pickle: messages stay short and on one line, whatever the file says", () => {
  const long = "\x1b[31m\n".repeat(100_000);
  const bytes = `B${u32(1_000_000)}${"y".repeat(1_000_000)}`;
  for (
    const program of [
      `${text(long)}${text("x")}\x93.`,
      `${text("a\n\x1b]0;b")}${text("x")}\x93.`,
      `}${text(long)}Ns${text(long)}Ns.`,
      `}${bytes}q\x00Nsh\x00Ns.`,
      `}\x8a\xff${"\x7f".repeat(255)}Ns\x8a\xff${"\x7f".repeat(255)}Ns.`,
      "cos\x1b[2J\nsystem\n.",
    ]
  ) {
    const error = assertThrows(() => unpickle(raw("\x80\x04", program)));
    assertInstanceOf(error, PickleError);
    assert(error.message.length < 1000, error.message.slice(0, 1000));
    assertNotMatch(error.message, /\p{Cc}/u);
  }
});

test("pickle: deep nesting takes no stack of the host", () => {
  const deep = 200_000;
  let value = unpickle(raw("\x80\x02", "]".repeat(deep), "a".repeat(deep - 1), "."));
  let depth = 0;
  while (Array.isArray(value) && value.length > 0) {
    value = value[0];
    depth++;
  }
  assertEquals(depth, deep - 1);
});

Deno.test("pickle: any bytes are read or refused, never anything else", () => {
  const opcodes = fc.constantFrom(
    ..."(.01NJKMGXUCtqrhjcRbQ]}aesud)l2",
    ..."\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8f\x90\x91\x93\x94\x95",
    "ccollections\nOrderedDict\n",
    "cnumpy\ndtype\n",
    "cnumpy.core.multiarray\nscalar\n",
    "c_codecs\nencode\n",
    "cargparse\nNamespace\n",
    text("f8"),
    int(3),
    "(K\x03U\x01<NNt",
  );
  fc.assert(
    fc.property(fc.array(opcodes, { maxLength: 60 }), (parts) => {
      try {
        unpickle(raw("\x80\x02", ...parts, "."));
      } catch (error) {
        assertInstanceOf(error, PickleError);
      }
    }),
    { numRuns: full ? 2000 : 100 },
  );
});
