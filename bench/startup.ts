/**
 * How long a fresh process takes to import an engine, to its first result, and to a further one.
 *
 * @module
 */
import { median } from "./harness.ts";
import { MARK, type StartupTimes } from "./peers/workloads.ts";

/** What `--filter` picks it by. */
export const STARTUP = "startup";
/** Processes of each engine; their middle times count. */
const PROCESSES = 3;

async function once(engine: string): Promise<StartupTimes | undefined> {
  const script = new URL("peers/startup_child.ts", import.meta.url).pathname;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    // No lock file and no configuration: the project does not depend on its peers.
    args: [
      ...["run", "--no-prompt", "--no-check", "--no-lock", "--no-config"],
      ...["--allow-read", "--allow-env", script, engine],
    ],
    stdin: "null",
    stderr: "null",
  }).output();
  const line = new TextDecoder().decode(stdout).split("\n").find((it) => it.startsWith(MARK));
  return line && JSON.parse(line.slice(MARK.length));
}

/** Middle times of some processes by engine; one that does not start is left out. */
export async function measureStartup(
  engines: readonly string[],
): Promise<Record<string, StartupTimes>> {
  const found: Record<string, StartupTimes> = {};
  for (const engine of engines) {
    await once(engine); // fetches and compiles
    const runs: StartupTimes[] = [];
    for (let i = 0; i < PROCESSES; i++) {
      const times = await once(engine);
      if (times) runs.push(times);
    }
    if (runs.length === 0) continue;
    const middle = (of: keyof StartupTimes) => median(runs.map((it) => it[of]));
    found[engine] = {
      import_ms: middle("import_ms"),
      first_op_ms: middle("first_op_ms"),
      read_ms: middle("read_ms"),
    };
  }
  return found;
}

/** One line for each engine. */
export function startupLines(startup: Readonly<Record<string, StartupTimes>>): string {
  return Object.entries(startup).map(([engine, { import_ms, first_op_ms, read_ms }]) =>
    `${STARTUP}/${engine}  import ${import_ms.toFixed(0)} ms, device and first op ` +
    `${first_op_ms.toFixed(0)} ms, an op and its result read ${read_ms.toFixed(2)} ms`
  ).join("\n");
}
