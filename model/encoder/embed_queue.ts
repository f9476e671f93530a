/**
 * Embeddings of many clips of any length: clips are cut into chunks, and chunks of one length go
 * through the encoder together, whichever clips they are from (model/README.md, Embeddings).
 *
 * @module
 */
import { mul, type PendingRead, precompile, scope, type Tensor } from "../../engine/functions.ts";
import { type Audio, chunksOf, type Sound } from "./chunks.ts";
import {
  type Bands,
  blocksRead,
  encodeChunks,
  type EncoderNetwork,
  gridOf,
  type Readout,
} from "./embed.ts";
import { type ClipPool, embeddingSize, READ, refuseBlocks, sideBySide } from "./pooling.ts";
import { type FrontendSettings, LogMel, MATPAC_STATISTICS } from "../frontend/log_mel.ts";
import { FRAME_SAMPLES, HOP_SAMPLES } from "../frontend/tables.ts";

/** A clip on its way to its embedding. */
export interface Clip<Key> {
  /** Comes back with the embedding. */
  readonly key: Key;
  /** All of it, or blocks of a waveform that is long. */
  readonly audio: Audio | AsyncIterable<Float32Array>;
  /**
   * Told when the audio cannot be read or holds nothing; the clip is left out then. Without it the
   * error is passed on.
   */
  readonly failed?: (error: unknown) => void;
}

/** How clips are embedded. */
export interface EmbedOptions {
  /**
   * `precise` (default): the last chunk is as short as the clip, up to whole patches. `fast`: all
   * chunks have full length, and what is missing at the end is dataset mean that takes part in
   * everything, the mean over time included. `msm-mae` is that program's: full length too, but
   * steps that hold no frame of the clip are left out of the result.
   */
  readonly mode?: "precise" | "fast" | "msm-mae";
  /**
   * Mean over time (default), maximum over time, mean and behind it the standard deviation over
   * time (of all steps, not of a sample: 0 for one step), or every time step.
   */
  readonly pool?: ClipPool | "none";
  /** Frequency bands of a step side by side, the low one first (default), or averaged. */
  readonly bands?: Bands;
  /**
   * Blocks, counted from 1, 0 for what enters the first, whose outputs are put side by side, each
   * pooled by itself; default the last one. Only the last one has been through the final norm.
   */
  readonly blocks?: readonly number[];
  /** Whether all layers are given beside the embedding. */
  readonly layers?: boolean;
  /**
   * Time steps of `fast` in the order of the official code, which takes turns between chunks;
   * default false.
   */
  readonly compat?: boolean;
  /**
   * Most chunks of full length that are encoded together; shorter ones in proportion. Default 32.
   */
  readonly batch?: number;
}

/** What the encoder makes of a clip. */
export interface Embedding {
  /**
   * The last layer after the final norm, or the blocks that were asked for side by side: [values of
   * a step], twice as many for mean and deviation, or [steps, values of a step] without pooling.
   */
  readonly values: Float32Array;
  /** Shape of {@link values}. */
  readonly shape: readonly number[];
  /** Time steps, as many as were pooled. */
  readonly steps: number;
  /** Without pooling: [steps] where each step starts, ms. */
  readonly times?: Float32Array;
  /**
   * Where asked: [depth, ...shape of one block], the outputs of all blocks, only the last one after
   * the final norm.
   */
  readonly layers?: Float32Array;
}

/** Chunks of full length that are encoded together unless told otherwise. */
export const BATCH = 32;
/** Batches under way: while the device works on one, the next one is put together. */
const UNDER_WAY = 2;
/** Batches' worth of audio that may wait for more of its length. */
const WAITING_BATCHES = 4;
/** Bytes of idle buffers above which they are freed when the length of chunks changes. */
const IDLE_BYTES = 2 ** 29;

/** Part of a clip. */
interface Chunk extends Sound {
  readonly clip: OpenClip<unknown>;
  /** Which part. */
  readonly index: number;
}

/** Chunks that can be encoded together. */
interface Group {
  readonly kind: Sound["kind"];
  /** Patches along time. */
  readonly steps: number;
  /** How many of them, from the first, are in the result. */
  readonly kept: number;
  readonly chunks: Chunk[];
}

function keyOf({ kind, steps, kept }: Omit<Group, "chunks">): string {
  return `${kind} ${steps} ${kept}`;
}

/** Chunks on their way to embeddings of one kind. */
export let queueOf: (embedder: Embedder, options: EmbedOptions) => Queue;

/** Turns clips into embeddings. It holds no state between calls but the front end's tables. */
export class Embedder implements Disposable {
  readonly #frontend: LogMel;
  readonly #own: boolean;

