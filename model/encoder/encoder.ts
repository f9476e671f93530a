/**
 * Encoders from files, and what they make of audio (model/README.md, Checkpoints and Embeddings).
 *
 * @module
 */
import type { Device } from "../../engine/functions.ts";
import { ParameterArena, type ParameterSpec } from "../vit/parameter_arena.ts";
import { standardisedTogether } from "./batch_statistics.ts";
import {
  type Bands,
  type EncoderGeometry,
  type EncoderNetwork,
  gridOf,
  stepSize,
} from "./embed.ts";
import type { Audio } from "./chunks.ts";
import { EncoderError, explaining, floatsOf } from "./file_values.ts";
import { openFile } from "./open_file.ts";
import {
  type EmbedProgress,
  EmbedService,
  needAudio,
  type RequestOptions,
} from "./embed_service.ts";
import { type EmbeddedStep, type StreamOptions, streamSteps } from "./embed_stream.ts";
import type { FrontendSettings } from "../frontend/log_mel.ts";
import { type Clip, Embedder, type Embedding, type EmbedOptions } from "./embed_queue.ts";
import {
  CLIP_POOLS,
  type ClipPool,
  type ClipReadout,
  embeddingSize,
  refuseBlocks,
  withReadout,
} from "./pooling.ts";
import { type Imported, imported } from "../formats/checkpoint_convert.ts";
import {
  type CheckpointFile,
  modelOf,
  objectIn,
  openCheckpoint,
} from "../formats/checkpoint_file.ts";
import type { SystemName } from "../formats/checkpoint_names.ts";
import { quoted } from "../../engine/formats/printable.ts";
import { bytesAccess, type RandomAccess } from "../formats/stored_tensor.ts";
import { resample } from "../frontend/resample.ts";
import { FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE } from "../frontend/tables.ts";
import { classTokens } from "../vit/tokens.ts";
import { embeddingSpecs, encoderSpecs } from "../vit/parameter_specs.ts";

export { EncoderError } from "./file_values.ts";

/**
 * Where an encoder comes from: path or bytes of a file, in browsers its address, or a file that was
 * opened.
 */
export type EncoderSource = string | URL | Uint8Array | CheckpointFile;

/** What files do not say, or say wrongly. */
export interface EncoderOptions extends FrontendSettings {
  /**
   * Attention heads: shapes do not tell. Default: what the file says, else one for each 64 of the
   * width.
   */
  readonly heads?: number;
}

/** How clips that are all at hand are embedded. */
export interface TogetherOptions extends RequestOptions {
  /**
   * Standardises with mean and deviation of these clips' own log-mel values instead of the
   * encoder's statistics, as MSM-MAE's runtime does; default false. An embedding then depends on
   * the clips that it is asked for with (model/README.md, Where paper and released code differ, row
   * 26).
   */
  readonly batchStatistics?: boolean;
}

/** How far {@link Encoder.warmUp} is: parts that are done, and kernels. */
export interface WarmUpProgress extends EmbedProgress {
  /** Kernels that the device has compiled so far. */
  readonly kernels: number;
  /** Those of this part that are being compiled. */
  readonly kernelsLeft: number;
}

/** What {@link Encoder.warmUp} prepares for. */
export interface WarmUpOptions extends EmbedOptions {
  /** Lengths of clips, seconds; default that of a chunk. */
  readonly seconds?: readonly number[];
  /** As many clips at once as shall be fast together as well; default 4. */
  readonly together?: number;
  /** Gives up. */
  readonly signal?: AbortSignal;
  /** Told of each kernel and each part. */
  readonly onProgress?: (progress: WarmUpProgress) => void;
}

/**
 * Loads an encoder: a run's encoder.safetensors, one of its checkpoints, or what `import` takes, of
 * all of which only the student's encoder is read. Sizes are those of the tensors. Log-mel values
 * are standardised with the numbers that the file says, else with the paper's.
 *
 * ```ts
 * using encoder = await loadEncoder(device, "encoder.safetensors");
 * const { values } = await encoder.embed(waveform);
 * ```
 *
 * @throws {EncoderError} if there is no usable encoder in it
 * @throws {Deno.errors.NotFound} and the like if a path cannot be read; paths need the permission
 * to read.
 */
