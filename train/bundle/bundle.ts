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
import { fromFileUrl, resolve, SEPARATOR } from "../deps/path.ts";
import { includes, withoutComments, withoutReferences } from "./reduce.ts";

/** A module with all that it imports. */
export interface Bundle {
  /** JavaScript. */
  readonly code: string;
  /** Paths of the files of which something is in it. */
  readonly files: readonly string[];
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
  if (path.endsWith(".wgsl")) return withoutComments(text);
  if (!path.endsWith(".ts")) return text;
  const { code } = await transform(text, { loader: "ts", target: "esnext", sourcefile: path });
  return references || !/\bengine\/ops\/[^/]+$/.test(path) ? code : withoutReferences(code);
}

/** What was read, so that a second bundle is made faster. */
const read = new Map<string, Promise<string>>();

/** The index of fragments, with all of them. */
const FRAGMENTS = /\bkernels\/include\/mod\.ts$/;

/**
 * Reads modules, texts and the browser's variant of packages.
 *
 * @param fragments those that are needed
 */
function sources(
  entry: string,
  { references = false, text }: BundleOptions,
  fragments: ReadonlySet<string>,
): Plugin {
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
        const loader = path.endsWith(".wgsl") ? "text" : "js";
        if (!FRAGMENTS.test(path)) return { contents: await contents, loader };
        const names = [...fragments].sort();
        const lines = names.map((it) => `import ${it} from "./${it}.wgsl";`);
        return { contents: `${lines.join("")}export const fragments={${names}};`, loader };
      });
    },
  };
}

/** Files of which something is in a build. */
function filesOf({ metafile: { outputs } }: { readonly metafile: Metafile }): string[] {
  const [{ inputs }] = Object.values(outputs);
  return Object.keys(inputs).filter((it) => inputs[it].bytesInOutput > 0)
    .map((it) => it.replace(/^source:/, ""));
}

/** Names of the fragments that kernels of a build include, and those that these include. */
async function fragmentsOf(files: readonly string[]): Promise<Set<string>> {
  const folder = resolve(fromFileUrl(import.meta.url), "../../../kernels/include");
  const kernels = files.filter((it) => /\bkernels\/\w+\.wgsl$/.test(it));
  const found = new Set<string>();
  for (let open = kernels; open.length > 0;) {
    const texts = await Promise.all(open.map((it) => Deno.readTextFile(it)));
    const names = texts.flatMap(includes).filter((it) => !found.has(it));
    for (const name of names) found.add(name);
    open = [...new Set(names)].map((it) => resolve(folder, `${it}.wgsl`));
  }
  return found;
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
  await (ready ??= start());
  const path = resolve(entry);
  const made = (fragments: ReadonlySet<string>) =>
    build({
      entryPoints: [path],
      bundle: true,
      format: "esm",
      target: TARGET,
      minify: true,
      legalComments: "none",
      charset: "utf8",
      write: false,
      metafile: true,
      logLevel: "silent",
      define: { "globalThis.Deno": "undefined", "globalThis.process": "undefined" },
      plugins: [sources(path, options, fragments)],
    });
  const first = await made(new Set());
  const second = await made(await fragmentsOf(filesOf(first)));
  const packages = Object.values(second.metafile.outputs)[0].imports.map(({ path }) => path);
  if (packages.length > 0) {
    throw new Error(`${entry}: ${[...new Set(packages)].join(", ")} would be imported by the page`);
  }
  return { code: second.outputFiles[0].text, files: filesOf(second) };
}
