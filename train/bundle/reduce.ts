/**
 * What a browser needs of a source text.
 *
 * @module
 */
import { type Node, parse } from "../deps/acorn.ts";

/** Nodes of a syntax tree, the outer ones before the inner ones. */
export function* nodes(tree: unknown): Generator<Node & Record<string, unknown>> {
  if (typeof tree !== "object" || tree === null) return;
  if ("type" in tree && "start" in tree) yield tree as Node & Record<string, unknown>;
  for (const part of Object.values(tree)) yield* nodes(part);
}

/** The syntax tree of a module. */
export function parsed(code: string): Node {
  return parse(code, { ecmaVersion: "latest", sourceType: "module" });
}

/**
 * Properties of ops, and of rows in tables of ops, that hold float64 references: tests alone read
 * them.
 */
const REFERENCES: ReadonlySet<string> = new Set(["reference", "f", "df"]);
/** Names of functions that references are made of. */
const HELPER = /^ref[A-Z]|^reference$/;

/**
 * A module of `engine/ops/` without float64 references. What they alone use at the top of the
 * module is left for the bundler to drop.
 *
 * @param code JavaScript
 */
export function withoutReferences(code: string): string {
  let out = "";
  let end = 0;
  const cut = ({ start, end: behind }: Node) => {
    if (start < end) return;
    out += code.slice(end, start);
    end = behind + /^\s*,?\s*/.exec(code.slice(behind))![0].length;
  };
  let exported: unknown;
  for (const node of nodes(parsed(code))) {
    // Other modules may import it: the bundler drops it if none does.
    if (node.type === "ExportNamedDeclaration") exported = node.declaration;
    if (node.type === "ObjectExpression") {
      const properties = node
        .properties as (Node & { readonly key?: { readonly name?: string } })[];
      properties.filter(({ key }) => REFERENCES.has(key?.name ?? "")).forEach(cut);
    } else if (node.type === "VariableDeclaration" && node !== exported) {
      const names = node.declarations as { readonly id: { readonly name?: string } }[];
      if (names.every(({ id }) => HELPER.test(id.name ?? ""))) cut(node);
    }
  }
  return out + code.slice(end);
}

/**
 * The text of a kernel without comments and dispensable spaces. Directives of the template language
 * stand alone on their lines, so lines stay; declarations, which the engine reads, stay as they
 * are.
 */
export function withoutComments(wgsl: string): string {
  return wgsl.split("\n")
    .map((line) => line.trim())
    .map((line) => line.startsWith("//:") ? line : line.replace(/\s*\/\/.*$/, ""))
    .map((line) =>
      /^\/\/:|^struct|var</.test(line) ? line : line
        .replace(/(?<=[\w)\]}]) ([-=+*/%&|^]|[-+*/%=!<>]=|&&|\|\||->) (?=[\w($])/g, "$1")
        .replace(/([,:;{]) /g, "$1").replace(/ ([{}])/g, "$1")
    )
    .filter((line) => line !== "").join("\n");
}

/** Names of the fragments that a kernel or fragment includes. */
export function includes(wgsl: string): string[] {
  return [...wgsl.matchAll(/^\s*\/\/:include (\w+)/gm)].map(([, name]) => name);
}
