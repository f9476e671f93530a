/**
 * One way to embed clips with any encoder, this project's or another system's: what there is to
 * choose has the same names for all.
 *
 * @module
 */
import { type Device, ShapeError } from "../../engine/functions.ts";
import { type Audio, joined, wholeOf } from "../../model/encoder/chunks.ts";
import { BATCH, type Clip } from "../../model/encoder/embed_queue.ts";
import type { Embedding, EmbedOptions } from "../../model/encoder/embed_queue.ts";
import { Encoder, loadEncoder } from "../../model/encoder/encoder.ts";
import type { CheckpointFile } from "../../model/formats/checkpoint_file.ts";
import { FRAME_SAMPLES } from "../../model/frontend/tables.ts";
import type { PretrainedEncoder } from "../../model/pretrained/encoder.ts";
import type { PretrainedEmbedOptions } from "../../model/pretrained/info.ts";
import { loadPretrained, pretrainedSystem } from "../../model/pretrained/load.ts";
import type { PretrainedOptions } from "../../model/pretrained/options.ts";
import { type ClipPool, type ClipReadout, withReadout } from "../../model/encoder/pooling.ts";
import { UsageError } from "../errors.ts";

/** How clips are embedded; what is not given is as the encoder has it by default. */
export interface Choices
  extends EmbedOptions, Omit<PretrainedEmbedOptions, keyof EmbedOptions | "sampleRate"> {
  /**
   * Seconds of pieces that clips are cut into, each embedded by itself and counted by its length;
   * default none, chunks are as the encoder has them. A rest that is too short for a time step
   * joins the piece before it.
   */
  readonly split?: number;
}

/** What is left to choose where an embedding is one vector. */
export type ClipChoices = Omit<Choices, "pool" | "layers" | "compat" | "batch"> & {
  readonly pool?: ClipPool;
};

/**
 * Loads an encoder of any kind.
 *
 * @throws {EncoderError} if the file holds none, or not all of one.
 */
export async function loadClipEncoder(
  device: Device,
  file: CheckpointFile,
  { trainable = false, ...options }: PretrainedOptions = {},
): Promise<ClipEncoder> {
  return new ClipEncoder(
    pretrainedSystem(file.tensors)
      ? await loadPretrained(device, file, { ...options, trainable })
      : await loadEncoder(device, file, options),
  );
}

/** An encoder of either kind. */
export class ClipEncoder implements Disposable {
  /** Takes an encoder, which it owns from now on. */
  constructor(readonly encoder: Encoder | PretrainedEncoder) {}

  /** This project's encoder. @throws {UsageError} that says what is only for these, otherwise */
  own(what: string): Encoder {
    if (this.encoder instanceof Encoder) return this.encoder;
    throw new UsageError(
      `${what}: is for encoders of MATPAC, MATPAC++, M2D and MSM-MAE, not for ${this.title}`,
    );
  }

  /** What people call it. */
  get title(): string {
    return this.encoder instanceof Encoder ? "this encoder" : this.encoder.info.title;
  }

  /** Samples per second of the audio it takes. */
  get sampleRate(): number {
    return this.encoder.sampleRate;
  }

  /** Least samples that give a time step. */
  get least(): number {
    return this.encoder instanceof Encoder ? FRAME_SAMPLES : this.encoder.info.minSamples;
  }

  /** Blocks. */
  get depth(): number {
    return this.encoder.depth;
  }

  /** What it makes of clips by default. */
  get readout(): ClipReadout {
    return this.encoder instanceof Encoder ? this.encoder.readout : { pool: "mean" };
  }

  /** Attention heads. */
  get heads(): number {
    const { encoder } = this;
    return encoder instanceof Encoder ? encoder.geometry.heads : encoder.info.heads;
  }

