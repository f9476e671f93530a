/** Modules for browsers: small, without what tests and other runtimes need, and still working. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join, relative } from "@std/path";
import { gzipSync } from "node:zlib";
import { parse } from "../../../train/deps/acorn.ts";
import { type Bundle, bundle } from "../../../train/bundle/bundle.ts";
import { ENTRIES } from "../../../train/bundle/main.ts";
import { nodes, withoutComments, withoutReferences } from "../../../train/bundle/reduce.ts";
import { README } from "../../support/markdown.ts";
import { fullOnly, test } from "../../support/tier.ts";

const ROOT = fromFileUrl(new URL("../../..", import.meta.url));

/** Most bytes of each module, gzipped as servers keep files. */
const MOST_BYTES: Readonly<Record<string, number>> = { "engine.ts": 70_000, "model.ts": 110_000 };

/** Globals of Deno and Node, and of Node's older modules. */
const FOREIGN = new Set(["Deno", "process", "Buffer", "require", "module", "__dirname", "global"]);

/** Holds a bundle against what every page needs of it. */
function assertForPages({ code, files }: Bundle): void {
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
    assert(!/^Import/.test(type), text);
    assert(!/^Export/.test(type) || node.source == null, text);
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

const bundles = new Map<string, Promise<Bundle>>();

/** The bundle of an entry, made once. */
function made(entry: string): Promise<Bundle> {
  let it = bundles.get(entry);
  if (!it) bundles.set(entry, it = bundle(entry));
  return it;
}

/** What a module exports, loaded in this process. */
async function loaded(code: string): Promise<typeof import("../../../engine/functions.ts")> {
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  try {
    return await import(address);
  } finally {
    URL.revokeObjectURL(address);
  }
}

test("the modules for pages are small and hold what pages need alone", async (t) => {
  assertEquals(ENTRIES.map((it) => relative(join(ROOT, "train/bundle"), it)), [
    ...Object.keys(MOST_BYTES),
  ]);
  for (const entry of ENTRIES) {
    const name = relative(join(ROOT, "train/bundle"), entry);
    await t.step(name, async () => {
      const { code, files } = await made(entry);
      const bytes = gzipSync(code, { level: 9 }).length;
      assert(bytes < MOST_BYTES[name], `${bytes} bytes`);
      assertForPages({ code, files });
      const exported = await loaded(code);
      // Everything that the entry names is there.
      const source = await import(entry);
      assertEquals(Object.keys(exported).sort(), Object.keys(source).sort());
    });
  }
});

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
  const engine = await loaded((await made(ENTRIES[0])).code);
  const body = code.replace(/^import .*\n/, "").replace(/console\.log\((.*)\);.*/, "return [$1];");
  const run = new Function(
    "engine",
    `return (async () => { const { ${names} } = engine; ${body} })()`,
  );
  const [weight, bias] = await run(engine);
  assert(Math.abs(weight - 2) < 1e-2 && Math.abs(bias - 1) < 2e-2, `${weight} ${bias}`);
});

fullOnly("all of engine and model can be bundled, twice alike; tests keep references", async () => {
  for (const module of ["engine/mod.ts", "model/mod.ts"]) {
    assertForPages(await bundle(join(ROOT, module)));
  }
  assertEquals((await bundle(ENTRIES[0])).code, (await made(ENTRIES[0])).code);
  // Pages that import engine/mod.ts have methods of tensors, those that import functions.ts not.
  for (const [module, kept] of [["mod", true], ["functions", false]] as const) {
    const text = `export { openDevice } from "${join(ROOT, "engine", `${module}.ts`)}";`;
    const { files } = await bundle(join(ROOT, "page.ts"), { text });
    assertEquals(files.some((it) => it.endsWith("engine/methods.ts")), kept, module);
  }
  const { files } = await bundle(join(ROOT, "engine/mod.ts"), { references: true });
  assert(files.some((it) => it.endsWith("engine/reference.ts")));
});

test("references leave ops, and nothing else does", () => {
  const code = `const op = defineOp({ name: "a", forward: ([f]) => [f], reference: { forward(x) {
    return { f: 1 }; } }, backward: () => [] });
const rows = { sin: { wgsl: "sin(a)", f: Math.sin, df: (a) => Math.cos(a) } };
const refSine = rows.sin.f, refCosine = rows.sin.df;
const referee = 1;`;
  assertEquals(
    withoutReferences(code),
    `const op = defineOp({ name: "a", forward: ([f]) => [f], backward: () => [] });
const rows = { sin: { wgsl: "sin(a)", } };
const referee = 1;`,
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
