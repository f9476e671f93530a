/**
 * The two tiers of the tests. The quick one covers every op, kernel, command and file format once
 * at small sizes; the full one adds the whole matrix of variants, long runs and many seeds. The
 * word `--full` behind `--` on the command line of `deno test` asks for the full tier, as
 * `deno task test --full` does.
 *
 * @module
 */

/** Whether the full tier runs. */
export const full: boolean = Deno.args.includes("--full");

/** A test of the full tier; the quick one reports it as skipped. */
export function fullOnly(name: string, fn: (t: Deno.TestContext) => void | Promise<void>): void {
  Deno.test({ name, ignore: !full, fn });
}
