/**
 * The package: its sources can be imported from anywhere, and what `deno task pack` makes works in
 * an empty Deno project and in an empty npm project.
 */
import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { dirname, fromFileUrl, join } from "@std/path";
import { VERSION } from "../train/version.ts";
import { SIDE_EFFECTS, textModule, textModules } from "./pack.ts";
import { README } from "./support/markdown.ts";
import { writeEncoder } from "./support/small_encoder.ts";
import { fullOnly, test } from "./support/tier.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));
const CONFIG = JSON.parse(await Deno.readTextFile(join(ROOT, "deno.json")));

function* sources(folder: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(join(ROOT, folder))) {
    if (isDirectory) yield* sources(`${folder}/${name}`);
    else if (name.endsWith(".ts")) yield `${folder}/${name}`;
  }
}

/** What modules of the folders import that is neither theirs nor of the runtime. */
function foreign(...folders: string[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const file of folders.flatMap((folder) => [...sources(folder)])) {
    const code = Deno.readTextFileSync(join(ROOT, file)).replace(/^ \*.*$/gm, "");
    const names = [...code.matchAll(/^(?:(?:import|export|\}) .*from|import) "([^"]+)"/gm)]
      .map(([, name]) => name)
      .filter((name) => !/^(\.|node:)/.test(name));
    if (names.length > 0) found.set(file, names);
  }
  return found;
}

test("what is published imports packages only in folders deps/, as deno.json has them", () => {
  const versions = Object.values<string>(CONFIG.imports)
    .map((it) => /^npm:@?[^@]+@[\d.]+/.exec(it)![0]);
  const importing = foreign("engine", "kernels", "model", "train");
  for (const [file, names] of importing) {
    assert(/^(model|train)\/deps\//.test(file), file);
    for (const name of names) {
      assert(versions.some((it) => `${name}/`.startsWith(`${it}/`)), `${file}: ${name}`);
    }
  }
  assert(importing.size > 0);
  const folders = CONFIG.publish.include.filter((it: string) => it.endsWith("/"));
  assertEquals(folders, ["engine/", "kernels/", "model/", "train/"]);
});

test("the version that the command line prints is deno.json's", () => {
  assertEquals(VERSION, CONFIG.version);
});

test("bundlers keep modules that are imported for what they do", () => {
  const folders = ["engine", "kernels", "model", "train"];
  const found = folders.flatMap((folder) => [...sources(folder)]).flatMap((file) =>
    [...Deno.readTextFileSync(join(ROOT, file)).matchAll(/^import "(\.[^"]+)\.ts";$/gm)]
      .flatMap(([, path]) => [join(dirname(file), path), file.replace(/\.ts$/, "")])
      .map((path) => `./${path}.js`)
  );
  assertEquals([...new Set(found)].sort(), [...SIDE_EFFECTS].sort());
});

test("kernels in packages are modules with the same text", async () => {
  const line = 'import a from "../kernels/a.wgsl" with { type: "text" };';
  const asPacked = 'import a from "../kernels/a.wgsl" with {\n  type: "text"\n};';
  for (const code of [line, asPacked]) {
    assertEquals(textModules(code), 'import a from "../kernels/a.wgsl.js";');
  }
  const text = 'let a = "$N";\r\n// `${N + 1}` \\ \u2028 é\n';
  const module = await import(`data:text/javascript,${encodeURIComponent(textModule(text))}`);
  assertEquals(module.default, text);
});

/** Runs a line of a shell, Deno's own, in a folder. */
async function shell(
  cwd: string,
  line: string,
): Promise<{ ok: boolean; out: string; err: string }> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "--eval", line],
    cwd,
    env: { NO_COLOR: "1", NODEVICE_SELECT: "1" },
    signal: AbortSignal.timeout(180_000),
  }).output();
  const [out, err] = [stdout, stderr].map((it) => new TextDecoder().decode(it).trim());
  return { ok: success, out, err };
}

async function must(cwd: string, line: string): Promise<string> {
  const { ok, out, err } = await shell(cwd, line);
  assert(ok, `${line}\n${out}\n${err}`);
  return out;
}

/** README's examples in a language, those that hold a text. */
async function examples(language: string, text: string): Promise<string[]> {
  const blocks = (await Deno.readTextFile(README)).matchAll(/```(\w+)\n([\s\S]*?)```/g);
  return [...blocks].filter(([, of, code]) => of === language && code.includes(text))
    .map(([, , code]) => code);
}

async function regression(): Promise<string> {
  const [code] = await examples("ts", "engine/mod.ts");
  return code.replace("./engine/mod.ts", "@tessera/tessera");
}

/** An op as a function and one as a method, for a bundle. */
const BUNDLED = `
import { mul, openDevice } from "@tessera/tessera";
const device = await openDevice();
console.log([...await mul(device.tensor([1, 2]), 3).sub(1).data()].join(" "));
device[Symbol.dispose]();
`;

