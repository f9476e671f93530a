/**
 * The small encoder of the reference data and what the official inference package makes of two
 * waves with it: width 16, 3 blocks, 2 heads, chunks of 64 frames.
 *
 * @module
 */
import { openCheckpoint } from "../../model/formats/checkpoint_file.ts";
import { bytesAccess, valuesOf, wholeBytes } from "../../model/formats/stored_tensor.ts";
import {
  readSafetensors,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../engine/formats/safetensors.ts";

const read = (name: string) => Deno.readFileSync(new URL(`../golden/${name}`, import.meta.url));

/** Waves, their standardised log-mel and embeddings; see tests/README.md, Golden files. */
export const GOLDEN: ReadonlyMap<string, SafetensorsTensor> = readSafetensors(
  read("checkpoint_pt.safetensors"),
).tensors;

/** Values of one of them. */
export function golden(name: string): Float32Array {
  return GOLDEN.get(name)!.data as Float32Array;
}

/** The encoder's tensors. */
export const WEIGHTS: ReadonlyMap<string, SafetensorsTensor & { data: Float32Array }> = new Map(
  [...openCheckpoint(bytesAccess(read("matpac_enconly.pt"))).tensors].map(([name, tensor]) => [
    name,
    {
      dtype: "F32",
      shape: tensor.shape,
      data: valuesOf(wholeBytes(tensor), tensor.dtype) as Float32Array,
    },
  ]),
);

/** Metadata that say what shapes do not. */
export const HEADS = { geometry: '{"heads":2}' };

/** The encoder as a safetensors file; `change` may leave tensors out. */
export function encoderFile(
  metadata: Record<string, string> = HEADS,
  change: (name: string, data: Float32Array) => Float32Array | undefined = (_, data) => data,
): Uint8Array {
  const entries = [...WEIGHTS].flatMap(([name, { shape, data }]) => {
    const changed = change(name, data);
    return changed ? [[name, { dtype: "F32", shape, data: changed }] as const] : [];
  });
  return writeSafetensors(entries, metadata);
}
