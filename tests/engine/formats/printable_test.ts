/** Text from files in messages: nothing of it steers a terminal, forges a line or fills it. */
import { assert, assertEquals, assertNotMatch } from "@std/assert";
import { listed, printable, printableLines, quoted } from "../../../engine/formats/printable.ts";

Deno.test("printable: what steers a terminal becomes visible, what is readable stays", () => {
  const cases: [text: string, expected: string][] = [
    ["snare drum, Größe 7, 音", "snare drum, Größe 7, 音"],
    ["\x1b[31mred\x1b[0m", "\\u001b[31mred\\u001b[0m"],
    ["a\r\nforged: line\t", "a\\u000d\\u000aforged: line\\u0009"],
    ["\x9b2J\x7f\x00", "\\u009b2J\\u007f\\u0000"],
    ["gpj.\u202eexe\u2066\u2028\u2029\ufeff", "gpj.\\u202eexe\\u2066\\u2028\\u2029\\ufeff"],
    ["\ud83d alone \ude00", "\\ud83d alone \\ude00"],
    ["\u{e0001}\u{1f600}", "\\u{e0001}\u{1f600}"],
  ];
  for (const [text, expected] of cases) {
    assertEquals(printable(text), expected);
    assertNotMatch(quoted(text), /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u);
  }
});

Deno.test("printable: long text is cut, pairs stay whole", () => {
  const long = "\u{1f600}".repeat(1 << 20);
  assertEquals(printable(long, 5), "\u{1f600}\u{1f600}…");
  assertEquals(quoted(`x${long}`), `"x${"\u{1f600}".repeat(49)}…"`);
  assertEquals(printable("abc", 3), "abc");
  assert(printable("\x00".repeat(1 << 20)).length <= 6 * 200 + 1);
  assertEquals(listed([2, 3]), "[2, 3]");
  assertEquals(listed(Array(1000).fill(1)), "[1, 1, 1, 1, 1, 1, 1, 1, … (1000)]");
  const lines = printableLines(`one\n\ttwo\x1b[2J\n${"x".repeat(1 << 24)}`, 1000);
  assertEquals(lines, `one\n\ttwo\\u001b[2J\n${"x".repeat(1000)}…`);
  assert(printableLines("\u{e0001}\n".repeat(1 << 20), 1000).length <= 4001);
});