  /**
   * Refuses what the encoder has no choice of.
   *
   * @throws {UsageError} that names it.
   */
  needChoices(choices: Choices): void {
    const { encoder } = this;
    const { mode, compat, blocks, official, vector, split, pool } = choices;
    if (split !== undefined && (pool ?? this.readout.pool) === "mean-std") {
      throw new UsageError(
        "--split: deviations of pieces are not that of a clip; --pool mean or max",
      );
    }
    if (!(encoder instanceof Encoder)) {
      const own = mode !== undefined ? "--mode" : compat ? "--compat" : undefined;
      if (own !== undefined) throw new UsageError(`${own}: is not for ${this.title}`);
      try {
        encoder.needChoices(choices);
      } catch (error) {
        if (error instanceof ShapeError) throw new UsageError(error.message);
        throw error;
      }
      return;
    }
    const other = [["official", official], ["vector", vector]]
      .find(([, it]) => it !== undefined && it !== false);
    if (other) throw new UsageError(`--${other[0]}: is for encoders of other systems`);
    if (blocks?.some((it) => it > encoder.depth)) {
      throw new UsageError(`--blocks ${blocks}: the encoder has ${encoder.depth} blocks`);
    }
  }

  /** Choices of clips' vectors with what this encoder does by default. */
  resolved(choices: ClipChoices): ClipChoices & { readonly pool: ClipPool } {
    const given: ClipChoices = Object.fromEntries(
      Object.entries(choices).filter(([, it]) => it !== undefined),
    );
    return {
      ...this.encoder instanceof Encoder && { mode: "precise" },
      ...this.encoder instanceof Encoder && { bands: "concat" },
      ...withReadout(given, this.readout),
    };
  }

  /** Values of an embedding, or of a time step; of one block where all layers are asked for. */
  embeddingSize(choices: Choices): number {
    const { encoder } = this;
    if (!(encoder instanceof Encoder)) return encoder.embeddingSize(choices);
    const { join, ...rest } = choices;
    const options = withReadout(rest, encoder.readout);
    const size = encoder.embeddingSize(options);
    return join === "mean" ? size / (options.blocks?.length ?? 1) : size;
  }

  /**
   * Makes the kernels that so many clips of full length need, and computes nothing; none of other
   * systems' encoders.
   */
  async precompile(clips: number, choices: Choices): Promise<void> {
    const { encoder } = this;
    if (!(encoder instanceof Encoder)) return;
    const { split: _split, join: _join, batch = BATCH, ...rest } = choices;
    const together = Math.min(clips, batch);
    await encoder.precompile(together, { ...withReadout(rest, encoder.readout), batch });
  }

  /**
   * Embeds clips, in any order.
   *
   * @throws as the encoder's `embedEach`.
   */
  embedEach<Key>(
    clips: Iterable<Clip<Key>> | AsyncIterable<Clip<Key>>,
    choices: Choices,
  ): AsyncGenerator<readonly [Key, Embedding]> {
    const { split, ...rest } = choices;
    return split === undefined ? this.#embedEach(clips, rest) : this.#inPieces(clips, split, rest);
  }

  /** Embeds one clip. @throws as the encoder's `embed` */
  async embed(audio: Audio, choices: Choices): Promise<Embedding> {
    const [[, embedding]] = await Array.fromAsync(this.embedEach([{ key: 0, audio }], choices));
    return embedding;
  }

