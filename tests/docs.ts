/**
 * `deno task docs`: writes the generated tables of the manuals and the index of WGSL fragments
 * anew. With `--check` it writes nothing, names what is out of date, and exits with 1 if anything
 * is.
 *
 * @module
 */
import { type Device, openDevice } from "../engine/mod.ts";
import { fragmentIndex } from "../kernels/include/generate.ts";
import { withTable } from "./support/markdown.ts";
import { opTable } from "./support/op_table.ts";
import { presetTable, recipeTable } from "./support/preset_tables.ts";
import { composedOps, sampledOps } from "./support/samples.ts";

/** Files with generated parts, by path, and what makes their text of the present one. */
const GENERATED: Readonly<
  Record<string, (text: string, device: Device) => string | Promise<string>>
> = {
  "engine/README.md": async (text) =>
    withTable(text, "ops", opTable(await sampledOps(), await composedOps())),
  "kernels/include/mod.ts": () => fragmentIndex(),
  "train/README.md": (text, device) =>
    withTable(
      withTable(text, "presets", presetTable(device, text)),
      "recipes",
      recipeTable(),
    ),
};

/**
 * Texts of the files that are out of date, by path. Memory in the table of presets counts as up to
 * date within a tenth: kernel variants of another adapter have other intermediate results.
 */
export async function outdated(device: Device): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for (const [path, render] of Object.entries(GENERATED)) {
    const present = Deno.readTextFileSync(urlOf(path));
    const text = await render(present, device);
    if (text !== present) texts.set(path, text);
  }
  return texts;
}

const urlOf = (path: string): URL => new URL(`../${path}`, import.meta.url);

async function main(words: readonly string[]): Promise<number> {
  if (words.some((it) => it !== "--check")) {
    console.error(`error: unknown option\nUsage: deno task docs [--check]`);
    return 2;
  }
  const check = words.length > 0;
  using device = await openDevice();
  const texts = await outdated(device);
  for (const [path, text] of texts) {
    if (!check) Deno.writeTextFileSync(urlOf(path), text);
    console.log(`${path} ${check ? "is out of date; deno task docs writes it" : "written"}`);
  }
  return check && texts.size > 0 ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