export async function loadEncoder(
  device: Device,
  source: EncoderSource,
  options: EncoderOptions = {},
): Promise<Encoder> {
  if (source instanceof Uint8Array) return encoderIn(device, bytesAccess(source), options);
  if (typeof source !== "string" && !(source instanceof URL)) {
    return encoderOf(device, source, options);
  }
  using file = await openFile(source);
  return encoderIn(device, file, options);
}

/** An encoder on a device with its front end. */
export class Encoder implements Disposable {
  /** Samples per second of the audio it takes. */
  readonly sampleRate: number = SAMPLE_RATE;
  /** Values of a clip's embedding: bands side by side. */
  readonly sceneEmbeddingSize: number;
  /** Values of a time step. */
  readonly timestampEmbeddingSize: number;
  readonly #arena: ParameterArena;
  readonly #embedder: Embedder;
  readonly #services = new Map<string, EmbedService>();

  /**
   * Uploads parameters; {@link loadEncoder} finds them.
   *
   * @param values `cls_token` (if there is one), `pos_embed`, `patch_embed.proj.*` and
   * `student_encoder.*`
   * @param readout what {@link embed} and {@link embedEach} make of clips unless options say
   */
  constructor(
    readonly device: Device,
    readonly geometry: EncoderGeometry,
    values: (name: string) => Float32Array,
    readonly frontend: FrontendSettings = {},
    readonly readout: ClipReadout = { pool: "mean" },
  ) {
    const arena = this.#arena = new ParameterArena(device, encoderFileSpecs(geometry), {
      trainable: false,
    });
    try {
      // One after the other, so that a second copy of a large model is never held.
      for (const { name } of arena.specs) arena.load([[name, values(name)]]);
    } catch (error) {
      arena[Symbol.dispose]();
      throw error;
    }
    const parameter = (name: string) => arena.get(name);
    this.#embedder = new Embedder({ device, geometry, parameter }, frontend);
    this.sceneEmbeddingSize = this.embeddingSize();
    this.timestampEmbeddingSize = this.stepSize();
  }

  /** What it computes with. */
  get network(): EncoderNetwork {
    return this.#embedder.network;
  }

  /** Values of a time step, of a clip's embedding and of each layer. */
  stepSize(bands: Bands = "concat"): number {
    return stepSize(this.geometry, bands);
  }

  /** Values of an embedding of such options, or of a time step. */
  embeddingSize(options: EmbedOptions = {}): number {
    return embeddingSize(this.geometry, this.#pooled(options));
  }

  #pooled<Options extends EmbedOptions>(options: Options): Options {
    return withReadout(options, this.readout);
  }

  /** Blocks. */
  get depth(): number {
    return this.geometry.depth;
  }

  /** Milliseconds from one time step to the next. */
  get stepMs(): number {
    return this.geometry.patch[1] * HOP_SAMPLES * 1000 / SAMPLE_RATE;
  }

  /**
   * Embeds a clip, or several, which go through the encoder together, and with those of other
   * callers who ask for the same kind of embedding within `waitMs`. Audio below one frame (25 ms)
   * is taken with silence behind it.
   *
   * @param audio mono waveform in [-1, 1] at `sampleRate`, or a log-mel spectrogram
   * @throws `signal.reason` when the signal is aborted; {@link RangeError} for a `sampleRate` that
   * cannot be resampled.
   * @throws {ShapeError} for audio without samples, or with one that is NaN, infinite or above
   * 1e10; for a log-mel that has not the encoder's bands, or a value that is not finite.
   */
  embed(audio: Audio, options?: TogetherOptions): Promise<Embedding>;
  /** As above; embeddings come in the order of the clips. */
  embed(audio: readonly Audio[], options?: TogetherOptions): Promise<Embedding[]>;
  async embed(
    audio: Audio | readonly Audio[],
    options: TogetherOptions = {},
  ): Promise<Embedding | Embedding[]> {
    // A list of numbers is no list of clips, whatever it was meant to be.
    const several = Array.isArray(audio) && typeof audio[0] !== "number";
    const given = several ? audio as readonly Audio[] : [audio as Audio];
    given.forEach((it, i) => needAudio(it, several ? i : undefined));
    const { batchStatistics, sampleRate = SAMPLE_RATE, ...request } = options;
    if (!batchStatistics) {
      const embeddings = await this.#service(options).embed(given, options);
      return several ? embeddings : embeddings[0];
    }
    const ours = given.map((it) =>
      it instanceof Float32Array ? resample(it, sampleRate, SAMPLE_RATE) : it
    );
    const clips = await standardisedTogether(this.device, ours, this.frontend);
    const embeddings = await this.#service(options).embed(clips, request);
    return several ? embeddings : embeddings[0];
  }

  /** Who embeds so for all callers. */
  #service(options: EmbedOptions): EmbedService {
    const { mode, pool, bands, blocks, layers, compat, batch } = this.#pooled(options);
    const kind = { mode, pool, bands, blocks, layers, compat, batch };
    const key = JSON.stringify(kind);
    let service = this.#services.get(key);
    if (!service) {
      service = new EmbedService(this.#embedder, kind);
      this.#services.set(key, service);
    }
    return service;
  }

  /**
   * Time steps of audio that is still coming in, of a microphone or a connection, each as soon as
   * it is known: a chunk's when it is full, which are the values that {@link embed} gives without
   * pooling (with `framing: "centred"` the ends of every chunk are mirrored rather than those of
   * the whole), or with `hopMs` in that time, from as much of what came before as a chunk holds.
   *
   * @param blocks a mono waveform in pieces of any length
   * @throws as {@link embed}; {@link RangeError} if `hopMs` is not positive.
   */
  embedStream(
    blocks: AsyncIterable<Float32Array> | Iterable<Float32Array>,
    options: StreamOptions = {},
  ): AsyncGenerator<EmbeddedStep> {
    return streamSteps(this, blocks, options);
  }

  /**
   * Makes the kernels that so many clips of full length need together, and computes nothing. Where
   * drivers compile when a kernel first runs, that is still to come.
   */
  async precompile(clips: number, options: EmbedOptions = {}): Promise<void> {
    const samples = (this.geometry.cropFrames - 1) * HOP_SAMPLES + FRAME_SAMPLES;
    const silence = Array.from({ length: clips }, () => new Float32Array(samples));
    await this.#embedder.precompile(silence, options, () => {});
  }

  /**
   * Compiles what clips of these lengths need, alone and together, by embedding silence, so that
   * the first caller does not wait for it.
   */
  async warmUp(
    { seconds, together = 4, signal, onProgress, ...kind }: WarmUpOptions = {},
  ): Promise<void> {
    const samples = seconds?.map((it) => Math.max(1, Math.round(it * SAMPLE_RATE))) ??
      [(this.geometry.cropFrames - 1) * HOP_SAMPLES + FRAME_SAMPLES];
    const parts = samples.flatMap((it) => (together > 1 ? [1, together] : [1]).map((n) => [it, n]));
    for (const [i, [length, clips]] of parts.entries()) {
      const silence = Array.from({ length: clips }, () => new Float32Array(length));
      const tell = (done: number, kernelsLeft: number) => {
        const kernels = this.device.pipelinesCreated - kernelsLeft;
        onProgress?.({ done, total: parts.length, kernels, kernelsLeft });
      };
      await this.#embedder.precompile(silence, this.#pooled(kind), (compiled, of) => {
        signal?.throwIfAborted();
        tell(i, of - compiled);
      });
      await this.embed(silence, { ...kind, signal, waitMs: 0 });
      tell(i + 1, 0);
    }
  }

  /**
   * Embeds any number of clips of any length. They are taken one by one and come out when they are
   * complete, in an order that depends on their lengths alone; at most some batches of audio are
   * held.
   *
   * @throws as {@link embed}, unless a clip's `failed` takes it.
   */
  embedEach<Key>(
    clips: Iterable<Clip<Key>> | AsyncIterable<Clip<Key>>,
    options: EmbedOptions = {},
  ): AsyncGenerator<readonly [Key, Embedding]> {
    return this.#embedder.embed(clips, this.#pooled(options));
  }

  /** Frees parameters and tables. */
  [Symbol.dispose](): void {
    this.#embedder[Symbol.dispose]();
    this.#arena[Symbol.dispose]();
  }
}

