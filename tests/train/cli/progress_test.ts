/** Lines of progress: in a terminal, elsewhere, time left, the last state. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  durationText,
  Progress,
  type ProgressOutput,
  progressText,
} from "../../../train/cli/progress.ts";
import { outliveReaders } from "../../../train/cli/live_line.ts";
import { WaitLine } from "../../../train/cli/wait_line.ts";
import { DiskFullError } from "../../../train/errors.ts";

class FakeOutput implements ProgressOutput {
  text = "";
  time = 0;
  constructor(public width: number | undefined) {}
  write(text: string): void {
    this.text += text;
  }
  columns(): number | undefined {
    return this.width;
  }
  now(): number {
    return this.time;
  }
}

const at = (step: number) => ({ step, total: 100, loss: 3.25, samplesPerSecond: 12.345 });

Deno.test("progress: elsewhere than in a terminal a line every few seconds, first and last", () => {
  const output = new FakeOutput(undefined);
  {
    using progress = new Progress({ output });
    for (let step = 1; step <= 100; step++) {
      output.time = step * 100;
      progress.update(at(step));
    }
  }
  assertEquals(output.text.split("\n"), [
    "step   1/100  loss 3.2500  12.3 samples/s",
    "step  51/100  loss 3.2500  12.3 samples/s  5s left",
    "step 100/100  loss 3.2500  12.3 samples/s  0s left",
    "",
  ]);
});

Deno.test("progress: time left leaves out compiling and evaluations", () => {
  const output = new FakeOutput(undefined);
  const progress = new Progress({ output });
  const update = (seconds: number, step: number) => {
    output.time = 1000 * seconds;
    progress.update(at(step));
  };
  update(0, 1);
  progress.stage("compiling kernels", 1, 2);
  update(100, 2);
  update(110, 12);
  progress.stage("evaluation: clips", 0, 9);
  output.time = 116_000;
  progress.stage("evaluation: clips", 4, 9);
  update(200, 13);
  update(210, 23);
  assertEquals(output.text.split("\n").map((line) => line.split("  ").at(-1)), [
    "12.3 samples/s",
    "compiling kernels (2) …",
    "12.3 samples/s",
    "1m 28s left",
    "evaluation: clips (9) …",
    "evaluation: clips 4/9 …",
    "12.3 samples/s",
    "1m 17s left",
    "",
  ]);
});

Deno.test("progress: the last state is shown even when the run stops early", () => {
  const output = new FakeOutput(undefined);
  {
    using progress = new Progress({ output });
    progress.update(at(1));
    progress.update(at(2));
  }
  assertEquals(output.text.split("\n").length, 3);
  assertStringIncludes(output.text, "step   2/100");
});

Deno.test("progress: in a terminal one line rewrites itself and notes stand above it", () => {
  const output = new FakeOutput(80);
  const progress = new Progress({ output });
  for (let step = 1; step <= 3; step++) {
    output.time = step * 1000;
    progress.update(at(step));
  }
  progress.note("skipped a.wav");
  output.time = 60_000;
  progress.update(at(100));
  progress.finish();
  progress.finish();
  assertEquals(output.text.split("\n").length, 3, "one note, one live line, no blank line");
  assertEquals(output.text.startsWith("\r\x1b[K"), true);
  assertStringIncludes(output.text, "\r\x1b[Kskipped a.wav\n");
  assertStringIncludes(output.text.split("\n")[1], "step 100/100");
});

Deno.test("progress: a terminal's line is not rewritten more often than can be read", () => {
  const output = new FakeOutput(80);
  const progress = new Progress({ output });
  for (let step = 1; step < 100; step++) progress.update(at(step));
  assertEquals(output.text.split("\r").length - 1, 1);
});

Deno.test("progress: quiet shows notes alone", () => {
  const output = new FakeOutput(80);
  {
    using progress = new Progress({ quiet: true, output });
    progress.update(at(1));
    progress.note("done");
  }
  assertEquals(output.text, "done\n");
});

Deno.test("progress: a line never fills its width, whole parts are left out", () => {
  const whole = progressText(at(7), 3723);
  assertEquals(whole, "step   7/100  loss 3.2500  12.3 samples/s  1h 2m 3s left");
  for (let columns = 1; columns <= 100; columns++) {
    const line = progressText(at(7), 3723, columns);
    assertEquals(line.length < columns, true);
    assertEquals(whole.startsWith(line), true);
    if (columns > 12) assertEquals(/ $|\.$/.test(line), false, line);
  }
});

Deno.test("progress: durations", () => {
  assertEquals([0, 0.6, 59.6, 3600, -1].map(durationText), ["0s", "1s", "1m", "1h", "0s"]);
});

Deno.test("progress: a stage of the start counts in place in a terminal and is cleared when done", () => {
  const output = new FakeOutput(30);
  const progress = new Progress({ output });
  for (let done = 1; done <= 3; done++) progress.stage("compiling kernels", done, 3);
  progress.note("3 kernels");
  assertEquals(
    output.text,
    "\r\x1b[Kcompiling kernels 1/3 …\r\x1b[Kcompiling kernels 2/3 …\r\x1b[K3 kernels\n",
  );
  output.text = "";
  output.width = 12;
  progress.stage("compiling kernels", 1, 3);
  assertEquals(output.text, "\r\x1b[Kcompiling k");
});

Deno.test("progress: elsewhere a stage is one line, and none when quiet", () => {
  for (const quiet of [false, true]) {
    const output = new FakeOutput(undefined);
    const progress = new Progress({ output, quiet });
    for (let done = 1; done <= 3; done++) progress.stage("compiling kernels", done, 3);
    assertEquals(output.text, quiet ? "" : "compiling kernels (3) …\n");
  }
});

Deno.test("a closed pipe or terminal ends nothing, a full disk does", () => {
  const { log } = console;
  const code = { code: "EIO" };
  console.log = () => {
    throw Object.assign(new Error(code.code), code);
  };
  try {
    using _ = outliveReaders();
    console.log("the terminal is gone");
    code.code = "ENOSPC";
    assertThrows(() => console.log("no room"), DiskFullError, "standard output");
  } finally {
    console.log = log;
  }
});

Deno.test("progress: the summary says how far, how long and what the loss was", () => {
  const output = new FakeOutput(undefined);
  const progress = new Progress({ output, quiet: true });
  output.time = 2000;
  assertEquals(progress.summary(), "no update was left to do, 2s");
  progress.update(at(100));
  output.time = 65_000;
  assertEquals(progress.summary(), "step 100/100 after 1m 5s, loss 3.2500");
});

Deno.test("a wait of unknown length is said after three seconds, and goes with what comes", async () => {
  const output = new FakeOutput(30);
  {
    using _ = new WaitLine(() => "looking through /data", { output });
    output.time = 2900;
    await new Promise((resolve) => setTimeout(resolve, 600));
    assertEquals(output.text, "");
    output.time = 4000;
    await new Promise((resolve) => setTimeout(resolve, 600));
  }
  assertEquals(output.text, "\r\x1b[Klooking through /data … 4s\r\x1b[K");
});
