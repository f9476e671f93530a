/**
 * Embeddings for many callers at once: what they ask for within a few milliseconds of each other
 * goes through the encoder together, a batch of each in turn (model/README.md, Embeddings).
 *
 * @module
 */
import { ShapeError } from "../../engine/functions.ts";
import { CENTRE_PAD, frameCount, SAMPLE_RATE } from "../frontend/tables.ts";
import { Resampler } from "../frontend/resample.ts";
import { type Audio, chunksOf, type Sound } from "./chunks.ts";
import {
  BATCH,
  type Embedder,
  type Embedding,
  type EmbedOptions,
  OpenClip,
  type Queue,
  queueOf,
} from "./embed_queue.ts";

/** How far a request is. */
export interface EmbedProgress {
  /** Chunks that went through the encoder; one has the length that it was made for. */
  readonly done: number;
  /** All of them. */
  readonly total: number;
}

/** What one caller asks for. */
export interface RequestOptions extends EmbedOptions {
  /** Samples per second of waveforms, resampled as files are; default 16,000. */
  readonly sampleRate?: number;
  /** Most milliseconds to wait for other callers' audio before encoding; default 5. */
  readonly waitMs?: number;
  /** Gives the request up: its promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told after each batch that held some of the request. */
  readonly onProgress?: (progress: EmbedProgress) => void;
}

const WAIT_MS = 5;
/** Samples that are resampled at a time: between them other callers have their turn. */
const BLOCK = 1 << 16;

/** What is wrong with `audio`, for a person; undefined for audio. */
function misfit(audio: unknown): string | undefined {
  if (audio instanceof Float32Array) return undefined;
  if (typeof audio === "string" || audio instanceof URL) {
    return `a path (${String(audio).slice(0, 80)}); loadWaveform of ./train reads audio files`;
  }
  if (Array.isArray(audio)) return "an array of numbers; Float32Array.from makes a waveform of it";
  if (audio instanceof ArrayBuffer || audio instanceof Uint8Array || audio instanceof Blob) {
    return "bytes; decodeAudio of ./train makes waveforms of a file's";
  }
  if (audio instanceof Int16Array) {
    return "an Int16Array; Float32Array.from(it, (x) => x / 32768) makes a waveform of it";
  }
  if (ArrayBuffer.isView(audio)) return `a ${audio.constructor.name}`;
  if (typeof audio !== "object" || audio === null) return String(audio);
  const { logMel } = audio as { logMel?: unknown };
  return logMel instanceof Float32Array ? undefined : "an object without logMel: Float32Array";
}

/**
 * Refuses what is no audio.
 *
 * @param index which of several
 * @throws {ShapeError} that says what was given and what is taken.
 */
export function needAudio(audio: unknown, index?: number): asserts audio is Audio {
  const what = misfit(audio);
  if (what === undefined) return;
  const which = index === undefined ? "audio" : `clip ${index}`;
  throw new ShapeError(
    `embed: ${which} is ${what}; a mono waveform (Float32Array, samples in [-1, 1]) or ` +
      "{ logMel: Float32Array of [bands, frames] } is needed",
  );
}

/** The audio as the encoder takes it. */
function atOurRate(audio: Audio, rate: number): Audio | AsyncIterable<Float32Array> {
  if (rate === SAMPLE_RATE || !(audio instanceof Float32Array)) return audio;
  return resampled(audio, new Resampler(rate, SAMPLE_RATE));
}

async function* resampled(
  waveform: Float32Array,
  resampler: Resampler,
): AsyncGenerator<Float32Array> {
  for (let at = 0; at < waveform.length; at += BLOCK) {
    yield resampler.push(waveform.subarray(at, at + BLOCK));
  }
  yield resampler.finish();
}

/** Embeds for callers who do not know of each other and ask for the same kind of embedding. */
export class EmbedService {
  #queue: Queue;
  /** Those who wait. */
  readonly #requests = new Set<Request>();
  /** Whose audio is still being cut. */
  readonly #cutting = new Set<Request>();
  #running = false;
  /** When chunks that wait have waited long enough. */
  #due = Infinity;
  #wake = () => {};

  /** @param options those of the queue: each kind of embedding has a service of its own */
  constructor(
    readonly embedder: Embedder,
    readonly options: EmbedOptions,
  ) {
    this.#queue = queueOf(embedder, options);
  }