fullOnly("the package works in an empty Deno project and in an empty npm project", async (t) => {
  const folder = await Deno.makeTempDir();
  const file = join(folder, "tessera.tgz");
  const write = (name: string, text: string) => Deno.writeTextFile(join(folder, name), text);
  try {
    await must(ROOT, `deno task pack -o ${file}`);
    await t.step("Deno, types checked, without permission", async () => {
      await Deno.mkdir(join(folder, "deno"));
      await must(join(folder, "deno"), "tar -xzf ../tessera.tgz");
      const [config] = await examples("json", '"./package"');
      await write("deno/deno.json", config);
      await write("deno/main.ts", await regression());
      const numbers = (await must(join(folder, "deno"), "deno run -q --no-prompt --check main.ts"))
        .split(" ").map(Number);
      assertAlmostEquals(numbers[0], 2, 1e-2);
      assertAlmostEquals(numbers[1], 1, 2e-2);
      await write(
        "deno/all.ts",
        `import { loadEncoder } from "@tessera/tessera/model";
         import { audioFolderSource, loadWaveform, WorkerPool } from "@tessera/tessera/train";
         const [file] = Deno.args;
         using pool = new WorkerPool(1);
         const source = await audioFolderSource([file.slice(0, file.lastIndexOf("/"))], { pool });
         const clip = await source.load(0);
         console.log(typeof loadEncoder, (await loadWaveform(file)).length === clip!.length);`,
      );
      await Deno.mkdir(join(folder, "sounds"));
      const sound = join(folder, "sounds/a.flac");
      await Deno.copyFile(join(ROOT, "tests/golden/audio/flac_16bit_mono.flac"), sound);
      const line = `deno run -q --no-prompt -R --check all.ts ${sound}`;
      assertEquals(await must(join(folder, "deno"), line), "function true");
    });
    await t.step("a bundle", async () => {
      await write("deno/bundled.ts", BUNDLED);
      await must(join(folder, "deno"), "deno bundle -q bundled.ts -o bundle.js");
      assertEquals(await must(folder, "deno run -q --no-config deno/bundle.js"), "2 5");
    });
    await t.step("Node", async (t) => {
      const npm = join(folder, "npm");
      await Deno.mkdir(npm);
      await write("npm/package.json", '{ "type": "module" }');
      const install = "npm install --prefer-offline --no-audit --no-fund";
      const had = await shell(npm, `${install} ../tessera.tgz webgpu typescript@5.9.3`);
      if (!had.ok) {
        console.log(`skipped: npm cannot install webgpu: ${had.err.split("\n")[0]}`);
        return;
      }
      const [example] = await examples("js", '"webgpu"');
      await write("npm/main.js", example);
      const usual = await shell(npm, "node main.js");
      // Where Dawn finds no adapter its null backend runs everything and computes nothing.
      if (!usual.ok) assertStringIncludes(usual.err, "no WebGPU adapter");
      const create = usual.ok ? "create([])" : 'create(["backend=null"])';
      await write("npm/main.js", example.replace("create([])", create));
      const values = /Float32Array\(3\) \[ (.*) \]/.exec(await must(npm, "node main.js"));
      assertEquals(values?.[1], usual.ok ? "2, 4, 6" : "0, 0, 0");
      const head = `import { create } from "webgpu";
        const gpu = ${create};\n`;
      const ours = "const device = await openDevice({ gpu })";
      const device = (code: string) =>
        `${head}${code.replace("using device = await openDevice()", ours)}\nprocess.exit();\n`;
      await write("npm/line.js", device(await regression()));
      const numbers = (await must(npm, "node line.js")).split(" ").map(Number);
      assertEquals(numbers.map(Math.round), usual.ok ? [2, 1] : [0, 0]);
      await writeEncoder(join(npm, "encoder.safetensors"), 1);
      await write(
        "npm/encoder.js",
        device(`import { openDevice } from "@tessera/tessera";
          import { loadEncoder } from "@tessera/tessera/model";
          using device = await openDevice();
          const encoder = await loadEncoder(device, "encoder.safetensors");
          console.log((await encoder.embed(new Float32Array(16000))).shape.join());`),
      );
      assertEquals(await must(npm, "node encoder.js"), "320");
      await t.step(
        "types, with @webgpu/types: those of the package and those of the engine",
        async () => {
          await write("npm/use.ts", await regression());
          await write(
            "npm/wgsl.d.ts",
            'declare module "*.wgsl" { const text: string; export = text }',
          );
          const compilerOptions = {
            strict: true,
            noEmit: true,
            target: "esnext",
            module: "esnext",
            moduleResolution: "bundler",
            esModuleInterop: true,
            lib: ["esnext", "dom"],
            types: ["@webgpu/types"],
            typeRoots: ["node_modules"],
            allowImportingTsExtensions: true,
          };
          const files = ["use.ts", "wgsl.d.ts", join(ROOT, "engine/mod.ts")];
          await write("npm/tsconfig.json", JSON.stringify({ compilerOptions, files }));
          await must(npm, "npx tsc -p .");
        },
      );
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

fullOnly("deno publish would take it", async () => {
  await must(ROOT, "deno publish --dry-run --allow-dirty");
});
