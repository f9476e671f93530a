/** Configurations: files, presets, command lines, what is refused. */
import { assertEquals, assertInstanceOf, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { peakLearningRate, PRESETS, spanSteps } from "../../../model/objectives/presets.ts";
import { deviations, RECIPES } from "../../../model/objectives/recipe.ts";
import { lastingOptions, pretrainHelp, resolveConfig } from "../../../train/config/config.ts";
import { PRETRAIN_OPTIONS } from "../../../train/config/options.ts";
import { UsageError } from "../../../train/errors.ts";
import { schedulesOf } from "../../../train/run/schedule.ts";

const NOON = new Date("2026-01-31T12:34:56Z");

function rejected(...argv: string[]): string {
  const error = assertThrows(() => resolveConfig(argv)) as UsageError;
  assertInstanceOf(error, UsageError);
  return [error.message, error.details ?? ""].join("\n");
}

function withFile(name: string, content: string | Uint8Array, body: (path: string) => void): void {
  const dir = Deno.makeTempDirSync();
  try {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    Deno.writeFileSync(`${dir}/${name}`, bytes);
    body(`${dir}/${name}`);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
}

Deno.test("config: without words it is the tiny preset on the synthetic corpus", () => {
  const config = resolveConfig([], NOON);
  assertEquals(config.data, []);
  assertEquals(config.out, "runs/20260131-123456-tiny");
  assertEquals(config.geometry, PRESETS.tiny.geometry);
  assertEquals(config.length, PRESETS.tiny.training.length);
  assertEquals([config.recipe, config.batch, config.alpha, config.keep], ["paper", 16, 0.5, 3]);
});

Deno.test("config: words become typed values", () => {
  const words = "--data a --data=b --lr 3e-4 --steps 7 --warmup 0 --quiet --mask-ratio 0.6";
  const config = resolveConfig([...words.split(" "), "--crop-frames", "320"]);
  assertEquals(config.data, ["a", "b"]);
  assertEquals([config.lr, config.length, config.warmup], [3e-4, { steps: 7 }, { steps: 0 }]);
  assertEquals([config.geometry.maskRatio, config.geometry.cropFrames], [0.6, 320]);
  assertEquals([config.quiet, config.resume], [true, false]);
  assertEquals("profile" in config, false);
  assertEquals(resolveConfig(["--profile", "5"]).profile, 5);
});

Deno.test("config: base has the paper's numbers, and the released recipe its own rate", () => {
  const paper = resolveConfig(["--preset", "base"]);
  assertEquals([paper.batch, paper.length, paper.warmup], [2048, { epochs: 300 }, { epochs: 20 }]);
  assertEquals([paper.emaEncoder, paper.emaHead], [[0.99995, 0.99999], [0.998, 1]]);
  assertEquals(paper.lr, 2.4e-3);
  assertEquals(resolveConfig(["--preset", "base", "--recipe", "released"]).lr, 3e-4);
  assertEquals(resolveConfig(["--preset", "base", "--batch", "512"]).lr, 6e-4);
});

Deno.test("presets: spans give the published step counts", () => {
  const run = { totalSteps: 294_816, clips: 2_012_615, batch: 2048 };
  assertEquals(spanSteps({ epochs: 300 }, run), 294_816);
  assertEquals(spanSteps({ epochs: 20 }, run), 19_654);
  assertEquals(spanSteps({ epochs: 10 }, run), 9_827);
  assertEquals(spanSteps({ steps: 5 }, run), 5);
  assertEquals(spanSteps({ fraction: 0.1 }, { ...run, totalSteps: 155 }), 15);
  assertEquals(peakLearningRate({ rate: 1e-3, perBatchOf256: false }, 2048), 1e-3);
});

Deno.test("config: messages say key, value, source and what is allowed", () => {
  assertStringIncludes(rejected("--lr", "-1"), "--lr -1 (on the command line): must be a number");
  assertStringIncludes(rejected("--batch", "many"), "--batch many");
  assertStringIncludes(rejected("--batch", "many"), "must be a whole number from 1");
  assertStringIncludes(rejected("--lr", ""), '--lr ""');
  assertStringIncludes(rejected("--seed", "1.5"), "--seed 1.5");
  assertStringIncludes(rejected("--profile", "0"), "must be a whole number from 1");
  assertStringIncludes(rejected("--seed", "4294967296"), "from 0 to 4294967295");
  assertStringIncludes(rejected("--crop-frames", "200"), "a multiple of a patch's 16 frames");
  assertStringIncludes(rejected("--mask-ratio", "0.999"), "leaves 0 of 65 patches");
  assertStringIncludes(
    rejected("--objective", "byol-a"),
    "must be msm-mae, m2d, matpac or matpac-plus",
  );
  assertStringIncludes(rejected("--alpha", "1", "--objective", "m2d"), "m2d has one loss");
  assertStringIncludes(rejected("--norm-pix"), "only together with --objective msm-mae");
  assertStringIncludes(rejected("--mcl-heads", "3"), "only together with --objective matpac-plus");
  assertStringIncludes(rejected("--patch", "16"), "with an x between them");
  assertStringIncludes(rejected("--target-layers", "4,13"), "different blocks from 1 to 12");
  assertStringIncludes(rejected("--target-layers", "4,4"), "different blocks from 1 to 12");
  assertStringIncludes(
    rejected("--objective", "msm-mae", "--target-centre", "clip"),
    "msm-mae has no teacher",
  );
  assertStringIncludes(rejected("--blocks", "0,13"), "the model has 12 blocks");
  assertStringIncludes(rejected("--patch", "32x16"), "80 bands are no multiple of 32");
  assertStringIncludes(rejected("--precision", "f16"), "must be f32 or mixed");
  assertStringIncludes(rejected("--micro-batch", "5"), "--micro-batch 5: must divide --batch (16)");
  assertStringIncludes(rejected("--steps", "1", "--epochs", "1"), "give one of them");
  assertStringIncludes(rejected("--stepps", "1"), "--stepps");
  assertStringIncludes(rejected("--steps"), "--steps");
  assertStringIncludes(rejected("--lr", "1", "--lr", "2"), "multiple");
  assertStringIncludes(rejected("stray"), "stray");
  assertStringIncludes(rejected("--resume"), "needs --out");
  const both = rejected("--lr", "0", "--keep", "0");
  assertStringIncludes(both, "--lr 0");
  assertStringIncludes(both, "--keep 0");
});

Deno.test("config: no word makes anything but a configuration or a UsageError", () => {
  const names = Object.keys(PRETRAIN_OPTIONS).filter((it) => it !== "resume");
  fc.assert(fc.property(fc.constantFrom(...names), fc.string(), (name, value) => {
    try {
      const config = resolveConfig([`--${name}`, value]);
      assertEquals(Number.isFinite(config.lr) && config.lr > 0, true);
      assertEquals(Number.isInteger(config.batch) && config.batch > 0, true);
    } catch (error) {
      assertInstanceOf(error, UsageError);
    }
  }));
});

Deno.test("config: a micro-batch divides the batch, and is the batch unless given", () => {
  const sizes = (...words: string[]) => {
    const { batch, microBatch } = resolveConfig(["--batch", "8", ...words]);
    return [batch, microBatch];
  };
  assertEquals(sizes("--micro-batch", "2"), [8, 2]);
  assertEquals(sizes(), [8, 8]);
});

Deno.test("config: TOML and JSONC files, with the command line on top", () => {
  const toml = 'preset = "small"\nlr = 2e-4\n"mask-ratio" = 0.5\ndata = "clips"\nsteps = 9\n';
  withFile("run.toml", toml, (file) => {
    const config = resolveConfig(["--config", file, "--lr", "1e-5", "--epochs", "2"]);
    assertEquals([config.preset, config.lr, config.data], ["small", 1e-5, ["clips"]]);
    assertEquals(config.geometry.maskRatio, 0.5);
    assertEquals(config.length, { epochs: 2 }, "the command line's --epochs replaces steps");
  });
  withFile("run.jsonc", '{ "data": ["a", "b"], /* why */ "quiet": true, }', (file) => {
    const config = resolveConfig(["--config", file]);
    assertEquals([config.data, config.quiet], [["a", "b"], true]);
  });
});

Deno.test("config: a byte order mark is taken", () => {
  // Editors of Windows write a byte order mark, PowerShell 5 also UTF-16.
  const utf16 = (text: string, little: boolean) => {
    const bytes = new DataView(new ArrayBuffer(2 * text.length + 2));
    [..."\ufeff" + text].forEach((it, i) => bytes.setUint16(2 * i, it.charCodeAt(0), little));
    return new Uint8Array(bytes.buffer);
  };
  const jsonc = '{"preset": "small", // size\n"steps": 9}';
  for (
    const [name, text] of [["bom.toml", 'preset = "small"\nsteps = 9\n'], ["bom.jsonc", jsonc], [
      "bom.json",
      jsonc,
    ]]
  ) {
    for (const content of [`\ufeff${text}`, utf16(text, true), utf16(text, false)]) {
      withFile(name, content, (file) => {
        const { preset, length } = resolveConfig(["--config", file]);
        assertEquals([preset, length], ["small", { steps: 9 }]);
      });
    }
  }
});

Deno.test("config: files that are long, deep or full of keys end in a short message, and soon", () => {
  const keys = (count: number, join: (i: number) => string) =>
    Array.from({ length: count }, (_, i) => join(i));
  const cases: [name: string, content: string, part: string][] = [
    ["a.toml", `data = ${"[".repeat(50_000)}`, "nest too deep"],
    ["a.jsonc", "[".repeat(50_000), "nest too deep"],
    ["b.toml", keys(5000, (i) => `k${i} = 1`).join("\n"), "more than 1000 equals signs"],
    ["c.toml", `a = {${keys(5000, (i) => `k${i}=1`)}}`, "more than 1000 equals signs"],
    ["d.jsonc", `{${keys(5000, (i) => `"k${i}": 1`)}}`, "and 4992 more"],
    ["e.jsonc", `{"preset": "${"x".repeat(100_000)}"}`, "--preset xxx"],
    ["f.jsonc", `{"\\u001b[2J${"x".repeat(100_000)}": 1}`, "no such option"],
    ["g.toml", "#\n".repeat(1 << 17) + "#", "is longer than 262144 bytes"],
    ["h.jsonc", '{"__proto__": {"steps": 3}}', "__proto__"],
  ];
  for (const [name, content, part] of cases) {
    withFile(name, content, (file) => {
      const start = performance.now();
      const text = rejected("--config", file);
      assertStringIncludes(text, part);
      assertEquals(text.length < 20_000, true, `${name}: ${text.length}`);
      assertEquals(performance.now() - start < 10_000, true, name);
    });
  }
});

Deno.test("config: what is wrong in a file is named with the file", () => {
  withFile("run.toml", 'mask_ratio = 0.5\nlr = "fast"\n', (file) => {
    const text = rejected("--config", file);
    assertStringIncludes(text, `mask_ratio (in ${file}): no such option; did you mean mask-ratio?`);
    assertStringIncludes(text, `--lr fast (in ${file}): must be a number above 0`);
  });
  withFile("run.toml", "= 3", (file) => {
    assertStringIncludes(rejected("--config", file), "cannot be read");
  });
  withFile("run.json", "[1]", (file) => {
    assertStringIncludes(rejected("--config", file), "must hold a table");
  });
  withFile("run.yaml", "a: 1", (file) => {
    assertStringIncludes(rejected("--config", file), ".toml, .json or .jsonc");
  });
  assertStringIncludes(rejected("--config", "/nowhere/x.toml"), "cannot be read");
});

Deno.test("config: options of a run give the same run again, and --resume takes them over", () => {
  const first = resolveConfig(["--preset", "small", "--lr", "5e-4", "--seed", "3"], NOON);
  const text = JSON.stringify({ options: first.options });
  withFile("config.json", text, (file) => {
    const out = file.slice(0, -"/config.json".length);
    const again = resolveConfig(["--resume", "--out", out, "--steps", "9"]);
    assertEquals(again, {
      ...first,
      out,
      resume: true,
      length: { steps: 9 },
      options: { ...first.options, out, resume: true, steps: 9 },
    });
    assertStringIncludes(rejected("--resume", "--out", out, "--init", "x"), "--init");
    assertEquals([first.keepBest, lastingOptions(again)], [
      1,
      lastingOptions({ ...first, options: { ...first.options, steps: 9 } }),
    ]);
  });
  withFile("run.json", JSON.stringify(first.options), (file) => {
    assertEquals(resolveConfig(["--config", file]), first);
  });
  assertStringIncludes(rejected("--resume", "--out", "/nowhere"), "no run to go on with");
});

Deno.test("config: help lists every option with its default", () => {
  const help = pretrainHelp().replace(/\s+/g, " ");
  for (const name of Object.keys(PRETRAIN_OPTIONS)) assertStringIncludes(help, `--${name}`);
  assertStringIncludes(help, "(default: 1337)");
  assertStringIncludes(help, "tiny 16, small 64, base 2048");
});

Deno.test("config: every row of the recipes can be chosen by itself, and a resumed run keeps it", () => {
  const words = ["--preset", "base", "--recipe", "released", "--recipe-center", "paper"];
  const config = resolveConfig([...words, "--recipe-lr-scaling", "paper"], NOON);
  assertEquals(config.recipe, "released");
  assertEquals(config.choices, {
    ...RECIPES.released,
    centerOn: "logits",
    lrScaling: "batch",
  });
  assertEquals(config.lr, 2.4e-3);
  assertEquals(resolveConfig(["--recipe-dataset-size", "released"]).choices.epochClips, 2_012_615);
  withFile("config.json", JSON.stringify({ options: config.options }), (file) => {
    const out = file.slice(0, -"/config.json".length);
    const again = resolveConfig(["--resume", "--out", out, "--recipe-alpha", "paper"]);
    assertEquals(again.choices, { ...config.choices, alpha: "weights" });
  });
  assertStringIncludes(rejected("--recipe-head", "dino"), "must be paper or released");
  const help = pretrainHelp().replace(/\s+/g, " ");
  for (const [name, { paper, released }] of deviations()) {
    assertStringIncludes(help, `--recipe-${name}`);
    assertStringIncludes(help, `paper ${paper.text}; released ${released.text}.`);
  }
});

Deno.test("config: masks are random, structured or in time, and a resumed run keeps its own", () => {
  const masking = (...words: string[]) => resolveConfig(words).masking;
  assertEquals(masking(), { kind: "random" });
  assertEquals(masking("--mask", "structured"), { kind: "structured" });
  assertEquals(masking("--mask", "time"), { kind: "time", run: 1 });
  assertEquals(masking("--mask", "time", "--mask-run", "13"), { kind: "time", run: 13 });
  assertStringIncludes(rejected("--mask", "bands"), "must be random, structured or time");
  assertStringIncludes(rejected("--mask-run", "3"), "only together with --mask time, not random");
  assertStringIncludes(rejected("--mask", "time", "--mask-run", "0"), "a whole number from 1");
  assertStringIncludes(
    rejected("--mask", "time", "--mask-run", "14"),
    "--mask-run 14: a crop has 13 columns of patches",
  );
  // 0.05 of 13 columns is none, of 65 patches 4.
  assertStringIncludes(
    rejected("--mask", "time", "--mask-ratio", "0.05"),
    "leaves 65 of 65 patches",
  );
  assertEquals(resolveConfig(["--mask-ratio", "0.05"]).geometry.maskRatio, 0.05);
  for (const ratio of [0.5, 0.6, 0.75, 0.9]) {
    for (const kind of ["random", "structured", "time"]) {
      const config = resolveConfig(["--mask", kind, "--mask-ratio", `${ratio}`]);
      assertEquals([config.masking.kind, config.geometry.maskRatio], [kind, ratio]);
    }
  }
  const first = resolveConfig(["--mask", "time", "--mask-run", "3"]);
  const { mask: _, ...old } = resolveConfig([]).options;
  const resumed = (options: unknown) => {
    let again: ReturnType<typeof resolveConfig>;
    withFile("config.json", JSON.stringify({ options }), (file) => {
      again = resolveConfig(["--resume", "--out", file.slice(0, -"/config.json".length)]);
    });
    return again!;
  };
  assertEquals(resumed(first.options).masking, first.masking);
  assertEquals(lastingOptions(resumed(first.options)), lastingOptions(first));
  assertEquals(resumed(old).masking, { kind: "random" }, "a run from before there was a choice");
});

Deno.test("config: evaluations come with checkpoints unless told otherwise", () => {
  const config = resolveConfig(["--eval", "sounds", "--save-every", "7"]);
  assertEquals([config.eval, config.evalEvery], ["sounds", 7]);
  assertEquals(resolveConfig(["--eval-every", "3"]).evalEvery, 3);
  assertEquals(resolveConfig([]).eval, undefined);
  assertStringIncludes(rejected("--eval-every", "0"), "a whole number from 1");
});

Deno.test("config: averages and teacher temperature have values of their own", () => {
  const words = [
    "--ema-encoder",
    "0.999, 0.9999",
    "--ema-head",
    "0.5,1",
    "--teacher-temp",
    "0.1,2",
  ];
  const config = resolveConfig(["--steps", "10", ...words]);
  assertEquals(config.emaEncoder, [0.999, 0.9999]);
  assertEquals(config.emaHead, [0.5, 1]);
  assertEquals(config.teacherTemp, [0.1, 2]);
  const schedules = schedulesOf(config, 100);
  assertEquals([schedules.emaHead(0), schedules.emaHead(5), schedules.emaHead(10)], [0.5, 0.75, 1]);
  assertEquals(resolveConfig(["--preset", "base"]).emaEncoder, PRESETS.base.training.emaEncoder);
  withFile("run.toml", "ema-encoder = [0.9, 0.95]", (file) => {
    assertEquals(resolveConfig(["--config", file]).emaEncoder, [0.9, 0.95]);
  });
  for (const words of ["0.9", "0.9,1.1", "0.9,1,1", "-1,1", "a,b", ""]) {
    assertStringIncludes(rejected("--ema-head", words), "two numbers from 0 to 1 with a comma");
  }
  assertStringIncludes(rejected("--teacher-temp", "0,1"), "two numbers above 0");
});

Deno.test("config: sources have weights on the command line and in files, kept by a resumed run", () => {
  const config = resolveConfig(["--data", "a", "--data", "b", "--data-weights", "3, 0.5"]);
  assertEquals([config.dataWeights, config.standardise], [[3, 0.5], "paper"]);
  assertEquals(resolveConfig([]).dataWeights, undefined);
  for (const weights of ["", "3,", "3,0", "3,-1", "x", "3;1"]) {
    assertStringIncludes(rejected("--data-weights", weights), "numbers above 0 with commas");
  }
  withFile("run.toml", "data-weights = [3, 1]\nstandardise = 'store'", (file) => {
    const { dataWeights, standardise } = resolveConfig(["--config", file]);
    assertEquals([dataWeights, standardise], [[3, 1], "store"]);
  });
  const words = ["--data", "a", "--data-weights", "2", "--workers", "3"];
  const { options, workers } = resolveConfig(words);
  assertEquals(workers, 3);
  withFile("config.json", JSON.stringify({ options }), (file) => {
    const again = resolveConfig(["--resume", "--out", file.slice(0, -"/config.json".length)]);
    assertEquals([again.dataWeights, again.workers], [[2], undefined]);
  });
  assertStringIncludes(rejected("--workers", "1.5"), "a whole number from 0 to 256");
});

Deno.test("config: contrast takes two crops of a clip, and passes that have other clips", () => {
  assertEquals(resolveConfig([]).crops, { cropsPerClip: 1, speeds: [1, 1] });
  const words = ["--contrast", "0.3", "--speeds", "0.8,1.25", "--batch", "8", "--epochs", "3"];
  const config = resolveConfig(words);
  assertEquals(config.crops, { cropsPerClip: 2, speeds: [0.8, 1.25] });
  assertEquals([config.contrast, config.geometry.projection], [0.3, true]);
  // An update sees half as many clips as crops.
  assertEquals([schedulesOf(config, 100).total], [75]);
  assertEquals(schedulesOf(resolveConfig(words.slice(2)), 100).total, 37);
  for (const more of ["--batch 3", "--batch 2", "--micro-batch 1"]) {
    assertStringIncludes(
      rejected("--contrast", "1", ...more.split(" ")),
      "two crops of two clips",
    );
  }
  assertStringIncludes(rejected(...words, "--masks-per-clip", "2"), "--masks-per-clip");
  assertStringIncludes(rejected("--contrast", "-1"), "from 0");
  for (const speeds of ["2,1", "0.01,1", "1,11"]) {
    assertStringIncludes(rejected("--speeds", speeds), "from 0.1 to 10");
  }
});