  /** Embeddings of the clips, in their order. */
  embed(clips: readonly Audio[], options: RequestOptions): Promise<Embedding[]> {
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (clips.length === 0) return resolve([]);
      const request = new Request(this.embedder, this.options, clips, options, (result) => {
        signal?.removeEventListener("abort", abort);
        this.#requests.delete(request);
        this.#cutting.delete(request);
        if (Array.isArray(result)) resolve(result);
        else reject(result.error);
      });
      const abort = () => request.fail(signal!.reason);
      signal?.addEventListener("abort", abort);
      this.#requests.add(request);
      this.#cutting.add(request);
      this.#wake();
      if (!this.#running) this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      while (this.#requests.size > 0) {
        for (const request of [...this.#cutting]) await this.#cut(request);
        this.#deliver();
        if (this.#queue.waiting === 0) this.#due = Infinity;
        if (performance.now() < this.#due) {
          if (this.#cutting.size > 0) continue;
          if (this.#queue.waiting > 0) {
            await this.#newcomer();
            if (this.#cutting.size > 0) continue;
          }
        }
        await this.#queue.finish();
        this.#deliver();
      }
    } catch (error) {
      // The device failed: nothing that is under way comes back.
      this.#queue = queueOf(this.embedder, this.options);
      for (const request of [...this.#requests]) request.fail(error);
    } finally {
      this.#running = false;
    }
  }

  /** Takes as many chunks of a request as a batch holds: its own should not be torn apart. */
  async #cut(request: Request): Promise<void> {
    for (let chunks = 0; chunks < (this.options.batch ?? BATCH);) {
      let next;
      try {
        next = await request.next();
      } catch (error) {
        request.fail(error);
        return;
      }
      if (request.failed) return;
      if (next === undefined) {
        this.#cutting.delete(request);
        return;
      }
      const { clip, sound } = next;
      if (sound === undefined) this.#queue.end(clip);
      else {
        this.#due = Math.min(this.#due, performance.now() + request.waitMs);
        await this.#queue.add(sound, clip);
        chunks++;
      }
    }
  }

  /** Until somebody comes or chunks have waited long enough. */
  async #newcomer(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((done) => {
      this.#wake = done;
      timer = setTimeout(done, Math.max(0, this.#due - performance.now()));
    });
    clearTimeout(timer);
  }

  #deliver(): void {
    for (const [key, embedding] of this.#queue.complete()) {
      const { request, index } = key as ClipKey;
      request.take(index, embedding);
    }
  }
}

/** Whose clip it is, and which. */
interface ClipKey {
  readonly request: Request;
  readonly index: number;
}

/** One caller's clips on their way. */
class Request {
  readonly waitMs: number;
  failed = false;
  readonly #clips: {
    readonly clip: OpenClip<ClipKey>;
    readonly chunks: AsyncGenerator<Sound, void>;
  }[];
  readonly #embeddings: Embedding[];
  readonly #total: number;
  #missing: number;
  #at = 0;
  #done = 0;

  /** @param settle called once, with the embeddings or with what went wrong */
  constructor(
    { network, settings }: Embedder,
    kind: EmbedOptions,
    clips: readonly Audio[],
    { sampleRate = SAMPLE_RATE, waitMs = WAIT_MS, onProgress }: RequestOptions,
    readonly settle: (result: Embedding[] | { readonly error: unknown }) => void,
  ) {
    this.waitMs = waitMs;
    this.#missing = clips.length;
    this.#embeddings = new Array(clips.length);
    const { geometry: { cropFrames, melBands } } = network;
    const frames = (audio: Audio) =>
      audio instanceof Float32Array
        ? frameCount(
          Math.ceil(audio.length * SAMPLE_RATE / sampleRate) +
            (settings.framing === "centred" ? 2 * CENTRE_PAD : 0),
          false,
        )
        : audio.logMel.length / melBands;
    this.#total = clips.reduce(
      (sum, audio) => sum + Math.max(1, Math.ceil(frames(audio) / cropFrames)),
      0,
    );
    const taken = () => {
      try {
        onProgress?.({ done: ++this.#done, total: this.#total });
      } catch (error) {
        // One caller's fault is not the others'.
        this.fail(error);
      }
    };
    this.#clips = clips.map((audio, index) => ({
      clip: new OpenClip({ request: this, index }, network, kind, taken),
      chunks: chunksOf(atOurRate(audio, sampleRate), network.geometry, settings),
    }));
  }

  /** A chunk, or the end of a clip; undefined after the last one's. */
  async next(): Promise<{ clip: OpenClip<ClipKey>; sound: Sound | undefined } | undefined> {
    if (this.#at === this.#clips.length) return undefined;
    const { clip, chunks } = this.#clips[this.#at];
    const { value, done } = await chunks.next();
    if (done) this.#at++;
    return { clip, sound: done ? undefined : value as Sound };
  }

  take(index: number, embedding: Embedding): void {
    if (this.failed) return;
    this.#embeddings[index] = embedding;
    if (--this.#missing === 0) this.settle(this.#embeddings);
  }

  fail(error: unknown): void {
    if (this.failed) return;
    this.failed = true;
    for (const { clip } of this.#clips) clip.dropped = true;
    this.settle({ error });
  }
}
