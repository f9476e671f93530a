/**
 * Fine-tuned encoders as files.
 *
 * @module
 */
import { writeTensors } from "../../run/checkpoint.ts";
import { fileDigest } from "../probe/feature_cache.ts";
import { saveProbe } from "../probe/probe_file.ts";
import type { ProbeFile } from "../probe/probe_layer.ts";
import type { FineTuned } from "./finetune.ts";

const ENDING = /\.safetensors$/;

/** The head's file beside the encoder's. */
export function headPath(path: string): string {
  return `${path.replace(ENDING, "")}.probe.safetensors`;
}

/**
 * Writes the encoder, as `embed` and others load it, and its head as a probe of it.
 *
 * @param path of the encoder; {@link headPath} is the head's
 * @param metadata of the encoder
 * @throws {DiskFullError} if there is no room.
 */
export async function saveFineTuned(
  path: string,
  { tensors, head }: FineTuned,
  metadata: Readonly<Record<string, string>>,
  about: Pick<ProbeFile, "classes" | "multiLabel" | "features" | "about">,
): Promise<void> {
  await writeTensors(path, tensors, metadata);
  await saveProbe(headPath(path), { ...about, ...head, checkpoint: await fileDigest(path) });
}
