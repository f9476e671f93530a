/**
 * Folders of HEAR 2021's tasks as hear-preprocess writes them and https://hearbenchmark.com has
 * them: `task_metadata.json`, `labelvocabulary.csv`, a JSON file for each part or fold, and audio
 * in a folder for each sample rate, in it one for each part. Files of scene tasks have labels;
 * those of timestamp tasks have events, and `events.csv` is written for them.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import * as v from "../deps/valibot.ts";
import { NoDataError } from "../errors.ts";
import {
  type Dataset,
  type ListedClip,
  type ListedEvent,
  locate,
  parsed,
  readList,
} from "./dataset.ts";

const METADATA = v.object({
  task_name: v.optional(v.string()),
  embedding_type: v.picklist(["scene", "event"]),
  prediction_type: v.picklist(["multiclass", "multilabel"]),
});
const SCENES = v.record(v.string(), v.array(v.string()));
const EVENTS = v.record(
  v.string(),
  v.array(v.object({ label: v.string(), start: v.number(), end: v.number() })),
);

const PARTS: Readonly<Record<string, string>> = {
  train: "train",
  valid: "validation",
  test: "test",
};

/** @throws {NoDataError} if the file is not of this form */
async function readJson<Schema extends v.GenericSchema>(
  file: string,
  schema: Schema,
): Promise<v.InferOutput<Schema>> {
  const text = await readList(file);
  return parsed(file, text, (it) => v.parse(schema, JSON.parse(it)));
}

/** The largest sample rate that the task's audio is there in: resampled once, least is lost. */
async function rateFolder(root: string): Promise<string> {
  const rates = (await Array.fromAsync(Deno.readDir(root)))
    .filter(({ isDirectory, name }) => isDirectory && /^\d+$/.test(name))
    .map(({ name }) => Number(name));
  if (rates.length === 0) throw new NoDataError(`${root}: has no folder of audio, such as 48000`);
  return String(Math.max(...rates));
}

/** A task of HEAR 2021. */
export const HEAR_TASK: Dataset = {
  title: "HEAR task",
  about: "a task's folder of HEAR 2021, with its own parts or folds; events.csv for its events",
  metric: "accuracy",
  column: "split",
  async read(dir) {
    const { root, about } = await locate(dir, "task of HEAR", [""], [
      { about: "task_metadata.json", vocabulary: "labelvocabulary.csv" },
    ]);
    const { task_name: title, embedding_type: kind, prediction_type: labels } = await readJson(
      about,
      METADATA,
    );
    const audio = join(root, await rateFolder(root));
    const names = (await Array.fromAsync(Deno.readDir(root)))
      .filter(({ name }) => /^(train|valid|test|fold\d+)\.json$/.test(name))
      .map(({ name }) => name.replace(/\.json$/, "")).sort();
    const folds = names.every((it) => it.startsWith("fold"));
    const clips: ListedClip[] = [];
    const events: ListedEvent[] = [];
    for (const name of names) {
      const file = join(root, `${name}.json`);
      const part = PARTS[name] ?? name;
      if (kind === "scene") {
        for (const [clip, labels] of Object.entries(await readJson(file, SCENES))) {
          clips.push({ file: `${name}/${clip}`, labels, part });
        }
        continue;
      }
      for (const [clip, own] of Object.entries(await readJson(file, EVENTS))) {
        const path = `${name}/${clip}`;
        clips.push({ file: path, labels: [...new Set(own.map(({ label }) => label))], part });
        for (const { label, start, end } of own) {
          events.push({ filename: path, onset_ms: start, offset_ms: end, label });
        }
      }
    }
    return {
      ...{ root, audio, folders: names, clips },
      ...title !== undefined && { title },
      column: folds ? "fold" : "split",
      metric: labels === "multilabel" ? "mAP" : "accuracy",
      ...kind === "event" && { events },
    };
  },
};
