/** Modules for browsers: small, without what tests and other runtimes need, and still working. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join, relative, toFileUrl } from "@std/path";
import { parse } from "../../../train/deps/acorn.ts";
import { originsOf, past } from "../../../train/bundle/barrel.ts";
import { type Bundle, bundle, bundleTogether } from "../../../train/bundle/bundle.ts";
import { ALONE, filesWith, TOGETHER, zipped } from "../../../train/bundle/main.ts";
import { nodes, withoutComments, withoutReferences } from "../../../train/bundle/reduce.ts";
import { README } from "../../support/markdown.ts";
import { fullOnly, test } from "../../support/tier.ts";

const ROOT = fromFileUrl(new URL("../../..", import.meta.url));

/** Most bytes that a page loads with a module, gzipped as servers keep files. */
const MOST_BYTES: Readonly<Record<string, number>> = {
  ...{ engine: 70_000, capture: 80_000, attention: 110_000, convolution: 110_000 },
  ...{ everything: 170_000, objectives: 150_000, model: 110_000 },
};

/** Globals of Deno and Node, and of Node's older modules. */
const FOREIGN = new Set(["Deno", "process", "Buffer", "require", "module", "__dirname", "global"]);

/** Holds a bundle against what every page needs of it. */
function assertForPages({ code, files, imports }: Bundle): void {
  const comments: string[] = [];
  const tree = parse(code, {
    ecmaVersion: 2022,
    sourceType: "module",
    onComment: (_, text) => comments.push(text),
  });
  assertEquals(comments, []);
  for (const file of files.map((it) => relative(ROOT, it))) {
    assert(!/^tests|engine\/reference\.ts|^train\/(?!bundle\/)/.test(file), file);
  }
  for (const node of nodes(tree)) {
    const { type } = node;
    const text = code.slice(node.start, node.end).slice(0, 80);
    if (/^Import|^Export/.test(type) && node.source != null) {
      assert(imports.includes(`${(node.source as { value?: string }).value}`.slice(2)), text);
    }
    // Names of properties are no uses: `globalThis.Deno` is undefined where there is none.
    const parts = type === "MemberExpression" && !node.computed
      ? [node.object]
      : /^(Property|(Method|Property)Definition)$/.test(type) && !node.computed
      ? [node.value]
      : Object.values(node);
    for (const part of parts.flat() as ({ type?: string; name?: string } | null)[]) {
      assert(part?.type !== "Identifier" || !FOREIGN.has(part.name!), text);
    }
    if (type === "Property") {
      assert((node.key as { name?: string }).name !== "reference", text);
    }
    const words = type === "Literal" ? node.value : type === "TemplateElement" ? text : undefined;
    if (typeof words === "string") {
      assert(!/^node:|(^|\n)\s*\/\/[^:]|\/\*/.test(words), text);
    }
  }
}

const made: Promise<ReadonlyMap<string, Bundle>> = Promise.all([
  bundleTogether(TOGETHER),
  bundle(ALONE.model),
]).then(([together, model]) => new Map([...together, ["model.js", model]]));

/** Runs `body` with what the modules of a page export, loaded in this process. */
async function loaded(
  names: readonly string[],
  body: (...modules: (typeof import("../../../engine/mod.ts"))[]) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, { code }] of await made) await Deno.writeTextFile(join(folder, name), code);
    const paths = names.map((it) => toFileUrl(join(folder, `${it}.js`)).href);
    await body(...await Promise.all(paths.map((it) => import(it))));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

test("the modules for pages are small and hold what pages need alone", async (t) => {
  const entries = { ...TOGETHER, ...ALONE };
  assertEquals(Object.keys(entries), Object.keys(MOST_BYTES));
  for (const [name, { code, files, imports }] of await made) {
    await t.step(name, () => assertForPages({ code, files, imports }));
  }
  await loaded(Object.keys(entries), async (...modules) => {
    for (const [i, [name, source]] of Object.entries(entries).entries()) {
      const files = filesWith(`${name}.js`, await made);
      let bytes = 0;
      for (const it of files) bytes += zipped((await made).get(it)!.code).length;
      assert(bytes < MOST_BYTES[name], `${name}: ${bytes} bytes`);
      // Everything that the entry names is there.
      assertEquals(Object.keys(modules[i]).sort(), Object.keys(await import(source)).sort(), name);
    }
  });
});

test("modules for pages share one engine, and nothing of the engine is missing", () =>
  loaded(
    ["engine", "capture", "attention", "convolution", "everything"],
    async (engine, { capture }, { attention }, { conv2d }, everything) => {
      const own = Object.keys(await import("../../../engine/mod.ts"));
      assertEquals(Object.keys(everything).sort(), own.sort());
      using device = await engine.openDevice();
      const x = device.tensor(Float32Array.from({ length: 32 }, (_, i) => i / 32), [1, 2, 4, 4]);
      const kernel = device.full([1, 2, 3, 3], 1);
      const body = (x: typeof engine.Tensor.prototype) => {
        const rows = engine.reshape(conv2d(x, kernel), [1, 1, 2, 2]);
        return engine.add(attention(rows, rows, rows), rows);
      };
      using plan = capture(device, [x], body);
      const eager = engine.scope(() => body(x));
      assertEquals(await plan.replay([x]).data(), await eager.data());
      // Sums of 18 elements: 0.5 and 9/32 more for each place to the right, and 4 times below.
      const sums = await conv2d(x, kernel).data();
      assertEquals([...sums], [0, 1, 4, 5].map((i) => (i + 5 + 8) * 18 / 32));
      // With everything come methods, to tensors of all.
      assertEquals(await x.sum().item(), 15.5);
    },
  ));

