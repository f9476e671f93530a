/**
 * Makes one file for browsers of a module and what it imports.
 *
 * @module
 */
import {
  build,
  initialize,
  type Metafile,
  type Plugin,
  PROGRAM,
  transform,
} from "../deps/esbuild.ts";
import { FFLATE } from "../deps/fflate.ts";
import { basename, fromFileUrl, join, resolve, SEPARATOR } from "../deps/path.ts";
import { type Origin, originsOf, past } from "./barrel.ts";
import { includes, withoutComments, withoutReferences } from "./reduce.ts";

/** A module with all that it imports. */
export interface Bundle {
  /** JavaScript. */
  readonly code: string;
  /** Paths of the files of which something is in it. */
  readonly files: readonly string[];
  /** Names of the bundles beside it that it imports. */
  readonly imports: readonly string[];
}

/** How a bundle is made. */
export interface BundleOptions {
  /** Whether float64 references of ops stay, for tests; default false. */
  readonly references?: boolean;
  /** JavaScript in place of the entry's file, which then need not exist. */
  readonly text?: string;
}

/** Folders of the project's own modules. */
const OWN: readonly string[] = ["engine", "kernels", "model", "train", "tests"].map((name) =>
  resolve(fromFileUrl(import.meta.url), "../../..", name) + SEPARATOR
);

/** Whether a module may do something when it is loaded: of the project's own, methods are added. */
const hasEffects = (file: string): boolean =>
  /\bengine\/(methods|mod)\.ts$/.test(file) || !OWN.some((folder) => file.startsWith(folder));

/** What current Chrome, Firefox and Safari have in common; `using` is written out. */
const TARGET = "es2022";

let ready: Promise<void> | undefined;

async function start(): Promise<void> {
  const program = await Deno.readFile(fromFileUrl(PROGRAM));
  await initialize({ wasmModule: await WebAssembly.compile(program), worker: false });
}

/** A module as the bundler takes it, without references unless `references`. */
async function contentsOf(path: string, references: boolean): Promise<string> {
  const text = await Deno.readTextFile(path);
  if (path.endsWith(".wgsl")) return kernelModule(withoutComments(text));
  if (FRAGMENTS.test(path)) return "export const fragments = {};";
  if (!path.endsWith(".ts")) return text;
  const code = await scriptOf(path, text);
  if (!references && /\bengine\/ops\/[^/]+$/.test(path)) return withoutReferences(code);
  if (path === FUNCTIONS || !code.includes("engine/functions.ts")) return code;
  const origins =
    await (functions ??= scriptOf(FUNCTIONS).then((it) =>
      originsOf(it, (path) => scriptOf(resolve(FUNCTIONS, "..", path)))
    ));
  return past(code, (it) => resolve(path, "..", it) === FUNCTIONS, (name) => {
    const { path, ...rest } = origins.get(name)!;
    return { ...rest, path: resolve(FUNCTIONS, "..", path) };
  });
}

/** JavaScript of a module. */
async function scriptOf(path: string, text?: string): Promise<string> {
  const source = text ?? await Deno.readTextFile(path);
  return (await transform(source, { loader: "ts", target: "esnext", sourcefile: path })).code;
}

/** The module that exports all functions of the engine, and where it has them from. */
const FUNCTIONS = resolve(fromFileUrl(import.meta.url), "../../../engine/functions.ts");
let functions: Promise<Map<string, Origin>> | undefined;

/** What was read, so that a second bundle is made faster. */
const read = new Map<string, Promise<string>>();

/** The index of fragments: kernels bring those that they include. */
const FRAGMENTS = /\bkernels\/include\/mod\.ts$/;

/** A module with the text of a kernel or fragment, which brings the fragments that it includes. */
function kernelModule(text: string): string {
  const names = [...new Set(includes(text))];
  const folder = resolve(fromFileUrl(import.meta.url), "../../../kernels/include");
  const imports = [
    `import { fragments } from ${JSON.stringify(join(folder, "mod.ts"))};`,
    ...names.map((it) => `import ${it} from ${JSON.stringify(join(folder, `${it}.wgsl`))};`),
    `Object.assign(fragments, { ${names} });`,
  ];
  return `${names.length > 0 ? imports.join("\n") : ""}
export default ${JSON.stringify(text)};`;
}

