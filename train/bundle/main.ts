/**
 * `deno task bundle`: modules for browsers, or one file of each module of one's own.
 *
 * ```
 * deno task bundle                             # engine.js, model.js and others, into bundles/
 * deno task bundle --out web my_page.ts        # web/my_page.js, with all that it imports
 * ```
 *
 * @module
 */
import { gzipSync } from "node:zlib";
import { basename, fromFileUrl, join } from "../deps/path.ts";
import { type Bundle, bundle, bundleTogether, SHARED } from "./bundle.ts";

const pathOf = (name: string): string => fromFileUrl(new URL(`${name}.ts`, import.meta.url));

/** Modules that share one engine: what one makes the others take. */
export const TOGETHER: Readonly<Record<string, string>> = Object.fromEntries(
  ["engine", "capture", "attention", "convolution", "everything", "objectives"]
    .map((name) => [name, pathOf(name)]),
);
/** Modules that are one file each. */
export const ALONE: Readonly<Record<string, string>> = { model: pathOf("model") };

/** Names of the files that a page loads with one of them, itself the first. */
export function filesWith(name: string, made: ReadonlyMap<string, Bundle>): string[] {
  const found = new Set([name]);
  for (const it of found) made.get(it)!.imports.forEach((other) => found.add(other));
  return [...found];
}

/** As servers keep files. */
export const zipped = (code: string): Uint8Array => gzipSync(code, { level: 9 });

const USAGE = "usage: deno task bundle [--out FOLDER] [MODULE.ts …]";

async function main(words: readonly string[]): Promise<number> {
  const modules: string[] = [];
  let folder = "bundles";
  for (let i = 0; i < words.length; i++) {
    if (words[i] === "--out" && i + 1 < words.length) folder = words[++i];
    else if (words[i].startsWith("-") || !words[i].endsWith(".ts")) {
      const help = words[i] === "--help" || words[i] === "-h";
      console[help ? "log" : "error"](USAGE);
      return help ? 0 : 2;
    } else modules.push(words[i]);
  }
  await Deno.mkdir(folder, { recursive: true });
  const made = new Map(modules.length > 0 ? [] : await bundleTogether(TOGETHER));
  const own = modules.map((it) => [basename(it).replace(/\.ts$/, ""), it]);
  for (const [name, path] of modules.length > 0 ? own : Object.entries(ALONE)) {
    made.set(`${name}.js`, await bundle(path));
  }
  for (const [name, { code }] of made) await Deno.writeTextFile(join(folder, name), code);
  for (const name of [...made.keys()].filter((it) => !it.startsWith(SHARED))) {
    const codes = filesWith(name, made).map((it) => made.get(it)!.code);
    const sizes = [codes.map((it) => new TextEncoder().encode(it)), codes.map(zipped)]
      .map((all) => (all.reduce((sum, { length }) => sum + length, 0) / 1000).toFixed(1));
    const rest = codes.length > 1 ? ` in ${codes.length} files` : "";
    console.log(`${join(folder, name)}: ${sizes[0]} kB, ${sizes[1]} kB gzipped${rest}`);
  }
  return 0;
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    console.error(`error: ${error instanceof Error ? error.message : error}`);
    Deno.exit(1);
  }
}
