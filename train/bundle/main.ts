/**
 * `deno task bundle`: one file for browsers of each module.
 *
 * ```
 * deno task bundle                             # bundles/engine.js and bundles/model.js
 * deno task bundle --out web my_page.ts        # web/my_page.js, with all that it imports
 * ```
 *
 * @module
 */
import { gzipSync } from "node:zlib";
import { basename, fromFileUrl, join } from "../deps/path.ts";
import { bundle } from "./bundle.ts";

/** What pages usually need. */
export const ENTRIES: readonly string[] = ["engine.ts", "model.ts"].map((name) =>
  fromFileUrl(new URL(name, import.meta.url))
);

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
  for (const module of modules.length > 0 ? modules : ENTRIES) {
    const { code } = await bundle(module);
    const path = join(folder, basename(module).replace(/\.ts$/, ".js"));
    await Deno.writeTextFile(path, code);
    const [size, zipped] = [new TextEncoder().encode(code), gzipSync(code, { level: 9 })]
      .map(({ length }) => (length / 1000).toFixed(1));
    console.log(`${path}: ${size} kB, ${zipped} kB gzipped`);
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
