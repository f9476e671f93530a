/** Methods of tensors are the functions of the same names; functions.ts does without them. */
import { assertEquals } from "@std/assert";
import { METHOD_NAMES } from "../../engine/methods.ts";
import * as engine from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();

Deno.test("methods chain, and gradients pass them", async () => {
  using x = device.tensor([[1, -2], [3, 4]]).trainable();
  using loss = engine.scope(() => {
    const loss = x.mul(2).relu().sum();
    loss.backward();
    return loss;
  });
  assertEquals(await loss.item(), 16);
  assertEquals([...await x.grad!.data()], [2, 0, 2, 2]);
  using top = engine.scope(() => x.detach().topk(1).values.squeeze(-1));
  assertEquals([...await top.data()], [1, 4]);
});

/** Methods whose types cannot be told from those of their functions. */
type Untyped = { [K in keyof engine.Methods]: engine.Methods[K] extends never ? K : never }[
  keyof engine.Methods
];

Deno.test("every method has the type of its function", () => {
  // Assigns only if there is none: a rest parameter of a read-only array would make one.
  const untyped: [Untyped] extends [never] ? "none" : Untyped = "none";
  assertEquals(untyped, "none");
});

/** Files all of whose public functions are methods, but those. */
const FILES: Readonly<Record<string, readonly string[]>> = {
  ...{ unary: [], elementwise: [], compare: ["where"], bitwise: [], any_all: [], cast: [] },
  ...{ reduce: [], variance: [], softmax: [], sort: [], view: ["concat"], at: [] },
  ...{
    axes: [],
    rearrange: ["meshgrid"],
    assemble: ["stack"],
    pad: [],
    diagonal: [],
    masks: [],
    scatter: [],
  },
  ...{ activation: [], blend: [], quantile: [], counting: [] },
};

Deno.test("what is chained is a method under its name", async () => {
  const functions = new Set<unknown>();
  for (const [file, others] of Object.entries(FILES)) {
    const module = await import(new URL(`../../engine/ops/${file}.ts`, import.meta.url).href);
    for (const [name, value] of Object.entries(module)) {
      if (!others.includes(name)) functions.add(value);
    }
  }
  const missing = Object.entries(engine).filter(([name, value]) =>
    functions.has(value) && !(name in engine.Tensor.prototype)
  );
  assertEquals(missing.map(([name]) => name), [], "methods that engine/methods.ts does not name");
  assertEquals([...new Set(METHOD_NAMES)], [...METHOD_NAMES], "each is named once");
});

Deno.test("functions.ts does without the methods", () => {
  const folders = ["", "/derivatives", "/launch", "/nn", "/ops"].map((it) => `engine${it}`);
  const bringing = folders.flatMap((folder) =>
    [...Deno.readDirSync(new URL(`../../${folder}/`, import.meta.url))]
      .map(({ name }) => `${folder}/${name}`)
      .filter((path) => path.endsWith(".ts") && path !== "engine/mod.ts")
      .filter((path) => {
        const text = Deno.readTextFileSync(new URL(`../../${path}`, import.meta.url));
        // Imports of types leave nothing behind.
        return /^(import|export)(?! type).*"\.{1,2}\/(methods|mod)\.ts"/m.test(text);
      })
  );
  assertEquals(bringing, []);
});
