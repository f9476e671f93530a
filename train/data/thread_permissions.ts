/**
 * What threads that decode may do: their input comes from strangers.
 *
 * @module
 */

/** Deno's options of a thread, for which lib.dom has no type. */
export type ThreadOptions = WorkerOptions & {
  readonly deno?: { readonly permissions: Deno.PermissionOptionsObject };
};

let own: Pick<ThreadOptions, "deno"> = {};

/**
 * From now on new threads may read files and nothing else. Deno ends a process that asks for this
 * without `"unstable": ["worker-options"]` in its configuration: the command line has it, programs
 * that import the modules need not.
 */
export function restrictThreads(): void {
  const none = { write: false, net: false, env: false, run: false, ffi: false, sys: false };
  own = { deno: { permissions: { read: "inherit", import: false, ...none } } };
}

/** Options for a thread. */
export function threadOptions(name: string): ThreadOptions {
  return { type: "module", name, ...own };
}
