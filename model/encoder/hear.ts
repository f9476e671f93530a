/**
 * The API of the HEAR benchmark (hearbenchmark.com), in the language's own spelling.
 *
 * ```ts
 * using model = await loadModel("encoder.safetensors");
 * const scenes = await getSceneEmbeddings([waveform], model);
 * const [steps, times] = await getTimestampEmbeddings([waveform], model);
 * ```
 *
 * @module
 */
import { type Device, openDevice, ShapeError, Tensor } from "../../engine/functions.ts";
import type { Embedding } from "./embed_queue.ts";
import { type Encoder, type EncoderOptions, type EncoderSource, loadEncoder } from "./encoder.ts";

/** Values with their shape, row-major. */
export interface Values {
  /** Sizes of the axes. */
  readonly shape: readonly number[];
  /** Values, row-major. */
  readonly data: Float32Array;
}

/** Clips of one length: waveforms at 16 kHz, or a tensor [clips, samples]. */
export type Clips = readonly Float32Array[] | Tensor;

/** An encoder with the attributes that HEAR asks for. */
export interface HearModel extends Disposable {
  /** Samples per second of the audio it takes: 16000. */
  readonly sampleRate: number;
  /** Values of a clip's embedding. */
  readonly sceneEmbeddingSize: number;
  /** Values of a time step. */
  readonly timestampEmbeddingSize: number;
  /** What computes. */
  readonly encoder: Encoder;
}

/**
 * Loads a model.
 *
 * @param device default: one that is opened here and freed with the model
 * @throws as {@link loadEncoder}; {NoAdapterError} where no device is given and none is found.
 */
export async function loadModel(
  source: EncoderSource,
  { device, ...options }: EncoderOptions & { readonly device?: Device } = {},
): Promise<HearModel> {
  const own = device ?? await openDevice();
  const close = () => {
    if (!device) own[Symbol.dispose]();
  };
  try {
    const encoder = await loadEncoder(own, source, options);
    const { sampleRate, sceneEmbeddingSize, timestampEmbeddingSize } = encoder;
    return {
      encoder,
      sampleRate,
      sceneEmbeddingSize,
      timestampEmbeddingSize,
      [Symbol.dispose]: () => {
        encoder[Symbol.dispose]();
        close();
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

/**
 * One embedding for each clip: the mean over its time steps, or what the encoder's file says.
 *
 * @returns [clips, values of an embedding]
 * @throws {ShapeError} if the clips differ in length.
 */
export async function getSceneEmbeddings(audio: Clips, model: HearModel): Promise<Values> {
  const embeddings = await model.encoder.embed(await waveforms(audio));
  return stacked(embeddings, [model.sceneEmbeddingSize], ({ values }) => values);
}

/**
 * Embeddings of all time steps, 160 ms apart.
 *
 * @returns embeddings [clips, steps, values of a step], and [clips, steps] where each step starts,
 * in ms from 0 on
 * @throws {ShapeError} if the clips differ in length.
 */
export async function getTimestampEmbeddings(
  audio: Clips,
  model: HearModel,
): Promise<[embeddings: Values, timestamps: Values]> {
  const embeddings = await model.encoder.embed(await waveforms(audio), { pool: "none" });
  const steps = embeddings[0]?.steps ?? 0;
  return [
    stacked(embeddings, [steps, model.timestampEmbeddingSize], ({ values }) => values),
    stacked(embeddings, [steps], ({ times }) => times!),
  ];
}

async function waveforms(audio: Clips): Promise<readonly Float32Array[]> {
  if (audio instanceof Tensor) {
    const [clips, samples] = audio.shape;
    if (audio.shape.length !== 2) {
      throw new ShapeError(`audio [${audio.shape}] is not [clips, samples]`);
    }
    const data = await audio.data();
    return Array.from({ length: clips }, (_, i) => data.subarray(i * samples, (i + 1) * samples));
  }
  if (audio.some(({ length }) => length !== audio[0].length)) {
    throw new ShapeError("the clips differ in length");
  }
  return audio;
}

function stacked(
  embeddings: readonly Embedding[],
  each: readonly number[],
  pick: (embedding: Embedding) => Float32Array,
): Values {
  const size = each.reduce((a, b) => a * b, 1);
  const data = new Float32Array(embeddings.length * size);
  embeddings.forEach((embedding, i) => data.set(pick(embedding), i * size));
  return { shape: [embeddings.length, ...each], data };
}
