/**
 * The package from outside: another tool in a folder of its own that knows only the published
 * exports, type-checked and run with no permission at all.
 */
import { assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { full } from "../support/tier.ts";

const ROOT = fromFileUrl(new URL("../..", import.meta.url));

/**
 * A tool's deno.json: the package as published, except that this checkout is linked in its place.
 */
const CONFIG = JSON.stringify({
  imports: {
    "tessera": "jsr:@tessera/tessera@^0.1.0",
    "tessera/model": "jsr:@tessera/tessera@^0.1.0/model",
    "tessera/train": "jsr:@tessera/tessera@^0.1.0/train",
  },
  links: [ROOT],
});

/** Fits a small network to 0/1 labels of the built-in sounds' log-mel. */
const TOOL = `
import { AdamW, backward, type Device, Linear, mean, mse, openDevice, relu, scope, Sequential,
  type Tensor } from "tessera";
import { LogMel, readSafetensors, writeSafetensors } from "tessera/model";
import { syntheticSource } from "tessera/train";

const device: Device = await openDevice();
const clips = syntheticSource({ size: 4, seed: 1, samples: 4000 });
const waves = new Float32Array(4 * 4000);
for (let i = 0; i < 4; i++) waves.set((await clips.load(i))!, i * 4000);
using frontend = new LogMel(device);
const x: Tensor = scope(() => mean(frontend.apply(device.tensor(waves, [4, 4000])), { axes: [2] }));
const y = device.tensor([0, 1, 1, 0], [4, 1]);
using hidden = new Linear(device, x.shape[1], 8, 1);
using model = new Sequential(hidden, relu, new Linear(device, 8, 1, 2));
using optimizer = new AdamW(model.parameters(), { rate: 0.01 });
const losses: number[] = [];
for (let step = 0; step < 40; step++) {
  using loss = scope(() => {
    const loss = mse(model.apply(x), y);
    backward(loss);
    return loss;
  });
  optimizer.step();
  optimizer.zeroGrad();
  if (step % 39 === 0) losses.push(await loss.item());
}
const tensors = await Promise.all([...model.parameters()].map(async ([name, tensor]) =>
  [name, { dtype: "F32" as const, shape: tensor.shape, data: await tensor.data() }] as const));
const file = readSafetensors(writeSafetensors(new Map(tensors)));
const names = [...file.tensors.keys()].sort();
console.log(JSON.stringify({ fell: losses[1] < losses[0] / 2, names }));
device[Symbol.dispose]();
`;

/** Imports everything while calls of whatever a module could start or read are watched. */
const QUIET = `
const used: string[] = [];
const watch = (owner: object, names: string[]) => {
  for (const name of names) {
    const called = (value: unknown) => used.push(\`\${name} \${value}\`);
    const value = new Proxy(Reflect.get(owner, name), {
      apply: (f, self, values) => (called(values[0]), Reflect.apply(f, self, values)),
      construct: (f, values, target) => (called(values[0]), Reflect.construct(f, values, target)),
    });
    Object.defineProperty(owner, name, { configurable: true, value });
  }
};
watch(globalThis, ["Worker", "fetch", "setTimeout", "setInterval"]);
watch(navigator.gpu, ["requestAdapter"]);
watch(Deno, ["readFileSync", "readTextFileSync", "readTextFile", "open", "openSync", "Command",
  "mkdirSync", "writeFileSync", "addSignalListener"]);
watch(Deno.env, ["get", "toObject"]);
const full = [await import("tessera"), await import("tessera/model"), await import("tessera/train")]
  .map((module) => Object.keys(module).length > 5);
console.log(JSON.stringify({ full, used }));
`;

async function deno(cwd: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd,
    env: { NO_COLOR: "1", NODEVICE_SELECT: "1" },
  }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

Deno.test("another tool uses the package through its exports, without any permission", async (t) => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(join(folder, "deno.json"), CONFIG);
    // The same versions of npm packages as here, so that nothing has to be looked up.
    await Deno.copyFile(join(ROOT, "deno.lock"), join(folder, "deno.lock"));
    await Deno.writeTextFile(join(folder, "tool.ts"), TOOL);
    await Deno.writeTextFile(join(folder, "quiet.ts"), QUIET);
    if (full) {
      await t.step("types fit", async () => {
        await deno(folder, "check", "--quiet", "tool.ts");
      });
    }
    await t.step("it trains and saves", async () => {
      const { fell, names } = JSON.parse(await deno(folder, "run", "--no-prompt", "tool.ts"));
      assertEquals(names, ["0.bias", "0.weight", "2.bias", "2.weight"]);
      assertEquals(fell, true);
    });
    await t.step("nothing runs at import", async () => {
      const result = JSON.parse(await deno(folder, "run", "--no-prompt", "quiet.ts"));
      // Deno's own "process", which a dependency of ./train asks for, looks for this one.
      const used = result.used.filter((call: string) => call !== "get NODE_OPTIONS");
      assertEquals({ ...result, used }, { full: [true, true, true], used: [] });
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
