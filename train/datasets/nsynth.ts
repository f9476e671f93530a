/**
 * NSynth (Engel and others 2017), https://magenta.tensorflow.org/datasets/nsynth, the archives with
 * JSON and WAV: `nsynth-train`, `nsynth-valid` and `nsynth-test`, each with `examples.json` and
 * `audio/`. Classes are the eleven families of instruments; `synth_lead` is in the training part
 * only.
 *
 * @module
 */
import * as v from "../deps/valibot.ts";
import { type Dataset, type ListedClip, locate, parsed, readList } from "./dataset.ts";

const PARTS = [["train", "train"], ["valid", "validation"], ["test", "test"]] as const;
const EXAMPLES = v.record(v.string(), v.object({ instrument_family_str: v.string() }));

/** NSynth, instrument families. */
export const NSYNTH: Dataset = {
  title: "NSynth",
  about: "the authors' parts; classes are the 11 families in instrument_family_str",
  metric: "accuracy",
  column: "split",
  clips: 305_979,
  classes: 11,
  async read(dir) {
    const { root, audio, ...lists } = await locate(dir, "NSynth", ["", "nsynth"], [{
      audio: "",
      train: "nsynth-train/examples.json",
      valid: "nsynth-valid/examples.json",
      test: "nsynth-test/examples.json",
    }]);
    const clips: ListedClip[] = [];
    for (const [name, part] of PARTS) {
      const examples = parsed(
        lists[name],
        await readList(lists[name]),
        (text) => v.parse(EXAMPLES, JSON.parse(text)),
      );
      for (const [note, { instrument_family_str }] of Object.entries(examples)) {
        clips.push({
          file: `nsynth-${name}/audio/${note}.wav`,
          labels: [instrument_family_str],
          part,
        });
      }
    }
    return { root, audio, folders: PARTS.map(([name]) => `nsynth-${name}/audio`), clips };
  },
};