/** Parameters of an encoder with its position table, in the order of the official state dict. */
export function encoderFileSpecs(geometry: EncoderGeometry): ParameterSpec[] {
  const { rows, columns } = gridOf(geometry);
  const positions = classTokens(geometry) + rows * columns;
  return [
    ...embeddingSpecs({ ...geometry, positions }),
    ...encoderSpecs("student_encoder.", geometry),
  ];
}

function encoderIn(device: Device, file: RandomAccess, options: EncoderOptions): Encoder {
  return encoderOf(device, explaining(() => openCheckpoint(file)), options);
}

/** An encoder in a file, before its values are read. */
export interface EncoderContent extends Imported {
  /** Its sizes. */
  readonly geometry: EncoderGeometry;
  /** Its front end, as it was asked for or else as the file says it. */
  readonly frontend: FrontendSettings;
  /** What embeddings of clips are unless something else is asked for. */
  readonly readout: ClipReadout;
  /** What it was trained as. */
  readonly system: SystemName;
}

/**
 * Finds the encoder of a file.
 *
 * @throws {EncoderError} if there is none, or it is not whole, or its heads or the statistics of
 * its front end are not known.
 */
export function encoderContent(
  file: CheckpointFile,
  { heads, framing, statistics }: EncoderOptions = {},
): EncoderContent {
  const { tensors, metadata, sizes, system } = explaining(() => {
    const model = modelOf(file, heads === undefined ? {} : { encoder: heads });
    if (!model) {
      throw new EncoderError(
        "its tensors are those of none of MATPAC, MATPAC++, M2D and MSM-MAE; loadPretrained " +
          "reads encoders of other systems",
      );
    }
    const { geometry: sizes, system } = model;
    return { ...imported(file, model, { encoderOnly: true, float32: true }), sizes, system };
  });
  if (sizes.heads === null) {
    throw new EncoderError(
      `nothing in it tells the number of attention heads of width ${sizes.width}; ` +
        "the option heads gives it",
    );
  }
  return {
    tensors,
    metadata,
    geometry: { ...sizes, heads: sizes.heads, cropFrames: sizes.frames },
    frontend: {
      framing: framing ?? (metadata.framing === "centred" ? "centred" : "inside"),
      statistics: statistics ?? statisticsIn(metadata, file.metadata),
    },
    readout: readoutIn(metadata, sizes),
    system,
  };
}