/** Reads modules, texts and the browser's variant of packages. */
function sources(entry: string | undefined, { references = false, text }: BundleOptions): Plugin {
  return {
    name: "sources",
    setup(build) {
      build.onResolve({ filter: /.*/ }, ({ path, importer }) => {
        const isPackage = path.startsWith("npm:fflate@");
        // Of other packages nothing may be used, which is looked at when all is put together.
        if (!isPackage && !/^[./]|^file:/.test(path) && importer !== "") {
          return { path, external: true, sideEffects: false };
        }
        const file = isPackage
          ? fromFileUrl(FFLATE)
          : path.startsWith("file:")
          ? fromFileUrl(path)
          : resolve(importer, "..", path);
        const sideEffects = isPackage ? false : hasEffects(file);
        return { path: file, namespace: "source", sideEffects };
      });
      build.onLoad({ filter: /.*/, namespace: "source" }, async ({ path }) => {
        if (path === entry && text !== undefined) return { contents: text, loader: "js" };
        const key = `${references} ${path}`;
        let contents = read.get(key);
        if (!contents) read.set(key, contents = contentsOf(path, references));
        return { contents: await contents, loader: "js" };
      });
    },
  };
}

/** How names of files begin that several modules share. */
export const SHARED = "shared-";

/** The files of which something is in a bundle. */
const filesOf = ({ inputs }: Metafile["outputs"][string]): string[] =>
  Object.keys(inputs).filter((it) => inputs[it].bytesInOutput > 0)
    .map((it) => it.replace(/^source:/, ""));

/** Bundles of modules by name, and of what several of them share. */
async function bundles(
  entries: Readonly<Record<string, string>>,
  plugin: Plugin,
): Promise<Map<string, Bundle>> {
  await (ready ??= start());
  const { outputFiles, metafile } = await build({
    entryPoints: { ...entries },
    bundle: true,
    splitting: Object.keys(entries).length > 1,
    outdir: "/",
    chunkNames: `${SHARED}[hash]`,
    format: "esm",
    target: TARGET,
    minify: true,
    legalComments: "none",
    charset: "utf8",
    write: false,
    metafile: true,
    logLevel: "silent",
    define: { "globalThis.Deno": "undefined", "globalThis.process": "undefined" },
    plugins: [plugin],
  });
  const outputs = Object.values(metafile.outputs);
  const foreign = outputs.flatMap((it) => it.imports.filter(({ external }) => external));
  if (foreign.length > 0) {
    const names = [...new Set(foreign.map(({ path }) => path))].join(", ");
    throw new Error(`${Object.values(entries).join(", ")}: ${names} would be imported by the page`);
  }
  const made = outputFiles.map(({ path, text }, i) => ({
    ...{ name: basename(path), code: text, files: filesOf(outputs[i]) },
    imports: outputs[i].imports.map(({ path }) => basename(path)),
  }));
  // Of modules that only export what others have nothing is left.
  const empty = new Set(made.filter(({ code }) => code.trim() === "").map(({ name }) => name));
  return new Map(
    made.filter(({ name }) => !empty.has(name)).map(({ name, code, ...rest }) => [
      name,
      {
        ...rest,
        code: code.replace(/import"\.\/([^"]+)";/g, (it, name) => empty.has(name) ? "" : it),
        imports: rest.imports.filter((it) => !empty.has(it)),
      },
    ]),
  );
}

/**
 * The module as one minified file without comments and imports; references of ops, kernels and
 * fragments that nothing uses, and what other runtimes than browsers need are left out. The same
 * sources give the same bytes.
 *
 * @param entry path of a TypeScript module
 * @throws {Error} that names file and line of what cannot be bundled, or packages and modules of
 * runtimes that are used: fflate is the only package that pages get.
 */
export async function bundle(entry: string, options: BundleOptions = {}): Promise<Bundle> {
  const path = resolve(entry);
  const [made] = (await bundles({ module: path }, sources(path, options))).values();
  return made;
}

/**
 * Several modules likewise, which import what they share from further files, so that what one makes
 * the others can take.
 *
 * @param entries paths of TypeScript modules by the names of their files, without `.js`
 * @returns files by name
 * @throws {Error} as {@link bundle}.
 */
export async function bundleTogether(
  entries: Readonly<Record<string, string>>,
): Promise<ReadonlyMap<string, Bundle>> {
  return await bundles(entries, sources(undefined, {}));
}
