/**
 * Kills ranks of jobs at random moments of all phases, and holds what the runs come to against one
 * that nobody killed. No test: `deno run -A tests/train/cluster/kill_jobs.ts KILLS [SEED]`.
 */
import { join } from "@std/path";
import { Prng } from "../../../engine/prng.ts";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import { deno } from "../../support/deno_process.ts";
import { GROUP_PERMISSIONS, LAUNCHERS, outcomeOf, startJob } from "../../support/mpi.ts";
import { runWords } from "../../support/tasks.ts";

const [kills = 100, seed = 1] = Deno.args.map(Number);
const WORDS = [
  ...["--batch", "4", "--crop-frames", "48", "--seed", "5", "--micro-batch", "1"],
  ...["--deterministic", "--steps", "8", "--log-every", "1", "--save-every", "2", "--keep", "9"],
];
const PROGRAM = [
  ...GROUP_PERMISSIONS,
  ...["--allow-write", "--allow-run", "tests/train/cluster/fault_program.ts"],
];
/** Phases, how often they may have begun, and milliseconds in which a kill comes. */
const PHASES = [
  ["start", 1, 2500],
  ["compile", 1, 3000],
  ["step", 8, 400],
  ["exchange", 3, 60],
  ["save", 3, 400],
] as const;

const dir = await Deno.makeTempDir();
const one = join(dir, "one");
await deno(["run", "--no-check", ...runWords("pretrain:mpi").slice(1), ...WORDS, "--out", one]);
const encoderOf = (out: string) =>
  [...readSafetensors(Deno.readFileSync(join(out, "encoder.safetensors"))).tensors]
    .map(([name, { data }]) => `${name} ${data}`).join();
const expected = encoderOf(one);

const random = new Prng(2026, seed);
/** By launcher and phase: jobs that were killed, that had ended before. */
const counts: Record<string, [killed: number, late: number]> = {};
let [runs, resumed, longest, wrong] = [0, 0, 0, 0];
for (let done = 0, out = ""; done < kills;) {
  if (out === "") out = join(dir, `run-${runs++}`);
  const launcher = LAUNCHERS[random.integer(LAUNCHERS.length)];
  const [phase, most, milliseconds] = PHASES[done % PHASES.length];
  const rank = phase === "save" ? 0 : random.integer(2);
  const fault = `kill=${phase},${1 + random.integer(most)},${random.integer(milliseconds)}`;
  const begun = [...Deno.readDirSync(dir)].some(({ name }) => join(dir, name) === out) &&
    [...Deno.readDirSync(out)].some(({ name }) => name === "config.json");
  const words = begun ? ["--resume", "--out", out] : [...WORDS, "--out", out];
  if (begun) resumed++;
  const before = performance.now();
  const job = startJob(launcher, 2, [...PROGRAM, String(rank), fault, ...words]);
  const { code, err } = await outcomeOf(job);
  longest = Math.max(longest, (performance.now() - before) / 1000);
  const count = counts[`${launcher.name} ${phase}`] ??= [0, 0];
  count[code === 0 ? 1 : 0]++;
  done++;
  if (code !== 0) {
    // Nobody says anything of a process that was killed but the launcher.
    if (/^error: /m.test(err)) console.log(`${fault}: ${err}`);
    continue;
  }
  if (encoderOf(out) !== expected) {
    wrong++;
    console.log(`${out} differs after ${fault}`);
  }
  out = "";
}
console.table(counts);
console.log(
  `${kills} jobs, ${runs} runs, ${resumed} resumed, ${wrong} with other weights; ` +
    `the longest job took ${longest.toFixed(1)} s`,
);
await Deno.remove(dir, { recursive: true });
Deno.exit(wrong > 0 ? 1 : 0);
