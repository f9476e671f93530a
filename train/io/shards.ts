/**
 * Work that several processes share without talking to each other: each does one part of N and
 * leaves a record in a folder that all see; the same command without `--shard` then finds all parts
 * and puts them together.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import { isSystemError, UsageError } from "../errors.ts";
import { namesIn } from "./folders.ts";
import { lockFile } from "./lock.ts";
import { openWritten, readRegularText } from "./regular_file.ts";
import { makeFolder, writeJson } from "./result_file.ts";

/** A part of some work. */
export interface Shard {
  /** Which, from 1. */
  readonly index: number;
  /** How many there are. */
  readonly count: number;
}

/** As the command line has it: `2/8`. */
export function shardText({ index, count }: Shard): string {
  return `${index}/${count}`;
}

/** Whether the item of this number, from 0, is in a shard: neighbours are in different ones. */
export function isInShard(item: number, shard: Shard | undefined): boolean {
  return shard === undefined || item % shard.count === shard.index - 1;
}

/** What all shards of one work have in common: options and data by name. */
export type ShardFacts = Readonly<Record<string, unknown>>;

/** What a shard leaves. */
interface ShardRecord<Part> {
  readonly facts: ShardFacts;
  /** Missing while the shard is not complete. */
  readonly part?: Part;
}

/** A shard that is worked on; others are kept from it until it is disposed. */
export interface OpenShard<Part> extends Disposable {
  /** What it left before, where it was complete. */
  readonly before: Part | undefined;
  /** Records that it is complete. */
  finish(part: Part): Promise<void>;
}

/** The records of the shards of one work. */
export class ShardFolder<Part> {
  /**
   * Reads and writes nothing yet.
   *
   * @param dir folder of the records, of its own
   * @param facts of this process; ready for JSON
   */
  constructor(readonly dir: string, readonly facts: ShardFacts) {}

  /** Path of a file of a shard's own. */
  path({ index, count }: Shard, ending: string): string {
    return join(this.dir, `${index}-of-${count}${ending}`);
  }

  /**
   * Begins or repeats a shard.
   *
   * @throws {UsageError} if the folder has shards of other options or data, or of another number,
   * or if another process is working on this one.
   */
  async begin(shard: Shard): Promise<OpenShard<Part>> {
    await makeFolder(this.dir);
    const { count } = shard;
    for (const [other, { facts }] of await this.#records()) {
      if (other.count !== count) {
        throw this.#unlike(shard, `is divided into ${other.count}, not ${count}`);
      }
      this.#refuseUnlike(facts, shard);
    }
    const lock = openWritten(this.path(shard, ".lock"), { write: true, create: true });
    if (!lockFile(lock)) {
      lock.close();
      throw new UsageError(`--shard ${shardText(shard)}: another process is working on it`);
    }
    const path = this.path(shard, ".json");
    const before = recordIn(path)?.part as Part | undefined;
    const write = (record: ShardRecord<Part>) => writeJson(path, record);
    if (before === undefined) await write({ facts: this.facts });
    return {
      before,
      finish: (part) => write({ facts: this.facts, part }),
      [Symbol.dispose]: () => lock.close(),
    };
  }

  /**
   * What all shards left, in their order; undefined where nobody divided the work.
   *
   * @throws {UsageError} naming shards that are missing or not complete, or the option or data in
   * which they differ from this call.
   */
  async parts(): Promise<{ readonly shard: Shard; readonly part: Part }[] | undefined> {
    const records = await this.#records();
    if (records.length === 0) return undefined;
    const [[{ count }]] = records;
    for (const [, { facts }] of records) this.#refuseUnlike(facts);
    const parts = Array.from({ length: count }, (_, i) => {
      const shard = { index: i + 1, count };
      return { shard, part: recordIn(this.path(shard, ".json"))?.part as Part | undefined };
    });
    const missing = parts.filter(({ part }) => part === undefined)
      .map(({ shard }) => shardText(shard));
    if (missing.length > 0) {
      const verb = missing.length === 1 ? "is" : "are";
      throw new UsageError(
        `${this.dir}: of ${count} shards ${missing.join(", ")} ${verb} missing or not complete`,
        `run the same command with --shard ${missing[0]}, or remove ${this.dir} to do all in one`,
      );
    }
    return parts as { shard: Shard; part: Part }[];
  }

  /** Removes all records: the parts are put together. */
  async remove(): Promise<void> {
    await Deno.remove(this.dir, { recursive: true });
  }

  async #records(): Promise<[Shard, ShardRecord<Part>][]> {
    return (await namesIn(this.dir)).sort().flatMap((name) => {
      const [, index, count] = /^(\d+)-of-(\d+)\.json$/.exec(name) ?? [];
      const record = count === undefined ? undefined : recordIn(join(this.dir, name));
      return record
        ? [[{ index: Number(index), count: Number(count) }, record as ShardRecord<Part>]]
        : [];
    });
  }

  #refuseUnlike(facts: ShardFacts, shard?: Shard): void {
    const show = (value: unknown) => JSON.stringify(value) ?? "nothing";
    const names = new Set([...Object.keys(facts), ...Object.keys(this.facts)]);
    const name = [...names].find((it) => show(facts[it]) !== show(this.facts[it]));
    if (name === undefined) return;
    const text = `has ${name} ${show(facts[name])}, not ${show(this.facts[name])}`;
    throw this.#unlike(shard, text);
  }

  #unlike(shard: Shard | undefined, text: string): UsageError {
    return new UsageError(
      `${shard ? `--shard ${shardText(shard)}: ` : ""}the work in ${this.dir} ${text}`,
      "all shards, and the call without --shard that ends them, need the same options and data; " +
        `remove ${this.dir} to begin anew`,
    );
  }
}

function recordIn(path: string): ShardRecord<unknown> | undefined {
  try {
    const record = JSON.parse(readRegularText(path));
    return typeof record?.facts === "object" && record.facts !== null ? record : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || isSystemError(error)) return undefined;
    throw error;
  }
}
