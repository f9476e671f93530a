/** `deno task table`: encoders on labelled folders, judged alike, beside what was published. */

import { join } from "../deps/path.ts";
import { type Command, command, quotedCommand } from "../cli/command.ts";
import { spread, TABLE_OPTIONS } from "../downstream/table/options.ts";
import { markdownOf, type MissingCell, pageOf, scoresCsv } from "../downstream/table/report.ts";
import {
  cellOf,
  tableEncoders,
  type TableRow,
  tableSets,
  variantsOf,
} from "../downstream/table/results.ts";
import { describeError, exitCodeOf, InterruptedError } from "../errors.ts";
import { shardFacts } from "../cli/shared_options.ts";
import { lockFolder } from "../io/lock.ts";
import { isInShard, ShardFolder, shardText } from "../io/shards.ts";
import { readRegularText } from "../io/regular_file.ts";
import { makeFolder, writeJson, writeResult } from "../io/result_file.ts";

/** The command as help and parsing see it. */
export const COMMAND: Command<typeof TABLE_OPTIONS> = command({
  name: "table",
  options: TABLE_OPTIONS,
  footer:
    "Every encoder is probed on every folder, beside it the 20 nearest neighbours and, once " +
    "for each folder, log-mel. FOLDER/probes has the probes, FOLDER/features the embeddings: the " +
    "same command goes on where it was ended, and with more encoders or folders does nothing " +
    "twice. With protocol matpac encoders of other systems are judged by pieces of 6 s and by " +
    "whole clips. A probe that fails is named in the table; the others go on, and the exit code " +
    "is 1. Parts of --shard make their share of the probes; the call without it writes the table.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { values, words: given } = COMMAND.read(spread(argv));
  const { checkpoints, datasets, out, protocol, heads, shard } = values;
  const sets = tableSets(datasets, protocol);
  const encoders = await tableEncoders(checkpoints, heads);
  await makeFolder(out);
  const shards = new ShardFolder<true>(join(out, ".shards"), {
    ...shardFacts(given, ["checkpoints"]),
    "--checkpoints": encoders.map(({ sha256 }) => sha256),
  });
  const parts = shard === undefined ? await shards.parts() : undefined;
  using _ = lockFolder(out, "table", shard !== undefined);
  using own = shard && await shards.begin(shard);
  let cell = 0;
  const rows: TableRow[] = [];
  const missing: MissingCell[] = [];
  for (const set of sets) {
    let baselines = protocol !== "hear" && !set.timestamps;
    for (const encoder of encoders) {
      for (const variant of variantsOf(encoder, protocol, given)) {
        if (signal.aborted) throw new InterruptedError("interrupted; what is done is kept");
        if (!isInShard(cell++, shard)) {
          // Whoever has a set's first cell judges the baselines.
          baselines = false;
          continue;
        }
        const name = [encoder.name, ...variant.name === "" ? [] : [variant.name]].join(", ");
        console.log(`${name} on ${set.name}`);
        try {
          const context = { out, encoder, set, variant, protocol, given, baselines, signal };
          const { rows: found, before } = await cellOf(context);
          rows.push(...found);
          baselines = false;
          if (before) console.log("  is there");
        } catch (error) {
          if (endsAll(error, signal)) throw error;
          console.error(`${name} on ${set.name} failed\n${describeError(error)}`);
          const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
          missing.push({
            ...{ encoder: encoder.name, variant: variant.name, dataset: set.name, reason },
          });
        }
      }
    }
  }
  if (own) {
    await own.finish(true);
    console.log(`shard ${shardText(shard!)} is complete; ${missing.length} of its probes failed`);
    return missing.length > 0 ? 1 : 0;
  }
  const line = quotedCommand(COMMAND.program, argv);
  const table = { command: line, protocol, encoders, sets, rows, missing };
  const { command: _line, rows: _rows, missing: _missing, ...about } = table;
  await writeJson(join(out, "table.json"), { command: line, ...about, rows, missing });
  const text = markdownOf(table);
  await writeResult(join(out, "table.md"), text);
  await writeResult(join(out, "table.html"), pageOf(table));
  const scores = join(out, "scores.csv");
  await writeResult(scores, scoresCsv(table, textOf(scores)));
  if (parts) await shards.remove();
  console.log(`\n${text}\nwritten to ${join(out, "table.md")}, table.json, table.html, scores.csv`);
  return missing.length > 0 ? 1 : 0;
}

/** Whether an error would end all other probes as well: no adapter, a lost device, a full disk. */
function endsAll(error: unknown, signal: AbortSignal): boolean {
  const { name } = error as Error;
  return signal.aborted || name === "InterruptedError" || name === "DiskFullError" ||
    [3, 5].includes(exitCodeOf(error));
}

function textOf(path: string): string | undefined {
  try {
    return readRegularText(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
