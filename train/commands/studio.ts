/** `deno task studio`: a local page on which runs are watched and sounds are looked at. */

import { command } from "../cli/command.ts";
import { group, option } from "../cli/option.ts";
import { adapter, heads, workers } from "../cli/shared_options.ts";
import { file, folder, whole } from "../cli/value_types.ts";
import { EXIT_INTERRUPTED, NoDataError } from "../errors.ts";
import { isFolder } from "../io/folders.ts";
import { openStudio } from "../studio/server.ts";
import { Sounds } from "../studio/sounds.ts";

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "studio",
  options: {
    dir: option(
      folder("RUN|DIR"),
      "A run, or a folder with runs in it or in its subfolders; new ones appear by themselves.",
      { positional: true, default: "runs" },
    ),
    checkpoint: option(
      file("F"),
      "The model that sounds are looked at with first: a run's folder, encoder.safetensors, a " +
        "checkpoint, or official weights (.pt), also those of other systems that embed takes. " +
        "Runs of DIR can be chosen as well.",
    ),
    collection: option(
      folder("FOLDER"),
      "A folder of sounds for the map and for nearest sounds: with meta.csv, or labelled by the " +
        "folders in it.",
    ),
    probe: option(file("P"), "A probe of that model, of probe --save, that names sounds."),
    ...group("Encoder and machine", {
      clips: option(
        whole(2, 1e5),
        "Most clips of the collection; of a larger folder as many are drawn at random.",
        { default: 1000 },
      ),
      heads,
      workers,
      adapter,
    }),
  },
  footer: "Prints the page's address, which only this machine can open and which holds a secret; " +
    "Ctrl-C ends it. Nothing is changed, and nothing is read but what is named here.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command until the signal aborts. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { values: { dir, ...named }, words } = COMMAND.read(argv);
  const given = [words.dir === undefined ? undefined : dir, named.collection];
  for (const path of given) {
    if (path !== undefined && !await isFolder(path)) {
      throw new NoDataError(`${path}: no such folder`);
    }
  }
  using sounds = new Sounds({ folder: dir, ...named });
  const studio = await openStudio({ folder: dir, sounds });
  console.log(studio.address);
  console.log(`runs in ${dir}; Ctrl-C ends`);
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await studio.close();
  return EXIT_INTERRUPTED;
}
