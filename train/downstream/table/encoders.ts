/**
 * Which published encoder a checkpoint is.
 *
 * @module
 */
import { basename } from "../../deps/path.ts";
import { type CheckpointFile, modelOf } from "../../../model/formats/checkpoint_file.ts";
import { inspectPretrained } from "../../../model/pretrained/load.ts";
import type { PublishedEncoder } from "./published.ts";

/** Width and blocks of all that scores were published of. */
const [WIDTH, DEPTH] = [768, 12];

/** Starts of SHA-256 digests of official files. */
const DIGESTS: Readonly<Record<string, PublishedEncoder>> = {
  "7b20168c": "atst-clip",
  "9f812544": "atst-frame",
  "8d1b2340": "beats-iter3",
  "8008b126": "beats-iter3-plus",
  d43cbfad: "beats-iter3-plus",
  "302903fa": "passt",
  "49804bf7": "htsat",
};

/**
 * Which published encoder a checkpoint is: by its digest, else by its system and sizes, where BEATs
 * are told apart by the name of the file.
 *
 * @returns undefined for encoders of other sizes, for what was trained here, and where several are
 * possible
 */
export function publishedEncoder(
  file: CheckpointFile,
  path: string,
  sha256: string,
  heads: number | undefined,
): PublishedEncoder | undefined {
  const known = DIGESTS[sha256.slice(0, 8)];
  if (known) return known;
  const given = heads === undefined ? {} : { heads };
  const found = inspectPretrained(file, given);
  if (found) {
    if (found.width !== WIDTH || found.depth !== DEPTH) return undefined;
    if (found.system === "atst") return found.title === "ATST-Clip" ? "atst-clip" : "atst-frame";
    const { system } = found;
    if (
      system === "ast" || system === "audiomae" || system === "eat" || system === "ced"
    ) return undefined;
    if (system !== "beats") return system;
    const name = basename(path).toLowerCase();
    if (/finetuned|fine.tuned/.test(found.title + name) || !name.includes("iter3")) {
      return undefined;
    }
    return /iter3.?(plus|\+)/.test(name) ? "beats-iter3-plus" : "beats-iter3";
  }
  // What was trained here says with which configuration.
  if (file.metadata.config !== undefined) return undefined;
  const model = modelOf(file);
  const sizes = model?.geometry;
  return sizes?.width === WIDTH && sizes.depth === DEPTH ? model?.system : undefined;
}
