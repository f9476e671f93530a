/**
 * The two tiers of the tests. The quick one covers every op, kernel, command and file format once
 * at small sizes; the full one adds the whole matrix of variants, long runs and many seeds. The
 * word `--full` behind `--` on the command line of `deno test` asks for the full tier, as
 * `deno task test --full` does; `--beyond-quick` beside it leaves out what would repeat the quick
 * one.
 *
 * @module
 */

/** Whether the full tier runs. */
export const full: boolean = Deno.args.includes("--full");

const beyondQuick = Deno.args.includes("--beyond-quick");

/**
 * A test that is the same in both tiers, in a file that has others: `--beyond-quick` skips it, as
 * it does files that import nothing else from here. `Deno.test` is for tests that ask which tier
 * runs.
 */
export function test(name: string, fn: (t: Deno.TestContext) => void | Promise<void>): void {
  Deno.test({ name, ignore: beyondQuick, fn });
}

/** A test of the full tier; the quick one reports it as skipped. */
export function fullOnly(name: string, fn: (t: Deno.TestContext) => void | Promise<void>): void {
  Deno.test({ name, ignore: !full, fn });
}

const [part, parts] = Deno.args.find((it) => it.startsWith("--part="))?.slice(7).split("/")
  .map(Number) ?? [0, 1];

/** Whether the test of this number belongs to the part I/N, from 0, that `--part=I/N` asks for. */
export const isInPart = (turn: number): boolean => turn % parts === part;
