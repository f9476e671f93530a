/** Examples of "Coming from PyTorch" in engine/README.md print what their comments say. */
import { assert, assertEquals } from "@std/assert";

const ROOT = new URL("../../", import.meta.url);
const manual = await Deno.readTextFile(new URL("engine/README.md", ROOT));
const section = manual.split("\n## Coming from PyTorch\n")[1].split("\n## ")[0];
const examples = [...section.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code]) => code);

for (const [i, code] of examples.entries()) {
  Deno.test(`coming from PyTorch: example ${i + 1} prints what its comments say`, async () => {
    const expected = [...code.matchAll(/^console\.log\(.*\); \/\/ (.*)$/gm)].map(([, text]) =>
      text
    );
    assert(expected.length > 0, "it prints nothing");
    const printed: string[] = [];
    const { log } = console;
    console.log = (value) => printed.push(Deno.inspect(value));
    const file = await Deno.makeTempFile({ suffix: ".ts" });
    try {
      const engine = new URL("engine/mod.ts", ROOT).href;
      await Deno.writeTextFile(file, code.replaceAll("./engine/mod.ts", engine));
      await import(`file://${file}`);
    } finally {
      console.log = log;
      await Deno.remove(file);
    }
    assertEquals(printed, expected);
  });
}
