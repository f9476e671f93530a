/** `deno task studio`: a local page on which runs are watched. */

import { command } from "../cli/command.ts";
import { option } from "../cli/option.ts";
import { folder } from "../cli/value_types.ts";
import { EXIT_INTERRUPTED, NoDataError } from "../errors.ts";
import { isFolder } from "../io/folders.ts";
import { openStudio } from "../studio/server.ts";

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "studio",
  options: {
    dir: option(
      folder("RUN|DIR"),
      "A run, or a folder with runs in it or in its subfolders; new ones appear by themselves.",
      { positional: true, default: "runs" },
    ),
  },
  footer: "Prints the page's address, which only this machine can open and which holds a secret; " +
    "Ctrl-C ends it. Nothing is changed, and nothing outside the folders that are named is read.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command until the signal aborts. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { values: { dir }, words } = COMMAND.read(argv);
  if (words.dir !== undefined && !await isFolder(dir)) {
    throw new NoDataError(`${dir}: no such folder`);
  }
  const studio = await openStudio({ folder: dir });
  console.log(studio.address);
  console.log(`runs in ${dir}; Ctrl-C ends`);
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await studio.close();
  return EXIT_INTERRUPTED;
}
