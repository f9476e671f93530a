/**
 * Makes the npm package: `deno pack`, and then what Node and bundlers lack. They cannot import
 * texts, so each kernel becomes a module that exports its text; `using`, which Node has from 24 on,
 * is written out; types name the package that declares WebGPU. In Deno and in the repository
 * kernels stay files.
 *
 * ```
 * deno task pack                      # tessera-tessera-VERSION.tgz
 * deno task pack -o /tmp/tessera.tgz
 * ```
 *
 * @module
 */
import { fromFileUrl, join, resolve } from "@std/path";

const ROOT = fromFileUrl(new URL("..", import.meta.url));

/** What writes `using` out for Node 20. */
const ESBUILD = "npm:esbuild@0.28.1";
/** What declares WebGPU where TypeScript does not. */
const WEBGPU_TYPES = { "@webgpu/types": "^0.1.74" };
/**
 * Modules that do something when they are loaded, and those that import them for it: without either
 * a bundler drops the import.
 */
export const SIDE_EFFECTS: readonly string[] = ["./engine/methods.js", "./engine/mod.js"];

/** Imports of texts become imports of the modules that hold them. */
export function textModules(code: string): string {
  return code.replace(/(\.wgsl)"\s+with\s*\{\s*type:\s*"text",?\s*\}/g, '$1.js"');
}

/** The module that holds a text. */
export function textModule(text: string): string {
  return `export default ${JSON.stringify(text)};\n`;
}

/** Files below a folder. */
function* files(folder: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    if (isDirectory) yield* files(join(folder, name));
    else yield join(folder, name);
  }
}

async function run(command: string, ...args: string[]): Promise<void> {
  const { success } = await new Deno.Command(command, {
    args,
    cwd: ROOT,
    stdout: "null",
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`${command} ${args.slice(0, 3).join(" ")} … failed`);
}

/** Makes of an unpacked package of `deno pack` one for Node as well. */
async function forNode(folder: string): Promise<void> {
  const scoped: string[] = [];
  for (const path of [...files(folder)]) {
    if (path.endsWith(".wgsl")) {
      await Deno.writeTextFile(`${path}.js`, textModule(await Deno.readTextFile(path)));
      await Deno.remove(path);
    } else if (path.endsWith(".js")) {
      const code = textModules(await Deno.readTextFile(path));
      await Deno.writeTextFile(path, code);
      if (/^\s*(?:await )?using \w/m.test(code)) scoped.push(path);
    } else if (path.endsWith(".ts") && !path.endsWith(".d.ts")) {
      // Commands, which no export reaches.
      await Deno.remove(path);
    }
  }
  const words = [
    "--target=node20",
    "--format=esm",
    `--outdir=${folder}`,
    `--outbase=${folder}`,
    "--allow-overwrite",
  ];
  const allowed = ["--allow-read", "--allow-write", "--allow-env", "--allow-run"];
  const esbuild = ["run", "-q", "--no-config", "--no-prompt", ...allowed, ESBUILD];
  await run(Deno.execPath(), ...esbuild, ...words, ...scoped);
  const types = join(folder, "engine/mod.d.ts");
  const reference = '/// <reference types="@webgpu/types" />\n';
  await Deno.writeTextFile(types, reference + await Deno.readTextFile(types));
  const manifest = join(folder, "package.json");
  const { dependencies, ...rest } = JSON.parse(await Deno.readTextFile(manifest));
  const about = {
    ...rest,
    description: "Tensors and autograd on WebGPU, and audio encoders (MATPAC, M2D, MSM-MAE) on it",
    engines: { node: ">=20.16" },
    sideEffects: SIDE_EFFECTS,
    dependencies: { ...WEBGPU_TYPES, ...dependencies },
  };
  await Deno.writeTextFile(manifest, JSON.stringify(about, null, 2) + "\n");
}

/** Packs this checkout into a file. */
export async function pack(path: string): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const first = join(folder, "deno.tgz");
    await run(Deno.execPath(), "pack", "-q", "--allow-dirty", "--no-source-maps", "-o", first);
    await run("tar", "-xzf", first, "-C", folder);
    await forNode(join(folder, "package"));
    await run("tar", "-czf", resolve(path), "-C", folder, "package");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) {
  const [option, given] = Deno.args;
  if (option !== undefined && (option !== "-o" || given === undefined)) {
    console.error("usage: deno task pack [-o FILE]");
    Deno.exit(2);
  }
  const { version } = JSON.parse(await Deno.readTextFile(join(ROOT, "deno.json")));
  const path = given ?? `tessera-tessera-${version}.tgz`;
  await pack(path);
  console.log(`${path} (${((await Deno.stat(path)).size / 1024).toFixed(0)} KiB)`);
}
