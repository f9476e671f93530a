/**
 * `deno task fuzz`: damaged files of every format, and random programs of ops against float64. The
 * time is shared out evenly. What shows a fault is said with what makes it again; the last line is
 * `N tried, N failed`, and the exit code 1 when anything failed.
 *
 * @module
 */
import { wantsHelp } from "../train/cli/parser.ts";
import { command } from "../train/cli/command.ts";
import { option } from "../train/cli/option.ts";
import { choice, folder, number, whole } from "../train/cli/value_types.ts";
import { describeError, reportError } from "../train/errors.ts";
import { openDevice } from "./support/device.ts";
import { fuzz } from "./support/fuzz/fuzz.ts";
import { FUZZ_TARGETS } from "./support/fuzz/targets.ts";
import { checkPrograms } from "./support/random_programs.ts";

/** Programs that run between two looks at the clock. */
const PROGRAMS_AT_ONCE = 20;
/**
 * Bytes of memory at which programs end: each has kernels of its own, and those that a software
 * adapter has compiled, some 0.8 MB each, are not given back.
 */
const MOST_MEMORY = 4 * 2 ** 30;
/** Most bytes of memory that a small device binds at once, so that ops have to split. */
const SMALL_BINDING = 1 << 12;

/** The command as help, parsing and completion see it. */
export const COMMAND = command({
  name: "fuzz",
  options: {
    seconds: option(number({ above: 0 }), "How long in all.", { default: 60 }),
    seed: option(whole(0), "Decides all inputs; 0 takes one from the clock.", { default: 0 }),
    target: option(
      choice(["programs", ...Object.keys(FUZZ_TARGETS)], "NAME"),
      `Only one of programs, ${Object.keys(FUZZ_TARGETS).join(", ")}.`,
    ),
    keep: option(folder(), "Keeps the files that show a fault."),
  },
});

/** What was tried, and the faults in words. */
interface Tried {
  readonly tried: number;
  readonly faults: readonly string[];
}

/** Random programs on plain devices and on some that bind little, until the time is over. */
async function programs(seed: number, seconds: number): Promise<Tried> {
  const end = Date.now() + 1000 * seconds;
  const faults: string[] = [];
  let tried = 0;
  using plain = await openDevice();
  using small = await openDevice({ bindingLimit: SMALL_BINDING });
  for (let round = 0; tried === 0 || Date.now() < end; round++) {
    if (Deno.memoryUsage().rss > MOST_MEMORY) {
      console.log("programs: 4 GiB of memory are taken, go on with another seed");
      break;
    }
    tried += PROGRAMS_AT_ONCE;
    try {
      await checkPrograms(round % 2 ? small : plain, seed + round, PROGRAMS_AT_ONCE, true, true);
    } catch (error) {
      faults.push(`programs of seed ${seed + round}: ${describeError(error)}`);
      if (faults.length >= 5) break;
    }
  }
  return { tried, faults };
}

async function files(target: string, seed: number, seconds: number, keep?: string): Promise<Tried> {
  const { tried, findings } = await fuzz({ target, seed, seconds, ...(keep && { keep }) });
  const faults = findings.map(({ index, what, file }) =>
    `${target}, seed ${seed}, input ${index}${file ? ` (${file})` : ""}: ${what}`
  );
  return { tried, faults };
}

async function main(argv: readonly string[]): Promise<number> {
  if (wantsHelp(argv)) {
    console.log(COMMAND.help());
    return 0;
  }
  const { values: { seconds, seed: given, target, keep } } = COMMAND.read(argv);
  const seed = given || Date.now() % 2 ** 31;
  const targets = target ? [target] : ["programs", ...Object.keys(FUZZ_TARGETS)];
  let [tried, failed] = [0, 0];
  for (const name of targets) {
    const share = seconds / targets.length;
    const done =
      await (name === "programs" ? programs(seed, share) : files(name, seed, share, keep));
    console.log(`${name}: ${done.tried} tried, ${done.faults.length} failed (seed ${seed})`);
    for (const fault of done.faults) console.log(`  ${fault}`);
    tried += done.tried;
    failed += done.faults.length;
  }
  console.log(`\n${tried} tried, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args).catch(reportError));
