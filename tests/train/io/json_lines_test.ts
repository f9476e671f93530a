/** Files of JSON lines: torn ends, damaged rows, what is appended. */
import { assertEquals } from "@std/assert";
import { damageText, JsonLines, readJsonLines } from "../../../train/io/json_lines.ts";

async function inTempDir(body: (path: string) => void): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    body(`${dir}/metrics.jsonl`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function rows(path: string): unknown[] {
  const text = Deno.readTextFileSync(path);
  assertEquals(text === "" || text.endsWith("\n"), true, "whole lines only");
  return text.split("\n").filter((it) => it !== "").map((it) => JSON.parse(it));
}

Deno.test("log: a line is in the file as soon as it is written", () =>
  inTempDir((path) => {
    using log = JsonLines.create<{ path: string; reason: string }>(path);
    assertEquals(rows(path), []);
    log.write({ path: "a\nb.wav", reason: "ü" });
    assertEquals(rows(path), [{ path: "a\nb.wav", reason: "ü" }]);
    log.write({ path: "c", reason: "d" });
    log.flush();
    assertEquals(rows(path).length, 2);
  }));

Deno.test("log: a resumed run drops later and broken lines and goes on", () =>
  inTempDir((path) => {
    const start = '{"step":1}\n{"step":2}\n';
    for (const tail of ['{"step":3}\n{"step":4}\n', '{"step":3', "", "garbage\n", '{"step":9}']) {
      Deno.writeTextFileSync(path, start + tail);
      {
        using log = JsonLines.resume<{ step: number; note?: string }>(path, 2);
        log.write({ step: 3, note: "again" });
      }
      assertEquals(rows(path), [{ step: 1 }, { step: 2 }, { step: 3, note: "again" }], tail);
    }
  }));

Deno.test("log: a run can be resumed from before its first line, or without a file", () =>
  inTempDir((path) => {
    JsonLines.resume<{ step: number }>(path, 0)[Symbol.dispose]();
    assertEquals(rows(path), []);
    Deno.writeTextFileSync(path, '{"step":1}\n');
    JsonLines.resume<{ step: number }>(path, 0)[Symbol.dispose]();
    assertEquals(rows(path), []);
  }));

Deno.test("log: a new run empties an older file", () =>
  inTempDir((path) => {
    Deno.writeTextFileSync(path, '{"step":1}\n');
    JsonLines.create(path)[Symbol.dispose]();
    assertEquals(rows(path), []);
  }));

Deno.test("log: zeros and halves of lines are passed over, rows behind them stay", () =>
  inTempDir((path) => {
    const zeros = "\0".repeat(40);
    Deno.writeTextFileSync(path, `{"step":1}\n${zeros}\n{"st\n{"step":2}\n${zeros}{"step":3`);
    assertEquals(readJsonLines(path), { rows: [{ step: 1 }, { step: 2 }], damaged: 2 });
    {
      using log = JsonLines.resume<{ step: number }>(path, 5);
      assertEquals(damageText("x", log.damaged), "passed over 2 damaged lines of x");
      log.write({ step: 3 });
    }
    assertEquals(rows(path), [{ step: 1 }, { step: 2 }, { step: 3 }]);
  }));

Deno.test("log: going on with a whole file leaves its bytes alone", () =>
  inTempDir((path) => {
    Deno.writeTextFileSync(path, '{"path":"a"}\n{"path":"b"}\n');
    const { ino } = Deno.statSync(path);
    using log = JsonLines.append<{ path: string }>(path);
    assertEquals([Deno.statSync(path).ino, rows(path).length], [ino, 2]);
    log.write({ path: "c" });
    assertEquals(rows(path).length, 3);
  }));
