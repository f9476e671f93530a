/**
 * Imports past a module that only exports what others have. Where several modules are bundled, all
 * that any of them takes through it would be shared by all who import it.
 *
 * @module
 */
import { parsed } from "./reduce.ts";

/** What is read of the syntax tree of a module. */
interface Statement {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly source?: { readonly value: string } | null;
  readonly declaration?: {
    readonly id?: { readonly name: string };
    readonly declarations?: readonly { readonly id: { readonly name: string } }[];
  } | null;
  readonly specifiers?: readonly {
    readonly local: { readonly name: string };
    readonly imported?: { readonly name: string };
    readonly exported?: { readonly name: string };
  }[];
}

/** A name as a module exports it. */
export interface Origin {
  /** The module, as the one in between names it. */
  readonly path: string;
  /** The name there. */
  readonly name: string;
}

const statements = (code: string): readonly Statement[] =>
  (parsed(code) as unknown as { readonly body: readonly Statement[] }).body;

/** Names that a module declares and exports. */
const declared = (code: string): string[] =>
  statements(code).filter(({ type }) => type === "ExportNamedDeclaration")
    .flatMap(({ declaration, specifiers = [] }) => [
      ...[declaration, ...declaration?.declarations ?? []].flatMap((it) => it?.id?.name ?? []),
      ...specifiers.flatMap(({ exported }) => exported?.name ?? []),
    ]);

/**
 * Where the names of a module come from.
 *
 * @param code JavaScript of the module
 * @param load JavaScript of a module, by the path that `code` names
 */
export async function originsOf(
  code: string,
  load: (path: string) => Promise<string>,
): Promise<Map<string, Origin>> {
  const origins = new Map<string, Origin>();
  for (const { type, source, specifiers } of statements(code)) {
    if (!source) continue;
    const path = source.value;
    if (type === "ExportAllDeclaration") {
      for (const name of declared(await load(path))) origins.set(name, { path, name });
    }
    for (const { local, exported } of specifiers ?? []) {
      if (exported) origins.set(exported.name, { path, name: local.name });
    }
  }
  return origins;
}

/**
 * A module that imports from where names come from.
 *
 * @param code JavaScript
 * @param isBarrel whether the path of an import leads to the module in between
 * @param originOf a name of that
 */
export function past(
  code: string,
  isBarrel: (path: string) => boolean,
  originOf: (name: string) => Origin,
): string {
  let [out, end] = ["", 0];
  for (const { type, source, specifiers, start, end: behind } of statements(code)) {
    if (type !== "ImportDeclaration" || !source || !isBarrel(source.value)) continue;
    if (!specifiers?.every(({ imported }) => imported)) continue;
    out += code.slice(end, start) + specifiers.map(({ imported, local }) => {
      const { path, name } = originOf(imported!.name);
      return `import { ${name} as ${local.name} } from ${JSON.stringify(path)};`;
    }).join("");
    end = behind;
  }
  return out + code.slice(end);
}
