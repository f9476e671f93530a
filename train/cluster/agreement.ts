/**
 * What the processes of a group have to have in common before they train together.
 *
 * @module
 */
import { lastingOptions, type ResolvedConfig } from "../config/config.ts";
import type { ClipSource } from "../data/clip_source.ts";
import { UsageError } from "../errors.ts";
import { type RunState, snapshotState } from "../run/state_dict.ts";
import { VERSION } from "../version.ts";
import type { Group } from "./group.ts";

type GatheringGroup = Pick<Group, "rank" | "size" | "hosts" | "gather">;

/** Values by name, as one line. */
type Facts = Readonly<Record<string, unknown>>;

/**
 * Compares facts over the group.
 *
 * @throws {UsageError} naming the first rank that differs from rank 0, and in what
 */
async function compare(group: GatheringGroup, facts: Facts, hint: string): Promise<void> {
  const texts = await group.gather(JSON.stringify(facts));
  const rank = texts.findIndex((text) => text !== texts[0]);
  if (rank < 0) return;
  const [first, other]: Facts[] = [texts[0], texts[rank]].map((text) => JSON.parse(text));
  const names = new Set([...Object.keys(first), ...Object.keys(other)]);
  const show = (value: unknown) => JSON.stringify(value) ?? "nothing";
  const name = [...names].find((it) => show(first[it]) !== show(other[it]))!;
  throw new UsageError(
    `rank ${rank} on ${group.hosts[rank]} has ${name} ${show(other[name])}, rank 0 on ${
      group.hosts[0]
    } has ${show(first[name])}`,
    hint,
  );
}

/**
 * Compares configuration, version and data.
 *
 * @throws {UsageError} where they differ
 */
export async function compareConfiguration(
  group: GatheringGroup,
  config: ResolvedConfig,
  source: ClipSource,
): Promise<void> {
  await compare(group, {
    version: VERSION,
    ...JSON.parse(lastingOptions(config)),
    out: config.out,
    resume: config.resume,
    clips: source.parts?.map(({ size }) => size) ?? [source.size],
    first: source.describe(0),
    last: source.describe(source.size - 1),
  }, "all ranks need the same program, options and data, and see the same folders");
}

/**
 * Compares updates done and every tensor of a checkpoint.
 *
 * @throws {UsageError} where they differ
 */
export async function compareState(
  group: GatheringGroup,
  state: RunState,
  out: string,
): Promise<void> {
  if (group.size === 1) return;
  const hint = `is ${out} on a file system that all ranks share, and are their adapters alike?`;
  await compare(group, { "updates done:": state.trainer.updates }, hint);
  const sums: Record<string, string> = {};
  for (const [name, { data }] of await snapshotState(state).fetch()) {
    const hash = await crypto.subtle.digest("SHA-256", data as BufferSource);
    sums[`in ${name}`] = new Uint8Array(hash).toHex().slice(0, 16);
  }
  await compare(group, sums, hint);
}
