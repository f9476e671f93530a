/** The textual generator in front of WGSL. */
import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { KernelError } from "../../engine/mod.ts";
import { evaluate, expand } from "../../engine/template.ts";

Deno.test("loops repeat, nest and replace names and expressions", () => {
  const source = [
    "//:for i in 0..2",
    "a$i = b${i*4+1};",
    "//:for j in i..N",
    "c${i}_${j} $j",
    "//:end",
    "//:end",
  ].join("\n");
  assertEquals(
    expand(source, { N: 2 }),
    ["a0 = b1;", "c0_0 0", "c0_1 1", "a1 = b5;", "c1_1 1"].join("\n"),
  );
});

Deno.test("conditions choose, an empty loop vanishes, names can be built", () => {
  const source = [
    "//:if VEC == 4 && !FAST",
    "v",
    "//:else",
    "s",
    "//:end",
    "//:for i in 0..0",
    "x",
    "//:end",
    "${T$one} $EXPR $unknown",
  ];
  const text = expand(source.join("\n"), {
    VEC: 4,
    FAST: false,
    one: 1,
    T1: "vec4f",
    EXPR: "a + b",
  });
  assertEquals(text, "v\nvec4f a + b $unknown");
  assertEquals(
    expand(source.join("\n"), { VEC: 1, FAST: false, one: 1, T1: "f32", EXPR: "a" }),
    "s\nf32 a $unknown",
  );
});

Deno.test("files are included and expanded", () => {
  assertEquals(expand("//:include part\nend", { N: 1 }, () => "n = $N"), "n = 1\nend");
});

Deno.test("mistakes are errors that say what is wrong", () => {
  const cases: [string, string][] = [
    ["//:for i in 0..2\nx", "no //:end"],
    ["//:if 1\nx", "no //:end"],
    ["//:end", "without an opening"],
    ["//:loop", "unknown directive"],
    ["//:for i of 3\n//:end", "for NAME in"],
    ["//:if MISSING\n//:end", '"MISSING" is no number'],
    ["//:if 1 +\n//:end", "is no number"],
    ["//:if (1\n//:end", "missing )"],
  ];
  for (const [source, message] of cases) {
    assertThrows(() => expand(source, {}), KernelError, message);
  }
});

Deno.test("expressions follow the usual precedence", () => {
  const names = { a: 7, b: 3, yes: true };
  const cases: [string, number][] = [
    ["1 + 2 * 3", 7],
    ["(1 + 2) * 3", 9],
    ["a / b", 2],
    ["a % b + 1", 2],
    ["-a + b", -4],
    ["a > b && yes", 1],
    ["!yes || a == 7", 1],
    ["a - b - 1", 3],
    ["a != 7", 0],
    ["2*a<=14", 1],
  ];
  for (const [text, value] of cases) assertEquals(evaluate(text, names), value, text);
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 99 }),
      fc.integer({ min: 1, max: 99 }),
      fc.integer({ min: 0, max: 99 }),
      (x, y, z) => {
        assertEquals(
          evaluate(`${x} + ${z} * (${x} / ${y}) - ${z} % ${y}`, {}),
          x + z * Math.trunc(x / y) - z % y,
        );
      },
    ),
  );
});
