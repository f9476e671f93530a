/**
 * The user's cache folder, where measurements that cost time to repeat are kept. Deleting it costs
 * only that time, and nothing here ever fails a run: what cannot be read or written is left out.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import * as v from "../deps/valibot.ts";
import { type Device, fingerprint, type TuningEntry } from "../../engine/mod.ts";
import { environment } from "./environment.ts";
import { readRegularText } from "./regular_file.ts";

const RECORD = v.object({
  adapter: v.string(),
  entries: v.record(
    v.string(),
    v.object({ variant: v.string(), ratios: v.record(v.string(), v.number()) }),
  ),
});

/**
 * `$TESSERA_CACHE`, or `tessera` in the platform's folder for caches; undefined where none is
 * known.
 *
 * @param variable reads an environment variable
 * @param os operating system as `Deno.build.os` names it
 */
export function cacheFolder(
  variable: (name: string) => string | undefined = environment,
  os: string = Deno.build.os,
): string | undefined {
  const own = variable("TESSERA_CACHE");
  if (own) return own;
  const home = variable("HOME");
  const base = os === "windows"
    ? variable("LOCALAPPDATA")
    : os === "darwin"
    ? home && join(home, "Library", "Caches")
    : variable("XDG_CACHE_HOME") || (home && join(home, ".cache"));
  return base ? join(base, "tessera") : undefined;
}

/** File of a device's measurements within the cache folder. */
async function tuningFile(device: Device, folder: string): Promise<string> {
  return join(folder, `tuning-${await fingerprint(device)}.json`);
}

/**
 * Loads what {@link saveTuning} kept for this adapter, driver and these kernels.
 *
 * @param folder default: {@link cacheFolder}
 * @returns how many entries were loaded; 0 where there is no usable file
 */
export async function loadTuning(
  device: Device,
  folder: string | undefined = cacheFolder(),
): Promise<number> {
  if (folder === undefined) return 0;
  let entries: [string, TuningEntry][];
  try {
    const text = readRegularText(await tuningFile(device, folder));
    entries = Object.entries(v.parse(RECORD, JSON.parse(text)).entries);
  } catch {
    // Missing, unreadable or damaged: it is measured again.
    return 0;
  }
  device.tuning.load(entries);
  return entries.length;
}

/**
 * Keeps the device's measurements for the next start, written beside and renamed.
 *
 * @param folder default: {@link cacheFolder}
 * @returns the file, or undefined where it could not be written
 */
export async function saveTuning(
  device: Device,
  folder: string | undefined = cacheFolder(),
): Promise<string | undefined> {
  if (folder === undefined) return undefined;
  const file = await tuningFile(device, folder);
  const record: v.InferOutput<typeof RECORD> = {
    adapter: device.info.description,
    entries: Object.fromEntries(
      [...device.tuning.entries].map(([key, { variant, ratios }]) => [
        key,
        { variant, ratios: { ...ratios } },
      ]),
    ),
  };
  const partial = `${file}.${Deno.pid}.partial`;
  try {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(partial, `${JSON.stringify(record, null, 1)}\n`);
    await Deno.rename(partial, file);
    return file;
  } catch {
    return undefined;
  }
}