  #embedEach<Key>(
    clips: Iterable<Clip<Key>> | AsyncIterable<Clip<Key>>,
    choices: Omit<Choices, "split">,
  ): AsyncGenerator<readonly [Key, Embedding]> {
    const { encoder } = this;
    return encoder instanceof Encoder
      ? this.#own(encoder, clips, choices)
      : encoder.embedEach(clips, choices);
  }

  /** Of this project's encoder, blocks averaged where that is asked for. */
  async *#own<Key>(
    encoder: Encoder,
    clips: Iterable<Clip<Key>> | AsyncIterable<Clip<Key>>,
    { join, ...choices }: Omit<Choices, "split">,
  ): AsyncGenerator<readonly [Key, Embedding]> {
    const options = withReadout(choices, encoder.readout);
    const count = options.blocks?.length ?? 1;
    if (join !== "mean" || count === 1) return yield* encoder.embedEach(clips, options);
    const size = encoder.embeddingSize(options) / count;
    for await (const [key, it] of encoder.embedEach(clips, options)) {
      const values = new Float32Array(it.values.length / count);
      // Blocks lie side by side in each row.
      it.values.forEach((x, i) => {
        const row = Math.floor(i / (count * size));
        values[row * size + i % size] += x / count;
      });
      const shape = it.shape.length === 1 ? [values.length] : [it.steps, size];
      yield [key, { ...it, values, shape }];
    }
  }

  async *#inPieces<Key>(
    clips: Iterable<Clip<Key>> | AsyncIterable<Clip<Key>>,
    split: number,
    choices: Omit<Choices, "split">,
  ): AsyncGenerator<readonly [Key, Embedding]> {
    const { sampleRate, least } = this;
    const size = Math.max(1, Math.round(split * sampleRate));
    async function* pieces() {
      for await (const { key, audio, failed } of clips) {
        let wave: Float32Array;
        try {
          wave = await wholeOf(audio);
        } catch (error) {
          if (!failed) throw error;
          failed(error);
          continue;
        }
        const count = Math.max(1, Math.ceil((wave.length - least + 1) / size));
        const clip: CutClip<Key> = { key, lengths: [], found: [], failed: false };
        for (let i = 0; i < count; i++) {
          clip.lengths.push(i === count - 1 ? wave.length - i * size : size);
        }
        for (const [i, length] of clip.lengths.entries()) {
          yield {
            key: { clip, i },
            audio: wave.slice(i * size, i * size + length),
            ...failed && {
              failed: (error: unknown) => {
                if (!clip.failed) failed(error);
                clip.failed = true;
              },
            },
          };
        }
      }
    }
    for await (const [{ clip, i }, embedding] of this.#embedEach(pieces(), choices)) {
      clip.found.push([i, embedding]);
      if (clip.found.length === clip.lengths.length && !clip.failed) {
        yield [clip.key, embeddingOf(clip, choices, split * 1000)];
      }
    }
  }

  /** Frees the encoder. */
  [Symbol.dispose](): void {
    this.encoder[Symbol.dispose]();
  }
}

/** A clip that was cut into pieces. */
interface CutClip<Key> {
  readonly key: Key;
  /** Of the pieces, samples. */
  readonly lengths: number[];
  /** By place. */
  readonly found: [number, Embedding][];
  failed: boolean;
}

/** What the pieces of a clip come to. */
function embeddingOf(
  { lengths, found }: CutClip<unknown>,
  { pool = "mean", official = false }: Omit<Choices, "split">,
  pieceMs: number,
): Embedding {
  const pieces = found.sort(([a], [b]) => a - b).map(([, it]) => it);
  const steps = pieces.reduce((sum, it) => sum + it.steps, 0);
  const weights = lengths.map((it) => official ? 1 : it);
  const whole = weights.reduce((a, b) => a + b, 0);
  const of = (values: (it: Embedding) => Float32Array): Float32Array =>
    pool === "none"
      ? joined(pieces.map(values))
      : values(pieces[0]).map((_, k) =>
        pool === "max"
          ? Math.max(...pieces.map((it) => values(it)[k]))
          : pieces.reduce((sum, it, i) => sum + values(it)[k] * weights[i], 0) / whole
      );
  const values = of((it) => it.values);
  const { layers } = pieces[0];
  return {
    values,
    shape: pool === "none" ? [steps, values.length / steps] : [values.length],
    steps,
    ...pool === "none" && {
      times: joined(pieces.map(({ times }, i) => times!.map((ms) => ms + i * pieceMs))),
    },
    ...layers && { layers: layersOf(pieces, pool, of) },
  };
}

/** Layers of pieces: those of time steps are joined layer by layer. */
function layersOf(
  pieces: readonly Embedding[],
  pool: Choices["pool"],
  of: (values: (it: Embedding) => Float32Array) => Float32Array,
): Float32Array {
  if (pool !== "none") return of((it) => it.layers!);
  const size = pieces[0].values.length / pieces[0].steps;
  const depth = pieces[0].layers!.length / pieces[0].steps / size;
  return joined(
    Array.from(
      { length: depth },
      (_, layer) =>
        joined(
          pieces.map(({ layers, steps }) =>
            layers!.subarray(layer * steps * size, (layer + 1) * steps * size)
          ),
        ),
    ),
  );
}
