/**
 * The encoder that fine-tuning starts from.
 *
 * @module
 */
import type { Device } from "../../../engine/mod.ts";
import type { ParameterSpec } from "../../../model/vit/parameter_arena.ts";
import type { EncoderGeometry } from "../../../model/encoder/embed.ts";
import { encoderFileSpecs } from "../../../model/encoder/encoder.ts";
import { type FrontendSettings, MATPAC_STATISTICS } from "../../../model/frontend/log_mel.ts";
import { ownEncoderFrom } from "../encoder_file.ts";

/** An encoder's sizes and values on the host. */
export interface InitialEncoder {
  /** Sizes. */
  readonly geometry: EncoderGeometry;
  /** How its spectrograms are made. */
  readonly frontend: Required<FrontendSettings>;
  /** Parameters and positions by official name (model/README.md, Checkpoints). */
  readonly values: ReadonlyMap<string, Float32Array>;
  /** What a file of it says beside them. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Parameters of an encoder in the order of the official state dict. The table of positions is never
 * trained.
 */
export function initialEncoderSpecs(
  geometry: EncoderGeometry,
  frozenPatchEmbed: boolean,
): ParameterSpec[] {
  return encoderFileSpecs(geometry).map((spec) => {
    const frozen = spec.name === "pos_embed" ||
      (frozenPatchEmbed && spec.name.startsWith("patch_embed."));
    return frozen ? { ...spec, frozen } : spec;
  });
}

/**
 * Reads an encoder.
 *
 * @param heads attention heads, where the file does not say them
 * @throws {UsageError} if it cannot be read or holds none.
 */
export async function readInitialEncoder(
  device: Device,
  path: string,
  heads: number | undefined,
): Promise<InitialEncoder> {
  using encoder = await ownEncoderFrom(device, path, heads, "--finetune");
  const { geometry, network, frontend } = encoder;
  const { framing = "inside", statistics = MATPAC_STATISTICS } = frontend;
  const names = initialEncoderSpecs(geometry, false).map(({ name }) => name);
  const values = await device.read(names.map((name) => network.parameter(name)));
  return {
    geometry,
    frontend: { framing, statistics },
    values: new Map(names.map((name, i) => [name, values[i] as Float32Array])),
    metadata: {
      framing,
      standardisation: JSON.stringify(statistics),
      geometry: JSON.stringify({ heads: geometry.heads }),
    },
  };
}