function encoderOf(device: Device, file: CheckpointFile, options: EncoderOptions): Encoder {
  const { tensors, geometry, frontend, readout } = encoderContent(file, options);
  const { rows, columns } = gridOf(geometry);
  const values = (name: string) => {
    const stored = floatsOf(name, tensors.get(name)!);
    // Without a class token its row of the table may still be there, in front.
    const unused = name === "pos_embed" && !geometry.classToken
      ? stored.length - rows * columns * geometry.width
      : 0;
    return stored.subarray(unused);
  };
  return new Encoder(device, geometry, values, frontend, readout);
}

/**
 * How a file says that clips are embedded; where it does not, the mean of the last block, as in the
 * papers.
 */
function readoutIn(
  { pool = "mean", blocks }: Readonly<Record<string, string>>,
  sizes: { readonly depth: number },
): ClipReadout {
  const known: ClipPool | undefined = CLIP_POOLS.find((it) => it === pool);
  if (!known) {
    throw new EncoderError(
      `it says that clips are pooled by ${quoted(pool)}, which is not known here`,
    );
  }
  if (blocks === undefined) return { pool: known };
  const list = blocks.split(",").map((it) => /^\d{1,4}$/.test(it) ? Number(it) : NaN);
  try {
    refuseBlocks(sizes, list);
  } catch {
    throw new EncoderError(
      `it says that clips are embedded by its blocks ${quoted(blocks)}; it has ${sizes.depth}`,
    );
  }
  return { pool: known, blocks: list };
}

function statisticsIn(
  said: Readonly<Record<string, string>>,
  own: Readonly<Record<string, string>>,
): FrontendSettings["statistics"] {
  if (own.standardisation === undefined && objectIn(own, "config").standardise === "store") {
    throw new EncoderError(
      "it was trained with --standardise store and does not say with which numbers; " +
        "the run's encoder.safetensors does",
    );
  }
  if (said.standardisation === undefined) return undefined;
  const { mean, std } = objectIn(said, "standardisation");
  if (typeof mean === "number" && typeof std === "number" && std > 0) return { mean, std };
  throw new EncoderError(`its standardisation ${quoted(said.standardisation)} is no mean and std`);
}
