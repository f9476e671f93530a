/** What lets a bundler leave out ops that a program does not use. */
import { assertEquals } from "@std/assert";

Deno.test("definitions at the top of the engine's files are marked as pure", () => {
  const unmarked = ["", "derivatives/", "launch/", "nn/", "ops/"].flatMap((folder) => {
    const url = new URL(`../../engine/${folder}`, import.meta.url);
    return [...Deno.readDirSync(url)].filter(({ isFile }) => isFile).flatMap(({ name }) => {
      const text = Deno.readTextFileSync(new URL(name, url));
      return [...text.matchAll(/^(?:export )?const (\w+)[^=\n]*= (?:define[A-Z]|unary\()/gm)]
        .map(([, constant]) => `${folder}${name}: ${constant} = /* @__PURE__ */ …`);
    });
  });
  assertEquals(unmarked, []);
});
