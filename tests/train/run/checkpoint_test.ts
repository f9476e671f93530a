/** Checkpoints: what they hold, damaged ones, and which one is gone on from. */
import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import {
  type CheckpointTensor,
  CheckpointWriter,
  loadCheckpoint,
  newestCheckpoint,
  saveCheckpoint,
} from "../../../train/run/checkpoint.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { DiskFullError, DivergedError, UsageError } from "../../../train/errors.ts";
import { fullDisk } from "../../support/full_disk.ts";
import { gitCommit } from "../../../train/io/git.ts";
import { openRunDirectory, runPaths, writeRunConfig } from "../../../train/run/run_directory.ts";
import { besideName, writeAtomic } from "../../../train/io/atomic_write.ts";
import { inTempDir } from "../../support/audio_files.ts";

const TENSORS: [string, CheckpointTensor][] = [
  ["w", { shape: [2, 3], data: new Float32Array([1, 2, 3, 4, 5, -0]) }],
  ["state.counter", { shape: [2], data: new Uint32Array([2 ** 32 - 1, 7]) }],
  ["order", { shape: [1], data: new Int32Array([-5]) }],
];

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

Deno.test("checkpoint: whatever latest is, the newest that can be read is found", () =>
  inTempDir(async (dir) => {
    for (const step of [1, 2, 3]) await saveCheckpoint(dir, step, TENSORS, {});
    const at = (name: string) => `${dir}/checkpoints/${name}`;
    const found = async () => [(await loadCheckpoint(dir))?.step, await newestCheckpoint(dir)];
    const newest = [3, at("step-00000003.safetensors")];
    assertEquals(await found(), newest);
    // A device stands for all that is waited for: pipes, sockets, devices.
    for (
      const make of [
        () => Deno.mkdirSync(at("latest")),
        () => Deno.symlinkSync("/dev/zero", at("latest")),
        () => Deno.symlinkSync(at("nowhere"), at("latest")),
        () => Deno.symlinkSync("latest", at("latest")),
        () => Deno.writeTextFileSync(at("latest"), "x".repeat(1 << 20)),
        () => Deno.writeTextFileSync(at("latest"), "../../secret.safetensors"),
        () => Deno.writeFileSync(at("latest"), new Uint8Array([0xff, 0, 10])),
      ]
    ) {
      Deno.removeSync(at("latest"));
      make();
      assertEquals(await found(), newest);
    }
    // A folder stays; training goes on and is found all the same.
    Deno.removeSync(at("latest"));
    Deno.mkdirSync(at("latest"));
    await saveCheckpoint(dir, 4, TENSORS, {}, { keep: 3 });
    assertEquals(await found(), [4, at("step-00000004.safetensors")]);
    Deno.mkdirSync(`${at("step-00000009.safetensors")}/below`, { recursive: true });
    Deno.symlinkSync("/dev/zero", at("step-00000010.safetensors"));
    await saveCheckpoint(dir, 11, TENSORS, { loss: "1" }, { keep: 1, keepBest: 1 });
    assertEquals(await found(), [11, at("step-00000011.safetensors")]);
    Deno.removeSync(at("step-00000011.safetensors"));
    Deno.removeSync(at("latest"));
    Deno.writeTextFileSync(at("latest"), "step-00000009.safetensors\n");
    await saveCheckpoint(dir, 5, TENSORS, {});
    Deno.writeTextFileSync(at("latest"), "step-00000009.safetensors\n");
    const back = await loadCheckpoint(dir);
    assertEquals(back?.step, 5);
    assertEquals(back?.passedOver, [
      { path: at("step-00000009.safetensors"), reason: "not a regular file but a folder" },
    ]);
  }));

Deno.test("checkpoint: only the newest are kept", () =>
  inTempDir(async (dir) => {
    for (const step of [1, 2, 3, 100_000_000]) {
      await saveCheckpoint(dir, step, TENSORS, {}, { keep: 2 });
    }
    assertEquals(names(`${dir}/checkpoints`), [
      "latest",
      "step-00000003.safetensors",
      "step-100000000.safetensors",
    ]);
    await saveCheckpoint(dir, 4, TENSORS, {}, { keep: 1 });
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
    assertEquals(back?.metadata, { step: "1" });
    assertEquals(back?.passedOver.map((it) => it.path), [newest]);
    assertStringIncludes(back?.passedOver[0].reason ?? "", "past the end");
    await Deno.remove(`${dir}/checkpoints/latest`);
    await Deno.remove(newest);
    assertEquals((await loadCheckpoint(dir))?.step, 1);
  }));