/** README's first program with a module in place of the engine's. */
async function firstExample(): Promise<string> {
  const [, code] = /```ts\n(import \{ backward, [\s\S]*?)```/.exec(
    await Deno.readTextFile(README),
  )!;
  return code;
}

test("README's first program works with the engine for pages", async () => {
  const code = await firstExample();
  const [, names] = /^import \{ ([^}]*) \}/.exec(code)!;
  const body = code.replace(/^import .*\n/, "").replace(/console\.log\((.*)\);.*/, "return [$1];");
  const run = new Function(
    "engine",
    `return (async () => { const { ${names} } = engine; ${body} })()`,
  );
  await loaded(["engine"], async (engine) => {
    const [weight, bias] = await run(engine);
    assert(Math.abs(weight - 2) < 1e-2 && Math.abs(bias - 1) < 2e-2, `${weight} ${bias}`);
  });
});

fullOnly("all of engine and model can be bundled, twice alike; tests keep references", async () => {
  for (const module of ["engine/mod.ts", "model/mod.ts"]) {
    assertForPages(await bundle(join(ROOT, module)));
  }
  assertEquals(await bundleTogether(TOGETHER), new Map([...await made].slice(0, -1)));
  // Pages that import engine/mod.ts have methods of tensors, those that import functions.ts not.
  for (const [module, kept] of [["mod", true], ["functions", false]] as const) {
    const text = `export { openDevice } from "${join(ROOT, "engine", `${module}.ts`)}";`;
    const { files } = await bundle(join(ROOT, "page.ts"), { text });
    assertEquals(files.some((it) => it.endsWith("engine/methods.ts")), kept, module);
  }
  const { files } = await bundle(join(ROOT, "engine/mod.ts"), { references: true });
  assert(files.some((it) => it.endsWith("engine/reference.ts")));
});

test("imports go past a module in between, under whatever name", async () => {
  const barrel = 'export { a, b as c } from "./x.js";export * from "./y.js";';
  const y = "export const d = 1, e = 2; export function f() {}; const g = 3; export { g as h };";
  const origins = await originsOf(barrel, () => Promise.resolve(y));
  assertEquals([...origins.keys()], ["a", "c", "d", "e", "f", "h"]);
  const code = 'import { a, c as k, d } from "../all.js"; import * as z from "../all.js"; k();';
  assertEquals(
    past(code, (it) => it === "../all.js", (it) => origins.get(it)!),
    'import { a as a } from "./x.js";import { b as k } from "./x.js";' +
      'import { d as d } from "./y.js"; import * as z from "../all.js"; k();',
  );
});

test("references leave ops, and nothing else does", () => {
  const code = `const op = defineOp({ name: "a", forward: ([f]) => [f], reference: { forward(x) {
    return { f: 1 }; } }, backward: () => [] });
const rows = { sin: { wgsl: "sin(a)", f: Math.sin, df: (a) => Math.cos(a) } };
const refSine = rows.sin.f, refCosine = rows.sin.df;
const referee = 1;
export const refHere = 2;`;
  assertEquals(
    withoutReferences(code),
    `const op = defineOp({ name: "a", forward: ([f]) => [f], backward: () => [] });
const rows = { sin: { wgsl: "sin(a)", } };
const referee = 1;
export const refHere = 2;`,
  );
});

/** Words and signs of a text of WGSL, directives whole, expressions of the template closed up. */
const tokens = (wgsl: string): string[] =>
  wgsl.match(/^\s*\/\/:.*$|\w+(\.\w+)?|\$\{[^}]*\}|[^\s\w]/gm)!
    .map((it) => it.startsWith("$") ? it.replaceAll(" ", "") : it.trim());

test("kernels lose comments and spaces, and no word", () => {
  assertEquals(
    withoutComments("// a\n\n  let x = a + - b; // c\n//:if N > 1\n f(a, b);\n//:end"),
    [
      "let x=a + - b;",
      "//:if N > 1",
      "f(a,b);",
      "//:end",
    ].join("\n"),
  );
  for (const folder of ["kernels", "kernels/include"]) {
    for (const { name } of Deno.readDirSync(join(ROOT, folder))) {
      if (!name.endsWith(".wgsl")) continue;
      const text = Deno.readTextFileSync(join(ROOT, folder, name));
      const short = withoutComments(text);
      assertEquals(tokens(short), tokens(text.replace(/\/\/(?!:).*$/gm, "")), name);
      assert(short.length < text.length, name);
    }
  }
});

test("a module of one's own that is imported for what it does stays", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(join(folder, "effect.ts"), 'document.title = "mine";\n');
    await Deno.writeTextFile(join(folder, "page.ts"), 'import "./effect.ts";\n');
    assertEquals((await bundle(join(folder, "page.ts"))).code, 'document.title="mine";\n');
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

test("a module that cannot be bundled is named with its line", async () => {
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, "\nconst a = ;\n");
    const error = await bundle(file).then(() => undefined, (it) => it);
    assertStringIncludes(error.message, "2:");
    assertStringIncludes(error.message, file);
  } finally {
    await Deno.remove(file);
  }
});
