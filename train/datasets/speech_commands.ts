/**
 * Speech Commands (Warden 2018), versions 0.01 and 0.02,
 * http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz: a folder of WAV files for each
 * word, and the authors' `validation_list.txt` and `testing_list.txt`; the rest is for training.
 * Background noise is left out.
 *
 * @module
 */
import { join, relative } from "../deps/path.ts";
import { walkFiles } from "../io/folders.ts";
import { type Dataset, locate, readLines } from "./dataset.ts";

function speechCommands(version: "0.01" | "0.02", clips: number, classes: number): Dataset {
  const title = `Speech Commands ${version}`;
  return {
    title,
    about: "the authors' lists of validation and test clips; classes are the words",
    metric: "accuracy",
    column: "split",
    ...{ clips, classes },
    async read(dir) {
      const name = `speech_commands_v${version}`;
      const { root, validation, test } = await locate(dir, title, ["", name], [
        { validation: "validation_list.txt", test: "testing_list.txt" },
      ]);
      const listed = new Map([
        ...(await readLines(validation)).map((it) => [it, "validation"] as const),
        ...(await readLines(test)).map((it) => [it, "test"] as const),
      ]);
      const words = (await Array.fromAsync(Deno.readDir(root)))
        .filter((it) => it.isDirectory && /^[a-z]+$/.test(it.name)).map((it) => it.name).sort();
      const files = [...listed.keys()];
      for (const word of words) {
        for await (const file of walkFiles(join(root, word), [".wav"])) {
          files.push(relative(root, file).replaceAll("\\", "/"));
        }
      }
      return {
        ...{ root, audio: root, folders: words },
        clips: [...new Set(files)].sort().map((file) => ({
          file,
          labels: [file.split("/")[0]],
          part: listed.get(file) ?? "train",
        })),
      };
    },
  };
}

/** Version 0.01. */
export const SPCV1: Dataset = speechCommands("0.01", 64_721, 30);
/** Version 0.02. */
export const SPCV2: Dataset = speechCommands("0.02", 105_829, 35);
