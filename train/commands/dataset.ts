/** `deno task dataset`: a data set as it is downloaded to a labelled folder. */

import { basename, dirname, join, resolve } from "../deps/path.ts";
import { command, refuse } from "../cli/command.ts";
import { listOnStderr, listSkipped } from "../cli/listing.ts";
import { flag, option } from "../cli/option.ts";
import { json } from "../cli/shared_options.ts";
import { folder, parsed } from "../cli/value_types.ts";
import { isFolder } from "../io/folders.ts";
import { NoDataError } from "../errors.ts";
import type { Dataset, Listing } from "../datasets/dataset.ts";
import { DATASETS } from "../datasets/mod.ts";
import { unpackTars } from "../datasets/webdataset.ts";
import {
  type Matched,
  matchFiles,
  unwritable,
  writeEvents,
  writeLabelled,
} from "../datasets/write_labelled.ts";
import { waiting } from "../cli/wait_line.ts";
import { LiveLine, standardOutput } from "../cli/live_line.ts";
import { writeAtomic } from "../io/atomic_write.ts";

/** WebDataset tars, which are unpacked instead of linked to. */
const TARS = "webdataset";
const NAMES = [...Object.keys(DATASETS), TARS];

/** ESC-50 is as good as esc50. */
function datasetName(word: string): string | undefined {
  const name = word.toLowerCase().replaceAll("-", "");
  return NAMES.includes(name) ? name : undefined;
}

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "dataset",
  options: {
    name: option(
      parsed("NAME", `one of ${NAMES.join(", ")}`, datasetName),
      `Which one: ${NAMES.join(", ")}.`,
      { positional: true, required: true },
    ),
    dir: option(folder(), "The folder that it was unpacked into, or the one inside it.", {
      positional: true,
      required: true,
    }),
    out: option(
      folder("FOLDER"),
      "The labelled folder. DIR itself where its audio is in audio/: only meta.csv is written " +
        "then.",
      { defaultText: "DIR-labelled" },
    ),
    copy: flag(
      "Copies the audio; without it audio/ is a link to the download. Copies that are there are " +
        "kept.",
    ),
    label: option(
      parsed("FIELD", "a field of the .json files", (word) => word),
      "Of webdataset: where the label is.",
      { defaultText: "label, or what else is usual" },
    ),
    json: {
      ...json,
      help: "Writes what was found, with all files that are missing or surplus.",
    },
    quiet: flag("No summary and no list of files."),
  },
  footer: Object.entries(DATASETS)
    .map(([name, { about, metric }]) => `${name}: ${about}; ${metric}.`).join(" ") +
    " webdataset: .tar files of KEY.flac and KEY.json, unpacked into the labelled folder; folds " +
    "or parts are in the names of the tars.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { values, words } = COMMAND.read(argv);
  const { name: key, dir, copy, json, quiet } = values;
  if (!await isFolder(dir)) throw new NoDataError(`${dir}: no such folder`);
  if (key === TARS) return await unpack(values, signal);
  refuse(words, ["label"], "is for webdataset");

  const listing = await DATASETS[key].read(dir);
  const dataset = { ...DATASETS[key], ...definedOf(listing) };
  const root = resolve(listing.root);
  const out = values.out ?? join(dirname(root), `${basename(root)}-labelled`);
  const found = await waiting(
    () => `looking through ${listing.audio}`,
    matchFiles(dataset, listing),
    { quiet },
  );
  const line = quiet ? undefined : new LiveLine(standardOutput(), standardOutput().now());
  await writeLabelled(listing, out, dataset.column, found.rows, {
    copy,
    signal,
    onProgress: (done, total) => line?.update(`${done} of ${total} files copied`),
  });
  line?.finish();
  if (listing.events) await writeEvents(out, listing.events, found.rows);

  const classes = [...new Set(found.rows.flatMap(({ labels }) => labels))].sort();
  const counts = [...Map.groupBy(found.rows, ({ part }) => part)]
    .map(([part, rows]): [string, number] => [part, rows.length]);
  const parts = Object.fromEntries(counts);
  const { rows, leftOut, ...files } = found;
  if (json !== undefined) {
    const record = {
      dataset: key,
      metric: dataset.metric,
      clips: rows.length,
      [`${dataset.column}s`]: parts,
      classes,
      left_out: leftOut,
      ...files,
    };
    const text = `${JSON.stringify(record, null, 1)}\n`;
    try {
      await Deno.mkdir(dirname(json), { recursive: true });
      await writeAtomic(json, [new TextEncoder().encode(text)]);
    } catch (error) {
      throw unwritable(error, `--json ${json}`);
    }
  }
  listSkipped("folders that cannot be read:", found.unread);
  if (quiet) return 0;
  const split = Object.entries(parts).map(([part, clips]) =>
    `${dataset.column === "fold" ? `fold ${part}` : part} ${clips}`
  );
  console.log(
    `${dataset.title}: ${countOf(rows.length, dataset.clips)} clips, ` +
      `${countOf(classes.length, dataset.classes)} classes; ${split.join(", ")}`,
  );
  console.log(`${out}: labelled folder, judged by ${dataset.metric}`);
  if (leftOut.length > 0) console.log(`${leftOut.length} clips are not in the split`);
  tellFiles(found);
  return 0;
}

/** Lists files that are not as they should be on standard error. */
function tellFiles({ missing, surplus }: Matched): void {
  const kinds: [string, readonly string[]][] = [
    ["listed clips have no file", missing],
    ["files are in no list", surplus],
  ];
  for (const [text, files] of kinds) {
    listOnStderr(`${files.length} ${text}:`, files);
  }
}

const countOf = (found: number, of: number | undefined): string =>
  of === undefined ? String(found) : `${found} of ${of}`;

/** What a listing says of its own set. */
function definedOf(
  { title, column, metric }: Listing,
): Partial<Pick<Dataset, "title" | "column" | "metric">> {
  return Object.fromEntries(
    Object.entries({ title, column, metric }).filter(([, it]) => it !== undefined),
  );
}

/** Takes WebDataset tars apart. */
async function unpack(
  { dir, label, quiet, ...values }: ReturnType<typeof COMMAND.read>["values"],
  signal: AbortSignal,
): Promise<number> {
  const root = resolve(dir);
  const out = values.out ?? join(dirname(root), `${basename(root)}-labelled`);
  const line = quiet ? undefined : new LiveLine(standardOutput(), standardOutput().now());
  const { clips, column, field } = await unpackTars(dir, out, {
    ...label !== undefined && { field: label },
    signal,
    onProgress: (done) => line?.update(`${done} clips unpacked`),
  });
  line?.finish();
  const audio = join(out, "audio");
  const listing = { root: out, audio, folders: [""], clips };
  const found = await matchFiles({ title: dir, column }, listing);
  await writeLabelled(listing, out, column, found.rows, { copy: false, signal });
  if (quiet) return 0;
  const classes = new Set(found.rows.flatMap(({ labels }) => labels));
  const parts = [...Map.groupBy(found.rows, ({ part }) => part)]
    .map(([part, rows]) => `${column === "fold" ? `fold ${part}` : part} ${rows.length}`);
  console.log(`${dir}: ${found.rows.length} clips, ${classes.size} classes; ${parts.join(", ")}`);
  console.log(`${out}: labelled folder; labels are of the field ${field}`);
  tellFiles(found);
  return 0;
}
