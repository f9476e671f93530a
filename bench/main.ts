/**
 * `deno task bench`: what the adapter can do, then kernels and training steps as fractions of it.
 * Ratios are what counts: everything is measured in one run, and no time is kept.
 *
 * @module
 */
import { openDevice } from "../engine/mod.ts";
import { measureCeilings } from "../train/run/ceilings.ts";
import { command } from "../train/cli/command.ts";
import { flag, option } from "../train/cli/option.ts";
import { wantsHelp } from "../train/cli/parser.ts";
import { json } from "../train/cli/shared_options.ts";
import { file, number, parsed, whole } from "../train/cli/value_types.ts";
import { reportError, UsageError } from "../train/errors.ts";
import {
  adapterKey,
  type Baseline,
  type Expectation,
  judge,
  judgementTable,
  learn,
} from "./check.ts";
import { type Benchmark, Harness, isNoisy, NOISE_LIMIT, REPEATS, type Row } from "./harness.ts";
import { html } from "./html.ts";
import { ceilingLines, noiseLine, type Report, reportOf, rowLine } from "./report.ts";
import { CLUSTER, clusterLines, measureCluster } from "./cluster.ts";
import { measureStartup, STARTUP, startupLines } from "./startup.ts";
import { choose } from "./suite.ts";

const BASELINE = new URL("baseline.json", import.meta.url);

/** The command as help, parsing and completion see it. */
export const COMMAND = command({
  name: "bench",
  options: {
    filter: option(
      parsed("RE", "a regular expression", regularExpression),
      "Runs only benchmarks whose name matches.",
    ),
    quick: flag("Fewer benchmarks, in less than two minutes."),
    json,
    html: option(file(), "Draws a roofline and bars into one self-contained page."),
    peers: flag(
      "Also runs jax-js and tfjs on the same adapter, fetched from npm, and PyTorch where it is.",
    ),
    check: flag(
      "Exits 1 if a benchmark fell below bench/baseline.json; with --quick a short list.",
    ),
    band: option(
      number({ above: 0, below: 1 }),
      "For --check: how far a fraction may fall, as a share of it.",
      { defaultText: "what the baseline learned" },
    ),
    learn: option(
      whole(1),
      "Writes bench/baseline.json from N runs; what was not run keeps its entry.",
    ),
  },
});

function regularExpression(word: string): RegExp | undefined {
  try {
    return new RegExp(word);
  } catch {
    return undefined;
  }
}

async function readBaseline(): Promise<Baseline> {
  try {
    return JSON.parse(await Deno.readTextFile(BASELINE));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw error;
  }
}

/** Measures again what fell, keeps the better one, and says what follows. */
async function check(
  harness: Harness,
  rows: readonly Row[],
  chosen: readonly Benchmark[],
  expectations: Readonly<Record<string, Expectation>>,
  band: number | undefined,
): Promise<number> {
  let judgements = judge(rows, expectations, band);
  const failed = judgements.filter(({ verdict }) => verdict === "failed");
  for (const { name, fraction } of failed) {
    const repeated = await harness.measure(chosen.find((it) => it.name === name)!);
    const better = repeated.fraction > fraction ? [repeated] : [];
    judgements = judgements.map((it) =>
      it.name === name ? judge(better, expectations, band)[0] ?? it : it
    );
  }
  const { noise } = harness;
  if (isNoisy(noise)) {
    console.log(
      `check: too noisy to judge: ${noiseLine(noise)}; the limits are ` +
        `${100 * NOISE_LIMIT.drift}% and ${100 * NOISE_LIMIT.jitter}%`,
    );
    return 0;
  }
  const fell = judgements.filter(({ verdict }) => verdict === "failed");
  const unsure = judgements.filter(({ verdict }) => verdict === "noisy");
  if (fell.length + unsure.length > 0) console.log(`\n${judgementTable([...fell, ...unsure])}`);
  console.log(
    `check: ${judgements.length - fell.length - unsure.length} passed, ${fell.length} failed` +
      (unsure.length > 0 ? `, ${unsure.length} too noisy to judge` : ""),
  );
  return fell.length > 0 ? 1 : 0;
}

async function main(argv: readonly string[]): Promise<number> {
  if (wantsHelp(argv)) {
    console.log(COMMAND.help());
    return 0;
  }
  const { filter: pattern = /(?:)/, ...values } = COMMAND.read(argv).values;
  if (values.check && values.learn !== undefined) {
    throw new UsageError("--check and --learn exclude each other");
  }
  using device = await openDevice();
  const baseline = await readBaseline();
  const key = adapterKey(device.info, navigator.hardwareConcurrency);
  const expectations = baseline[key];
  if (values.check && !expectations) {
    console.log(`check: bench/baseline.json knows no "${key}"; nothing is judged`);
    return 0;
  }
  const all = choose({ ...values, pattern }, device.features);
  const chosen = all.filter(({ name }) => !values.check || Object.hasOwn(expectations, name));
  if (chosen.length < all.length) {
    const unknown = all.filter((it) => !chosen.includes(it)).map(({ name }) => name);
    console.log(`check: not in the baseline, so not judged: ${unknown.join(", ")}`);
  }
  const isJudged = values.check || values.learn !== undefined;
  const startsUp = pattern.test(STARTUP) && !isJudged;
  const hasCluster = CLUSTER.some((it) => pattern.test(it)) && !isJudged && !values.quick;
  if (chosen.length === 0 && !startsUp && !hasCluster) {
    throw new UsageError("--filter: no benchmark has such a name");
  }
  using harness = await Harness.open(device, REPEATS[values.quick ? "quick" : "full"]);
  const ceilings = await measureCeilings(device.gpu, harness.loads);
  console.log(ceilingLines(device.info, ceilings));
  // Other engines are loaded only here.
  await using peers = values.peers
    ? await (await import("./peers/peers.ts")).Peers.start(device)
    : undefined;

  const width = Math.max(0, ...chosen.map(({ name }) => name.length));
  const runs: Row[][] = [];
  for (let run = 0; run < (values.learn ?? 1); run++) {
    const rows: Row[] = [];
    for (const benchmark of chosen) {
      const row = peers
        ? await peers.measure(harness, benchmark)
        : await harness.measure(benchmark);
      rows.push(row);
      console.log(rowLine(row, width));
      device.trim();
    }
    runs.push(rows);
  }
  console.log(noiseLine(harness.noise));
  const startup = startsUp
    ? await measureStartup(["tessera", ...values.peers ? ["jax-js"] : []])
    : undefined;
  if (startup) console.log(startupLines(startup));
  const cluster = hasCluster ? await measureCluster() : undefined;
  if (cluster) console.log(clusterLines(cluster));

  const rows = runs[runs.length - 1];
  const report: Report = {
    ...reportOf(device.info, ceilings, harness.noise, rows, new Date()),
    ...startup && { startup },
    ...cluster && { cluster },
  };
  if (values.json) await Deno.writeTextFile(values.json, `${JSON.stringify(report, null, 1)}\n`);
  if (values.html) await Deno.writeTextFile(values.html, html(report));
  if (values.learn !== undefined) {
    const learned = { ...baseline, [key]: { ...expectations, ...learn(runs) } };
    await Deno.writeTextFile(BASELINE, `${JSON.stringify(learned, null, 2)}\n`);
  }
  return values.check ? await check(harness, rows, chosen, expectations, values.band) : 0;
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    Deno.exit(reportError(error));
  }
}
