/** The small HTS-AT of the reference sets as a whole file: its set leaves the front end out. */
import { writeSafetensors } from "../../engine/formats/safetensors.ts";
import { openCheckpoint } from "../../model/formats/checkpoint_file.ts";
import { bytesAccess, valuesOf, wholeBytes } from "../../model/formats/stored_tensor.ts";
import { withFrontend } from "../../train/verify/htsat.ts";

const OFFICIAL = { sample_rate: 32_000, window_size: 1024, mel_bins: 64, fmin: 50, fmax: 14_000 };

/** The encoder with the official front end at 32 kHz, as safetensors. */
export function htsatFile(): Uint8Array {
  const bytes = Deno.readFileSync(
    new URL("../golden/compared/htsat_encoder.safetensors", import.meta.url),
  );
  const { tensors, metadata } = withFrontend(openCheckpoint(bytesAccess(bytes)), OFFICIAL);
  const entries = [...tensors].map(([name, it]) => {
    const data = valuesOf(wholeBytes(it), it.dtype) as Float32Array;
    return [name, { dtype: "F32", shape: it.shape, data }] as const;
  });
  return writeSafetensors(entries, metadata);
}
