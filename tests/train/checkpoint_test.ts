import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { type CheckpointTensor, loadCheckpoint, saveCheckpoint } from "../../train/checkpoint.ts";
import { resolveConfig } from "../../train/config.ts";
import { UsageError } from "../../train/errors.ts";
import {
  gitCommit,
  openRunDirectory,
  runPaths,
  writeAtomic,
  writeRunConfig,
} from "../../train/rundir.ts";

const TENSORS: [string, CheckpointTensor][] = [
  ["w", { shape: [2, 3], data: new Float32Array([1, 2, 3, 4, 5, -0]) }],
  ["state.counter", { shape: [2], data: new Uint32Array([2 ** 32 - 1, 7]) }],
  ["order", { shape: [1], data: new Int32Array([-5]) }],
];

async function inTempDir(body: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function names(dir: string): string[] {
  return [...Deno.readDirSync(dir)].map((it) => it.name).sort();
}

Deno.test("checkpoint: saved, named, read back", () =>
  inTempDir(async (dir) => {
    assertEquals(await loadCheckpoint(dir), undefined);
    const path = await saveCheckpoint(dir, 1000, TENSORS, { config: "{}" });
    assertEquals(path, `${dir}/checkpoints/step-00001000.safetensors`);
    assertEquals(names(`${dir}/checkpoints`), ["latest", "step-00001000.safetensors"]);
    assertEquals(
      Deno.readTextFileSync(`${dir}/checkpoints/latest`),
      "step-00001000.safetensors\n",
    );
    const back = await loadCheckpoint(dir);
    assertEquals([back?.step, back?.path, back?.passedOver], [1000, path, []]);
    assertEquals(back?.metadata, { step: "1000", config: "{}" });
    assertEquals([...back?.tensors ?? []].map(([name, it]) => [name, it.shape, it.data]), [
      ...TENSORS.map(([name, it]) => [name, it.shape, it.data]),
    ]);
  }));

Deno.test("checkpoint: the same state gives the same bytes", () =>
  inTempDir(async (dir) => {
    const first = await Deno.readFile(await saveCheckpoint(`${dir}/a`, 1, TENSORS, { k: "v" }));
    const second = await Deno.readFile(await saveCheckpoint(`${dir}/b`, 1, TENSORS, { k: "v" }));
    assertEquals(first, second);
  }));

Deno.test("checkpoint: only the newest are kept", () =>
  inTempDir(async (dir) => {
    for (const step of [1, 2, 3, 100_000_000]) await saveCheckpoint(dir, step, TENSORS, {}, 2);
    assertEquals(names(`${dir}/checkpoints`), [
      "latest",
      "step-00000003.safetensors",
      "step-100000000.safetensors",
    ]);
    await saveCheckpoint(dir, 4, TENSORS, {}, 1);
    assertEquals(names(`${dir}/checkpoints`), ["latest", "step-00000004.safetensors"]);
  }));

Deno.test("checkpoint: a damaged newest one is passed over with its reason", () =>
  inTempDir(async (dir) => {
    await saveCheckpoint(dir, 1, TENSORS, {});
    const newest = await saveCheckpoint(dir, 2, TENSORS, {});
    const bytes = await Deno.readFile(newest);
    await Deno.writeFile(newest, bytes.subarray(0, bytes.length - 1));
    await Deno.writeTextFile(`${dir}/checkpoints/step-00000009.safetensors.tmp`, "half");
    const back = await loadCheckpoint(dir);
    assertEquals(back?.step, 1);
    assertEquals(back?.passedOver.map((it) => it.path), [newest]);
    assertStringIncludes(back?.passedOver[0].reason ?? "", "past the end");
    await Deno.remove(`${dir}/checkpoints/latest`);
    await Deno.remove(newest);
    assertEquals((await loadCheckpoint(dir))?.step, 1);
  }));

Deno.test("run directory: a failed write leaves what was there", () =>
  inTempDir(async (dir) => {
    const path = `${dir}/file`;
    await writeAtomic(path, [new Uint8Array([1]), new Uint8Array([2, 3])]);
    function* failing(): Generator<Uint8Array> {
      yield new Uint8Array([9]);
      throw new Error("disk gone");
    }
    await assertRejects(() => writeAtomic(path, failing()), Error, "disk gone");
    assertEquals(await Deno.readFile(path), new Uint8Array([1, 2, 3]));
    assertEquals(names(dir), ["file"]);
  }));

Deno.test("run directory: one that holds something is refused unless resumed", () =>
  inTempDir(async (dir) => {
    const out = `${dir}/run`;
    const paths = await openRunDirectory({ out, resume: false });
    assertEquals(names(out), ["checkpoints"]);
    await assertRejects(() => openRunDirectory({ out, resume: false }), UsageError, "--resume");
    assertEquals(await openRunDirectory({ out, resume: true }), paths);
    await Deno.writeTextFile(`${dir}/plain`, "");
    await assertRejects(
      () => openRunDirectory({ out: `${dir}/plain`, resume: false }),
      UsageError,
      "cannot be used",
    );
  }));

Deno.test("run directory: config.json has every value and can be resumed from", () =>
  inTempDir(async (dir) => {
    const config = resolveConfig(["--out", dir, "--seed", "5", "--steps", "3"]);
    await writeRunConfig(runPaths(dir), config, { description: "llvmpipe" });
    const record = JSON.parse(await Deno.readTextFile(`${dir}/config.json`));
    assertEquals(record.seed, 5);
    assertEquals(record.geometry, { ...config.geometry });
    assertEquals(record.adapter_info, { description: "llvmpipe" });
    assertEquals(record.versions.deno, Deno.version.deno);
    assertEquals(resolveConfig(["--resume", "--out", dir]).length, { steps: 3 });
  }));

Deno.test("run directory: the git commit is found without git", () =>
  inTempDir(async (dir) => {
    const commit = "0123456789abcdef0123456789abcdef01234567";
    assertEquals(gitCommit(dir), undefined);
    await Deno.mkdir(`${dir}/.git/refs/heads`, { recursive: true });
    await Deno.writeTextFile(`${dir}/.git/HEAD`, "ref: refs/heads/main\n");
    assertEquals(gitCommit(dir), undefined, "a branch without commits");
    await Deno.writeTextFile(
      `${dir}/.git/packed-refs`,
      `# pack-refs with: peeled\n${
        "f".repeat(40)
      } refs/heads/other/refs/heads\n${commit} refs/heads/main\n`,
    );
    assertEquals(gitCommit(dir), commit);
    await Deno.writeTextFile(`${dir}/.git/refs/heads/main`, `${"a".repeat(40)}\n`);
    assertEquals(gitCommit(dir), "a".repeat(40));
    await Deno.mkdir(`${dir}/.git/worktrees/w`, { recursive: true });
    await Deno.writeTextFile(`${dir}/.git/worktrees/w/HEAD`, "ref: refs/heads/main\n");
    await Deno.writeTextFile(`${dir}/.git/worktrees/w/commondir`, "../..\n");
    await Deno.mkdir(`${dir}/w`);
    await Deno.writeTextFile(`${dir}/w/.git`, `gitdir: ${dir}/.git/worktrees/w\n`);
    assertEquals(gitCommit(`${dir}/w`), "a".repeat(40));
    await Deno.writeTextFile(`${dir}/.git/HEAD`, `${commit}\n`);
    assertEquals(gitCommit(dir), commit, "detached");
  }));
