/**
 * A run that is killed at any moment and resumed leaves the same files as one that is not; only one
 * process writes it.
 */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { Prng } from "../../../engine/prng.ts";
import { MEASURED_FIELDS } from "../../../train/metrics/metrics_row.ts";
import { fullOnly } from "../../support/tier.ts";

const MAIN = fromFileUrl(new URL("../../../train/main.ts", import.meta.url));
const RUN = [
  ...["--batch", "2", "--crop-frames", "48", "--steps", "12", "--seed", "11", "--quiet"],
  ...["--log-every", "1", "--save-every", "2", "--keep", "2"],
];
const measured: ReadonlySet<string> = new Set(MEASURED_FIELDS);

function start(out: string, options = RUN): Deno.ChildProcess {
  const resume = names(out).includes("config.json");
  return new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-check", "--no-prompt", "--allow-read", "--allow-write"],
      ...[MAIN, "pretrain", "--out", out, ...resume ? ["--resume", "--quiet"] : options],
    ],
    stdout: "null",
    stderr: "piped",
  }).spawn();
}

/** Runs to the end; or as soon as `moment` has come, killed. @returns whether it was killed */
async function runUntil(
  out: string,
  moment: () => Promise<boolean>,
  options = RUN,
): Promise<boolean> {
  const child = start(out, options);
  let ended = false;
  const errors = new Response(child.stderr).text();
  const status = child.status.finally(() => ended = true);
  try {
    while (!ended && !await moment()) await sleep(1);
  } finally {
    if (!ended) child.kill("SIGKILL");
  }
  const { code, signal } = await status;
  assert(code === 0 || signal === "SIGKILL", await errors);
  return signal === "SIGKILL";
}

const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

function names(dir: string): string[] {
  try {
    return [...Deno.readDirSync(dir)].map(({ name }) => name).sort();
  } catch {
    return [];
  }
}

const halfWritten = (out: string) =>
  names(join(out, "checkpoints")).some((name) => name.endsWith(".tmp"));

function rows(out: string): Record<string, unknown>[] {
  return Deno.readTextFileSync(join(out, "metrics.jsonl")).trim().split("\n").map((line) =>
    Object.fromEntries(Object.entries(JSON.parse(line)).filter(([key]) => !measured.has(key)))
  );
}

const size = (path: string): number => {
  try {
    return Deno.statSync(path).size;
  } catch {
    return 0;
  }
};

fullOnly(
  "killed at any moment, during a save too, and resumed: the same metrics and the same bytes",
  async () => {
    const dir = await Deno.makeTempDir();
    try {
      const [whole, parts] = ["whole", "parts"].map((name) => join(dir, name));
      assertEquals(await runUntil(whole, () => Promise.resolve(false)), false);
      const prng = new Prng(2024, 0);
      const moments = {
        /** Some time after the start. */
        early: () => {
          const pause = sleep(prng.integer(1500)).then(() => true);
          return () => Promise.race([pause, sleep(1).then(() => false)]);
        },
        /** Some time after some more rows. */
        training: () => {
          const path = join(parts, "metrics.jsonl");
          const [rows, pause] = [1 + prng.integer(3), prng.integer(200)];
          let before: number | undefined;
          let grown = 0;
          return async () => {
            const now = size(path);
            // Resuming may cut rows off first.
            if (before !== undefined && now > before) grown++;
            before = now;
            if (grown < rows) return false;
            await sleep(pause);
            return true;
          };
        },
        /** While a checkpoint is written. */
        saving: () => () => Promise.resolve(halfWritten(parts)),
        /** Between a checkpoint and what follows it. */
        saved: () => {
          const latest = () =>
            Deno.readTextFile(join(parts, "checkpoints", "latest")).catch(() => "");
          const before = latest();
          return async () => await latest() !== await before;
        },
      };
      let kills = 0;
      let killedInSave = 0;
      const kill = async (moment: keyof typeof moments) => {
        if (await runUntil(parts, moments[moment]())) kills++;
        if (halfWritten(parts)) killedInSave++;
      };
      for (const moment of ["early", "training", "saving", "early", "saved", "training"] as const) {
        await kill(moment);
      }
      // The file may have been whole before the signal came.
      for (let i = 0; i < 4 && killedInSave === 0; i++) await kill("saving");
      assert(kills >= 4, `${kills} kills`);
      assert(killedInSave > 0, "no kill came during a save");
      assertEquals(await runUntil(parts, () => Promise.resolve(false)), false);

      assertEquals(rows(parts), rows(whole));
      assertEquals(rows(whole).length, 12);
      assertEquals(names(parts).filter((name) => name.endsWith(".tmp")), []);
      assertEquals(names(join(parts, "checkpoints")), names(join(whole, "checkpoints")));
      const files = names(join(whole, "checkpoints")).map((name) => join("checkpoints", name));
      for (const file of ["encoder.safetensors", ...files]) {
        const [a, b] = [parts, whole].map((out) => Deno.readFileSync(join(out, file)));
        assert(a.length > 0 && a.every((byte, i) => byte === b[i]) && a.length === b.length, file);
      }
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
);

fullOnly(
  "a run that is being written is refused to other processes until that one is killed",
  async () => {
    const dir = await Deno.makeTempDir();
    try {
      const out = join(dir, "run");
      const latest = () => size(join(out, "checkpoints", "latest"));
      const endless = RUN.map((word) => word === "12" ? "1000000" : word);
      let refused = false;
      const whileItRuns = async () => {
        if (latest() === 0) return false;
        const before = Deno.readTextFileSync(join(out, "config.json"));
        const { code, stderr } = await start(out).output();
        assertEquals(code, 2);
        const [line] = new TextDecoder().decode(stderr).split("\n");
        assertEquals(line, `error: --out ${out}: another process is writing this run`);
        assertEquals(Deno.readTextFileSync(join(out, "config.json")), before);
        return refused = true;
      };
      assertEquals(await runUntil(out, whileItRuns, endless), true);
      assert(refused);
      // Rows behind the checkpoint are cut off, then rows are added.
      let least = Infinity;
      const goesOn = () => {
        const rows = size(join(out, "metrics.jsonl"));
        least = Math.min(least, rows);
        return Promise.resolve(rows > least);
      };
      assertEquals(await runUntil(out, goesOn), true);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
);
