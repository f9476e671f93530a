/**
 * Environment variables that a command may do without.
 *
 * @module
 */

/** An environment variable, or undefined where the permission to read it is missing. */
export function environment(name: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) : undefined;
}