Deno.test("checkpoint: one changed bit anywhere is noticed, by this reader alone", () =>
  inTempDir(async (dir) => {
    await saveCheckpoint(dir, 1, TENSORS, { generators: '{"masks":7}' });
    const newest = await saveCheckpoint(dir, 2, TENSORS, { generators: '{"masks":7}' });
    const whole = await Deno.readFile(newest);
    const text = new TextDecoder("latin1").decode(whole);
    // In a digit of the generators' state, in the name of a tensor, in the checksum and in the last
    // value.
    const places = [
      text.indexOf("7}"),
      text.indexOf("state.counter"),
      text.indexOf("crc32") + 9,
      whole.length - 1,
    ];
    for (const at of places) {
      const bytes = whole.slice();
      bytes[at] ^= 1;
      await Deno.writeFile(newest, bytes);
      assertEquals(readSafetensors(bytes).tensors.size, TENSORS.length, "plain readers read on");
      const back = await loadCheckpoint(dir);
      assertEquals(back?.step, 1, `byte ${at}`);
      assertStringIncludes(back?.passedOver[0].reason ?? "", "checksum");
    }
    await Deno.remove(`${dir}/checkpoints/step-00000001.safetensors`);
    const error = await assertRejects(() => loadCheckpoint(dir), UsageError, "can be read");
    assertStringIncludes(error.details ?? "", newest);
  }));

Deno.test("checkpoint: CRC-32 of the whole file with the digits taken as zeros", () =>
  inTempDir(async (dir) => {
    const bytes = await Deno.readFile(await saveCheckpoint(dir, 1, TENSORS, {}));
    const at = new TextDecoder("latin1").decode(bytes).indexOf('"crc32":"') + 9;
    const digits = new TextDecoder().decode(bytes.subarray(at, at + 8));
    bytes.fill(0x30, at, at + 8);
    // Bit by bit, as the polynomial is defined (ISO 3309).
    let crc = -1;
    for (const byte of bytes) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = crc >>> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    assertEquals(digits, (~crc >>> 0).toString(16).padStart(8, "0"));
  }));

Deno.test("checkpoint: those of lowest loss stay beside the newest", () =>
  inTempDir(async (dir) => {
    const kept = async (step: number, loss: string, keepBest: number) => {
      await saveCheckpoint(dir, step, TENSORS, { loss }, { keep: 2, keepBest });
      return names(`${dir}/checkpoints`).flatMap((it) => /0(\d)\.saf/.exec(it)?.[1] ?? []).join("");
    };
    const best = () => Deno.readTextFileSync(`${dir}/checkpoints/best`);
    assertEquals(await kept(1, "5", 1), "1");
    assertEquals(await kept(2, "3", 1), "12");
    assertEquals(await kept(3, "4", 1), "23");
    assertEquals(await kept(4, "3.5", 1), "234");
    assertEquals(best(), "step-00000002.safetensors\n");
    assertEquals(await kept(5, "NaN", 1), "245", "no number is not the best");
    assertEquals(await kept(6, "1", 1), "56");
    assertEquals(best(), "step-00000006.safetensors\n");
    assertEquals(await kept(7, "2", 2), "67");
    assertEquals(await kept(8, "9", 2), "678");
    assertEquals(await kept(9, "8", 0), "89");
  }));

Deno.test("checkpoint writer: one at a time, snapshots in between, the last one awaited", () =>
  inTempDir(async (dir) => {
    const writer = new CheckpointWriter(dir, { keep: 9 });
    const order: string[] = [];
    let open = () => {};
    const gate = new Promise<void>((done) => open = done);
    const save = (step: number, wait: Promise<void>) =>
      writer.save(step, () => {
        order.push(`snapshot ${step}`);
        return {
          fetch: async () => {
            await wait;
            order.push(`fetch ${step}`);
            return { tensors: TENSORS, metadata: {} };
          },
        };
      });
    await save(1, gate);
    assertEquals([order, writer.saved], [["snapshot 1"], undefined]);
    const second = save(2, Promise.resolve());
    await new Promise((done) => setTimeout(done, 5));
    assertEquals(order, ["snapshot 1"], "the second waits for the first");
    open();
    await second;
    assertEquals(writer.saved?.step, 1);
    await writer.finish();
    assertEquals(order, ["snapshot 1", "fetch 1", "snapshot 2", "fetch 2"]);
    assertEquals([writer.saved?.step, (await loadCheckpoint(dir))?.step], [2, 2]);
  }));

Deno.test("checkpoint writer: going on makes room, but keeps newer files that could not be read", () =>
  inTempDir(async (dir) => {
    for (const step of [1, 2, 3, 4, 5]) {
      await saveCheckpoint(dir, step, TENSORS, { loss: String(step === 2 ? 0 : step) });
    }
    const path = `${dir}/checkpoints/step-00000004.safetensors`;
    const writer = new CheckpointWriter(dir, { keep: 1, keepBest: 1 });
    await writer.goOnFrom({ step: 4, path });
    const left = [2, 4, 5].map((step) => `step-0000000${step}.safetensors`);
    assertEquals(names(`${dir}/checkpoints`), ["latest", ...left]);
    assertEquals(writer.saved, { step: 4, path });
  }));

