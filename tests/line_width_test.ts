/**
 * No line of the sources is longer than `deno fmt`'s width, comments and strings included, which
 * `deno fmt` itself leaves as they are.
 */
import { assertEquals } from "@std/assert";
import config from "../deno.json" with { type: "json" };

/** `deno fmt` keeps a test and its title on one line, however long. */
const TITLE = /^\s*(await )?((Deno\.)?test|t\.step|fullOnly)\((["`]).*\4, /;

function sources(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    if (name.startsWith(".") || name === "node_modules" || name === "runs") return [];
    const path = `${folder}/${name}`;
    if (isDirectory) return sources(path);
    return /\.(ts|wgsl)$/.test(name) ? [path] : [];
  });
}

Deno.test("no line is longer than deno.json's fmt.lineWidth", () => {
  const { lineWidth } = config.fmt;
  const root = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
  const long = sources(root).flatMap((path) =>
    Deno.readTextFileSync(path).split("\n").flatMap((line, i) =>
      [...line].length > lineWidth && !TITLE.test(line)
        ? [`${path.slice(root.length + 1)}:${i + 1}: ${[...line].length} characters`]
        : []
    )
  );
  assertEquals(long, []);
});