  static {
    queueOf = (embedder, options) => new Queue(embedder.network, embedder.#frontend, options);
  }

  /**
   * Makes tables of the front end.
   *
   * @param frontend a front end with framing as MATPAC's, which the caller keeps; default one of
   * its own
   */
  constructor(
    readonly network: EncoderNetwork,
    readonly settings: FrontendSettings = {},
    frontend?: LogMel,
  ) {
    const { framing = "inside", statistics = MATPAC_STATISTICS } = settings;
    this.#own = frontend === undefined;
    // Mirrored ends are added to the waveform, as chunks begin anywhere.
    this.#frontend = frontend ?? new LogMel(network.device, {
      statistics,
      order: framing === "centred" ? "nnaudio" : "torchaudio",
    });
  }

  /**
   * Embeds clips; only those under way are held, with at most four batches of audio that waits.
   * Clips come out when they are complete, in an order that depends on their lengths and on nothing
   * else. What they are together with changes no bit of an embedding.
   *
   * @throws {ShapeError} for a log-mel that has not the encoder's bands.
   */
  async *embed<Key>(
    clips: Iterable<Clip<Key>> | AsyncIterable<Clip<Key>>,
    options: EmbedOptions = {},
  ): AsyncGenerator<readonly [Key, Embedding]> {
    const { geometry } = this.network;
    const queue = queueOf(this, options);
    for await (const { key, audio, failed } of clips) {
      const clip = new OpenClip(key, this.network, options);
      const chunks = chunksOf(audio, geometry, this.settings);
      for (;;) {
        let next: IteratorResult<Sound, void>;
        try {
          next = await chunks.next();
        } catch (error) {
          if (!failed) throw error;
          clip.dropped = true;
          failed(error);
          break;
        }
        if (next.done) {
          queue.end(clip);
          break;
        }
        await queue.add(next.value, clip);
      }
      yield* queue.complete() as Iterable<readonly [Key, Embedding]>;
    }
    await queue.finish();
    yield* queue.complete() as Iterable<readonly [Key, Embedding]>;
  }

  /**
   * Compiles what it takes to embed these clips together, and computes nothing.
   *
   * @param compiled told of each kernel, how many of how many of a batch are done
   */
  async precompile(
    clips: readonly Audio[],
    options: EmbedOptions,
    compiled: (done: number, total: number) => void,
  ): Promise<void> {
    const queue = new Queue(this.network, this.#frontend, options, compiled);
    for (const audio of clips) {
      const clip = new OpenClip(undefined, this.network, options);
      for await (const sound of chunksOf(audio, this.network.geometry, this.settings)) {
        await queue.add(sound, clip);
      }
    }
    await queue.finish();
  }

  /** Frees the front end's tables, if they are its own. */
  [Symbol.dispose](): void {
    if (this.#own) this.#frontend[Symbol.dispose]();
  }
}

/** Chunks that wait, batches under way and clips that are complete. */
export class Queue {
  readonly #network: EncoderNetwork;
  readonly #frontend: LogMel;
  readonly #readout: Readout;
  readonly #mode: NonNullable<EmbedOptions["mode"]>;
  /** Time steps of a batch. */
  readonly #batchSteps: number;
  readonly #groups = new Map<string, Group>();
  #waitingSteps = 0;
  #underWay: {
    readonly chunks: readonly Chunk[];
    readonly kept: number;
    readonly read: PendingRead;
  }[] = [];
  #complete: OpenClip<unknown>[] = [];
  #lastSteps = 0;

  /** @param compiled makes batches compile their kernels, and do no more; told of each */
  constructor(
    network: EncoderNetwork,
    frontend: LogMel,
    options: EmbedOptions,
    readonly compiled?: (done: number, total: number) => void,
  ) {
    const { mode = "precise", pool = "mean", bands = "concat", layers = false } = options;
    const { batch = BATCH, blocks } = options;
    refuseBlocks(network.geometry, blocks);
    this.#network = network;
    this.#frontend = frontend;
    this.#readout = { pool: READ[pool], bands, layers, blocks };
    this.#mode = mode;
    this.#batchSteps = batch * gridOf(network.geometry).columns;
  }

  /** Time steps of chunks that wait for more of their length. */
  get waiting(): number {
    return this.#waitingSteps;
  }

  /** Takes a chunk; runs a batch when there are enough. */
  async add(sound: Sound, clip: OpenClip<unknown>): Promise<void> {
    const { geometry } = this.#network;
    const { columns } = gridOf(geometry);
    const { kind, frames } = sound;
    const filled = Math.ceil(frames / geometry.patch[1]);
    const steps = this.#mode === "precise" ? filled : columns;
    const kept = this.#mode === "fast" ? columns : filled;
    const chunk = { ...sound, clip, index: clip.chunks };
    clip.chunks++;
    clip.steps += kept;
    const key = keyOf({ kind, steps, kept });
    const group = this.#groups.get(key) ?? { kind, steps, kept, chunks: [] };
    this.#groups.set(key, group);
    group.chunks.push(chunk);
    this.#waitingSteps += steps;
    if ((group.chunks.length + 1) * steps > this.#batchSteps) await this.#run(group);
    else if (this.#waitingSteps > WAITING_BATCHES * this.#batchSteps) {
      const size = ({ steps, chunks }: Group) => steps * chunks.length;
      await this.#run([...this.#groups.values()].reduce((a, b) => size(b) > size(a) ? b : a));
    }
  }

  /** No more chunks of a clip come. */
  end(clip: OpenClip<unknown>): void {
    clip.ended = true;
    if (clip.isComplete) this.#complete.push(clip);
  }

  /** Encodes all that waits. */
  async finish(): Promise<void> {
    for (const group of [...this.#groups.values()].sort((a, b) => b.steps - a.steps)) {
      await this.#run(group);
    }
    while (this.#underWay.length > 0) await this.#collect();
  }

  /** Clips that were completed since the last call. */
  *complete(): Generator<readonly [unknown, Embedding]> {
    const clips = this.#complete;
    this.#complete = [];
    for (const clip of clips) yield [clip.key, clip.embedding()];
  }

  async #run(group: Group): Promise<void> {
    this.#groups.delete(keyOf(group));
    this.#waitingSteps -= group.steps * group.chunks.length;
    const chunks = group.chunks.filter(({ clip }) => !clip.dropped);
    if (chunks.length === 0) return;
    while (this.#underWay.length >= UNDER_WAY) await this.#collect();
    const { device } = this.#network;
    // Buffers and textures are kept by size, and each length of chunks has its own.
    const { pooledBytes, textureBytes } = device.memory;
    if (group.steps !== this.#lastSteps && pooledBytes + textureBytes > IDLE_BYTES) device.trim();
    this.#lastSteps = group.steps;
    const readout = { ...this.#readout, steps: group.kept };
    const encode = () => encodeChunks(this.#network, this.#input({ ...group, chunks }), readout);
    if (this.compiled) return await precompile(device, encode, { onProgress: this.compiled });
    const outputs = scope(encode);
    const read = device.readLater(outputs);
    for (const output of outputs) output.dispose();
    this.#underWay.push({ chunks, kept: group.kept, read });
  }

  /** [chunks, bands, steps * patch], standardised, zeros behind the frames of a chunk. */
  #input({ kind, steps, chunks }: Group): Tensor {
    const { device, geometry: { melBands, patch } } = this.#network;
    const frames = steps * patch[1];
    if (kind === "logmel") {
      const host = new Float32Array(chunks.length * melBands * frames);
      chunks.forEach(({ values, frames: own }, i) => {
        for (let band = 0; band < melBands; band++) {
          const row = values.subarray(band * own, (band + 1) * own);
          host.set(row, (i * melBands + band) * frames);
        }
      });
      return device.tensor(host, [chunks.length, melBands, frames]);
    }
    const samples = (frames - 1) * HOP_SAMPLES + FRAME_SAMPLES;
    const host = new Float32Array(chunks.length * samples);
    chunks.forEach(({ values }, i) => host.set(values.subarray(0, samples), i * samples));
    const logmel = this.#frontend.apply(device.tensor(host, [chunks.length, samples]));
    if (chunks.every((chunk) => chunk.frames >= frames)) return logmel;
    const sound = new Float32Array(chunks.length * frames);
    chunks.forEach((chunk, i) => sound.fill(1, i * frames, i * frames + chunk.frames));
    return mul(logmel, device.tensor(sound, [chunks.length, 1, frames]));
  }

  async #collect(): Promise<void> {
    const { chunks, kept, read } = this.#underWay.shift()!;
    const outputs = await read.values() as Float32Array[];
    chunks.forEach(({ clip, index }, i) => {
      clip.take(
        index,
        outputs.map((values) => {
          const size = values.length / chunks.length;
          return values.subarray(i * size, (i + 1) * size);
        }),
        kept,
      );
      if (clip.isComplete) this.#complete.push(clip);
    });
  }
}

/** A clip whose chunks come back one by one. */
export class OpenClip<Key> {
  /** Chunks so far. */
  chunks = 0;
  /** Their time steps. */
  steps = 0;
  /** Whether that is all. */
  ended = false;
  /** Whether its audio failed: results are dropped. */
  dropped = false;
  #taken = 0;
  /** Chunks whose values are pooled, and those that came back before one in front of them. */
  #added = 0;
  #addedSteps = 0;
  readonly #early = new Map<number, { layers: Float32Array[]; steps: number }>();
  /** Per layer, of pooled steps. */
  #pooled: Float64Array[] = [];
  /** Per layer and chunk. */
  #parts: Float32Array[][] = [];

  constructor(
    readonly key: Key,
    readonly network: EncoderNetwork,
    readonly options: EmbedOptions,
    /** Told of every chunk that comes back. */
    readonly onChunk: () => void = () => {},
  ) {}

  /** Whether all of it came back. */
  get isComplete(): boolean {
    return this.ended && !this.dropped && this.#taken === this.chunks;
  }

  /**
   * @param layers outputs of one chunk
   * @param steps its time steps
   */
  take(index: number, layers: readonly Float32Array[], steps: number): void {
    if (this.dropped) return;
    this.#taken++;
    this.onChunk();
    if (this.options.pool === "none") {
      // They are views of the whole batch's.
      layers.forEach((values, layer) => (this.#parts[layer] ??= [])[index] = values.slice());
      return;
    }
    // In the order of the chunks, so that a mean's bits do not tell when they came back.
    this.#early.set(index, { layers: layers.map((values) => values.slice()), steps });
    for (let next; (next = this.#early.get(this.#added)); this.#added++) {
      this.#early.delete(this.#added);
      const { layers, steps } = next;
      layers.forEach((values, layer) => this.#add(values, steps, layer));
      this.#addedSteps += steps;
    }
  }

  #add(values: Float32Array, steps: number, layer: number): void {
    const held = this.#pooled[layer];
    if (!held) {
      this.#pooled[layer] = Float64Array.from(values);
      return;
    }
    const { pool } = this.options;
    if (pool === "max") return values.forEach((x, i) => held[i] = Math.max(held[i], x));
    if (pool === "mean-std") {
      // Squares about two means become those about the common one (Chan, Golub, LeVeque 1979).
      const before = this.#addedSteps;
      const share = before * steps / (before + steps);
      const half = values.length / 2;
      for (let i = 0; i < half; i++) {
        held[half + i] += share * (values[i] / steps - held[i] / before) ** 2;
      }
    }
    values.forEach((x, i) => held[i] += x);
  }

  /** What all chunks come to. */
  embedding(): Embedding {
    const { pool = "mean", bands = "concat", layers: allLayers = false } = this.options;
    const { geometry } = this.network;
    const { depth } = geometry;
    const size = embeddingSize(geometry, { pool, bands });
    const order = this.#order();
    const rows = pool === "none" ? this.steps : 1;
    const length = rows * size;
    const read = blocksRead(depth, { layers: allLayers, blocks: this.options.blocks });
    const all = new Float32Array(read.length * length);
    for (const layer of read.keys()) {
      const into = all.subarray(layer * length, (layer + 1) * length);
      if (pool === "none") {
        const steps = this.#parts[layer].flatMap((part) =>
          Array.from(
            { length: part.length / size },
            (_, i) => part.subarray(i * size, (i + 1) * size),
          )
        );
        order.forEach((step, i) => into.set(steps[step], i * size));
      } else {
        const count = pool === "max" ? 1 : this.steps;
        this.#pooled[layer].forEach((x, i) => into[i] = x / count);
        if (pool === "mean-std") {
          for (let i = size / 2; i < size; i++) into[i] = Math.sqrt(into[i]);
        }
      }
    }
    const ms = HOP_SAMPLES / 16 * geometry.patch[1];
    const { blocks = [depth] } = this.options;
    const values = blocks.length === 1
      ? all.subarray(read.indexOf(blocks[0]) * length).subarray(0, length)
      : sideBySide(blocks.map((it) => all.subarray(read.indexOf(it) * length)), rows, size);
    const width = blocks.length * size;
    return {
      values,
      shape: pool === "none" ? [rows, width] : [width],
      steps: this.steps,
      ...(pool === "none" && { times: Float32Array.from(order, (step) => step * ms) }),
      ...(allLayers && { layers: all }),
    };
  }

  /** Which step of the clip comes when. */
  #order(): readonly number[] {
    const { mode, compat = false } = this.options;
    const { columns } = gridOf(this.network.geometry);
    return Array.from(
      { length: this.steps },
      (_, i) =>
        compat && mode === "fast" ? i % this.chunks * columns + Math.floor(i / this.chunks) : i,
    );
  }
}