Deno.test("checkpoint writer: a NaN is not written, and ends the run", () =>
  inTempDir(async (dir) => {
    const writer = new CheckpointWriter(dir, {});
    const save = (step: number, data: Float32Array) =>
      writer.save(step, () => ({
        fetch: () => Promise.resolve({ tensors: [["w", { shape: [2], data }]], metadata: {} }),
      }));
    await save(1, new Float32Array(2));
    await save(2, new Float32Array([1, -Infinity]));
    const error = await assertRejects(() => writer.finish(), DivergedError, "w holds a NaN or");
    assertEquals(error.step, 2);
    await assertRejects(() => save(3, new Float32Array(2)), DivergedError);
    assertEquals([writer.saved?.step, (await loadCheckpoint(dir))?.step], [1, 1]);
    let thrown = false;
    try {
      writer.check();
    } catch {
      thrown = true;
    }
    assert(thrown);
  }));

Deno.test("checkpoint writer: a full disk leaves the checkpoints before it", () =>
  inTempDir(async (dir) => {
    const writer = new CheckpointWriter(dir, { keep: 1 });
    const save = (step: number) =>
      writer.save(step, () => ({
        fetch: () => Promise.resolve({ tensors: TENSORS, metadata: {} }),
      }));
    await save(1);
    await writer.finish();
    {
      using _ = fullDisk((path) => path.includes("step-00000002"));
      await save(2);
      await assertRejects(() => writer.finish(), DiskFullError, "step-00000002.safetensors");
    }
    assertEquals(names(`${dir}/checkpoints`), ["latest", "step-00000001.safetensors"]);
    assertEquals([writer.saved?.step, (await loadCheckpoint(dir))?.step], [1, 1]);
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

Deno.test("two writers of one file: the first goes on, the other is told and leaves it alone", () =>
  inTempDir(async (dir) => {
    const path = `${dir}/file`;
    // What a killed process left is taken over.
    await Deno.writeTextFile(`${path}.tmp`, "left by a process that was killed");
    function* first(): Generator<Uint8Array> {
      yield new Uint8Array(1 << 24).fill(1);
      yield new Uint8Array([2]);
    }
    const [a, b] = await Promise.allSettled([
      writeAtomic(path, first()),
      writeAtomic(path, first()),
    ]);
    assertEquals([a.status, b.status].sort(), ["fulfilled", "rejected"]);
    const failed = [a, b].find((it) => it.status === "rejected") as PromiseRejectedResult;
    assertStringIncludes(failed.reason.message, "another process is writing this file");
    assertEquals(names(dir), ["file"]);
    assertEquals((await Deno.stat(path)).size, (1 << 24) + 1);
  }));

Deno.test("a name that leaves no room for an ending is shortened, and stays short", () =>
  inTempDir(async (dir) => {
    for (const name of ["x".repeat(255), "ü".repeat(127), "x".repeat(251)]) {
      await writeAtomic(`${dir}/${name}`, [new Uint8Array([1])]);
      assert(new TextEncoder().encode(besideName(name)).length <= 255);
      assertEquals(names(dir), [name]);
      await Deno.remove(`${dir}/${name}`);
    }
    assertNotEquals(besideName(`${"x".repeat(254)}a`), besideName(`${"x".repeat(254)}b`));
  }));

Deno.test("run directory: unfinished files of others stay", () =>
  inTempDir(async (dir) => {
    const out = `${dir}/run`;
    await Deno.mkdir(`${out}/checkpoints`, { recursive: true });
    const theirs = ["thesis.tmp", "checkpoints/notes.tmp", "checkpoints/step-1.tmp"];
    const ours = ["config.json.tmp", "checkpoints/step-00000001.safetensors.tmp"];
    for (const name of [...theirs, ...ours]) await Deno.writeTextFile(`${out}/${name}`, "x");
    (await openRunDirectory({ out, resume: true }))[Symbol.dispose]();
    assertEquals(names(out), [".lock", "checkpoints", "thesis.tmp"]);
    assertEquals(names(`${out}/checkpoints`), ["notes.tmp", "step-1.tmp"]);
    await assertRejects(() => openRunDirectory({ out, resume: false }), UsageError, "not empty");
  }));

Deno.test("run directory: one that holds something is refused unless resumed", () =>
  inTempDir(async (dir) => {
    const out = `${dir}/run`;
    const open = async (resume: boolean) => {
      using opened = await openRunDirectory({ out, resume });
      const { [Symbol.dispose]: _, ...paths } = opened;
      assertEquals(paths, runPaths(out));
    };
    await open(false);
    assertEquals(names(out), [".lock"]);
    // As a process leaves it that is killed before it has written its configuration.
    await Deno.writeTextFile(`${out}/config.json.tmp`, "{");
    await open(false);
    assertEquals(names(out), [".lock"]);
    await Deno.writeTextFile(`${out}/config.json`, "{}");
    await assertRejects(() => open(false), UsageError, "--resume");
    await open(true);
    {
      using _ = await openRunDirectory({ out, resume: true });
      await assertRejects(() => open(true), UsageError, `--out ${out}: another process is writing`);
    }
    await open(true);
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
