/**
 * Answers of the studio that need a model or a folder of sounds.
 *
 * @module
 */
import { bytesOf } from "../../engine/formats/safetensors.ts";
import { resample } from "../../model/frontend/resample.ts";
import { decodeAudio, toMono } from "../audio/decode.ts";
import { AUDIO_EXTENSIONS } from "../io/folders.ts";
import { readRegular } from "../io/regular_file.ts";
import { loadProbe } from "../downstream/probe/probe_file.ts";
import { fileDigest } from "../downstream/probe/feature_cache.ts";
import type { Probe } from "../downstream/probe/probe_layer.ts";
import type { Sound } from "../visualize/sounds.ts";
import type { BatchAnswer, PaintedAnswer, ProbeAnswer, SoundAnswer } from "./api.ts";
import { batchOf } from "./batch.ts";
import { Collection } from "./collection.ts";
import { answer, bodyOf, json, RequestError } from "./guard.ts";
import { attentionOf, listenTo, MOST_SECONDS, paintedOf, type Seen } from "./listening.ts";
import { engineModule } from "./engine_module.ts";
import type { Library } from "./library.ts";
import type { SoundAnswers } from "./server.ts";
import { address, MODEL_HEADS, MODEL_KEY } from "./page/client.ts";
import { base64Of } from "./pictures.ts";
import { Workbench, type WorkbenchOptions } from "./workbench.ts";

/** What was named on the command line. */
export interface SoundsOptions extends WorkbenchOptions {
  readonly collection?: string;
  readonly probe?: string;
  /** Most clips of the collection. */
  readonly clips: number;
}

/** Bytes of a sound that is sent, and of an embedding. */
const [MOST_BYTES, MOST_EMBEDDING] = [100 << 20, 1 << 20];
/** Batches of a run that can be asked for: the masks of all before are drawn. */
const MOST_BATCHES = 10_000;
/** Sounds that are kept, the newest. */
const MOST_KEPT = 8;

const TYPES: Readonly<Record<string, string>> = {
  ".wav": "audio/wav",
  ".flac": "audio/flac",
  ".ogg": "audio/ogg",
  ".oga": "audio/ogg",
  ".opus": "audio/ogg",
  ".mp3": "audio/mpeg",
};

/** A sound that was looked at. */
interface Heard extends Seen {
  readonly id: string;
  /** By which its model was asked for. */
  readonly model: string;
  /** Of the model as it was then. */
  readonly key: string;
  /** How what was painted last sounds. */
  sounds?: readonly Sound[];
}

/** Answers about sounds. Ends when it is disposed. */
export class Sounds implements SoundAnswers, Disposable {
  readonly #options: SoundsOptions;
  readonly #workbench: Workbench;
  readonly #collection: Collection | undefined;
  readonly #probe: Probe | undefined;
  readonly #heard = new Map<string, Heard>();
  readonly posts: ReadonlySet<string> = new Set(["api/listen", "api/near"]);

  /**
   * Reads the probe.
   *
   * @throws {UsageError | NoDataError} if it cannot be used
   */
  constructor(options: SoundsOptions) {
    this.#options = options;
    this.#workbench = new Workbench(options);
    if (options.collection !== undefined) {
      this.#collection = new Collection(options.collection, options.clips);
    }
    if (options.probe !== undefined) this.#probe = loadProbe(options.probe);
  }

  get named(): SoundAnswers["named"] {
    const { checkpoint, collection, probe } = this.#options;
    return {
      checkpoint: checkpoint ?? null,
      collection: collection ?? null,
      probe: probe ?? null,
    };
  }

  async answer(path: string, request: Request, library: Library): Promise<Response | undefined> {
    const { searchParams: query } = new URL(request.url);
    const model = query.get("model") ?? "";
    switch (path) {
      case "api/models":
        return json(this.#workbench.models(library));
      case "api/batch":
        return json(await this.#batch(query, library));
      case "api/map":
        return json(this.#folder().map(this.#workbench, library, model));
      case "api/clip":
        return await this.#clip(wholeOf(query, "n", 0, 1e9), request);
      case "api/listen":
        if (request.method !== "POST") throw new RequestError(405, "a sound is to be sent");
        return json(await this.#listen(request, library, model));
      case "api/attention": {
        const heard = this.#known(query);
        const patch = query.get("patch") ?? "";
        const token = patch === "class" ? "class" : wholeOf(query, "patch", 0, 1e6);
        return json(
          await this.#workbench.use(library, heard.model, (it) => attentionOf(it, heard, token)),
        );
      }
      case "api/painted": {
        const heard = this.#known(query);
        const ratio = query.get("ratio");
        const choice = {
          seed: wholeOf(query, "seed", 0, 2 ** 32 - 1),
          ...(ratio !== null && { ratio: Number(ratio) }),
        };
        return json(
          await this.#workbench.use(library, heard.model, async (it): Promise<PaintedAnswer> => {
            const { answer, sounds } = await paintedOf(it, heard, choice);
            heard.sounds = sounds;
            const { id } = heard;
            const { seed } = choice;
            return {
              ...answer,
              sounds: sounds.map((_, n) => address("api/painted.wav", { id, n, seed })),
            };
          }),
        );
      }
      case "api/painted.wav": {
        const { sounds } = this.#known(query);
        const sound = sounds?.[wholeOf(query, "n", 0, 9)];
        if (!sound) throw new RequestError(404, "there is no such sound");
        return partOf(sound.wav, "audio/wav", request);
      }
      case "api/encoder":
      case "api/autoencoder": {
        const part = path === "api/encoder" ? "encoder" : "autoencoder";
        const known = query.get("key");
        const { key, bytes } = await this.#workbench.bytes(library, model, part, known);
        const { heads } = this.#options;
        return answer(bytes ?? null, "application/octet-stream", {
          status: bytes ? 200 : 204,
          headers: { [MODEL_KEY]: key, ...heads !== undefined && { [MODEL_HEADS]: `${heads}` } },
        });
      }
      case "api/probe": {
        const probe = await this.#probeOf(await this.#workbench.path(library, model));
        return probe ? json(probeAnswer(probe)) : answer(null, "application/json", { status: 204 });
      }
      case "modules/engine.js":
        return answer(await engineModule(), "text/javascript; charset=utf-8");
      case "api/near": {
        if (request.method !== "POST") throw new RequestError(405, "an embedding is to be sent");
        const { buffer, byteLength } = await bodyOf(request, MOST_EMBEDDING, "the embedding");
        if (byteLength === 0 || byteLength % 4 !== 0) {
          throw new RequestError(400, "an embedding is some values of f32");
        }
        const values = new Float32Array(buffer);
        const key = query.get("key") ?? undefined;
        return json(await this.#folder().nearest(this.#workbench, library, model, values, key));
      }
      case "api/nearest": {
        const { model, embedding, key } = this.#known(query);
        return json(
          await this.#folder().nearest(this.#workbench, library, model, embedding, key),
        );
      }
    }
    return undefined;
  }

  /** Frees device and models. */
  [Symbol.dispose](): void {
    this.#workbench[Symbol.dispose]();
  }

  #folder(): Collection {
    if (this.#collection) return this.#collection;
    throw new RequestError(409, "there is no folder of sounds: start the studio with --collection");
  }

  #known(query: URLSearchParams): Heard {
    const heard = this.#heard.get(query.get("id") ?? "");
    if (heard) return heard;
    throw new RequestError(404, "this sound is not kept any more; choose it again");
  }

  async #batch(query: URLSearchParams, library: Library): Promise<BatchAnswer> {
    const run = query.get("run") ?? "";
    const dir = library.directory(run);
    if (dir === undefined) throw new RequestError(404, "this run is not there any more");
    const { folder, collection } = this.#options;
    const start = performance.now();
    return await this.#workbench.use(library, run, async (opened, device) => ({
      ...await batchOf(opened, {
        ...{ dir, collection, pool: this.#workbench.pool },
        folders: [folder, ...collection === undefined ? [] : [collection]],
        number: wholeOf(query, "number", 0, MOST_BATCHES),
        count: wholeOf(query, "count", 1, 16, 4),
      }),
      model: opened.title,
      by: `this server (${device.info.description})`,
      seconds: (performance.now() - start) / 1000,
    }));
  }

  async #listen(request: Request, library: Library, model: string): Promise<SoundAnswer> {
    const { mono, sampleRate } = await decoded(await bodyOf(request, MOST_BYTES, "the sound"));
    const start = performance.now();
    return await this.#workbench.use(library, model, async (opened, device) => {
      const id = crypto.randomUUID();
      const waveform = resample(mono, sampleRate, opened.encoder.sampleRate);
      const { seen, sight } = await listenTo(opened, waveform, await this.#probeOf(opened.path))
        .catch((error: Error) => {
          // Longer than the encoder has positions for, and the like.
          throw error.name === "ShapeError" ? new RequestError(400, error.message) : error;
        });
      this.#heard.set(id, { ...seen, id, model, key: opened.key });
      for (const id of this.#heard.keys()) {
        if (this.#heard.size > MOST_KEPT) this.#heard.delete(id);
      }
      return {
        ...{ ...sight, id, model: opened.title },
        by: `this server (${device.info.description})`,
        seconds: (performance.now() - start) / 1000,
      };
    });
  }

  /** The probe, or why it names nothing by the encoder in a file; undefined if none was given. */
  async #probeOf(encoder: string): Promise<Probe | { readonly lacking: string } | undefined> {
    if (!this.#probe || this.#probe.file.checkpoint === await fileDigest(encoder)) {
      return this.#probe;
    }
    return { lacking: "the probe was trained on another encoder" };
  }

  async #clip(n: number, request: Request): Promise<Response> {
    const path = await this.#folder().file(n);
    const ending = AUDIO_EXTENSIONS.find((it) => path.toLowerCase().endsWith(it)) ?? "";
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = readRegular(path);
    } catch (error) {
      throw new RequestError(404, (error as Error).message);
    }
    return partOf(bytes, TYPES[ending] ?? "application/octet-stream", request);
  }
}

/** A file's sound; its first minute. @throws {RequestError} if it is no audio */
async function decoded(
  bytes: Uint8Array,
): Promise<{ readonly mono: Float32Array; readonly sampleRate: number }> {
  try {
    const { channels, sampleRate } = await decodeAudio(bytes);
    const kept = channels.map((it) => it.subarray(0, MOST_SECONDS * sampleRate));
    return { mono: toMono(kept), sampleRate };
  } catch (error) {
    throw new RequestError(415, (error as Error).message);
  }
}

function probeAnswer(probe: Probe | { readonly lacking: string }): ProbeAnswer {
  if ("lacking" in probe) return probe;
  const { classes, multiLabel, features, weight, bias, statistics } = probe.file;
  const base64 = (values: Float32Array) => base64Of(bytesOf(values));
  return {
    ...{ classes, multiLabel, features, weight: base64(weight), bias: base64(bias) },
    ...statistics && {
      statistics: { mean: base64(statistics.mean), std: base64(statistics.std) },
    },
  };
}

/** All of some bytes, or the part that a player asks for. */
function partOf(bytes: Uint8Array<ArrayBuffer>, type: string, request: Request): Response {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get("range") ?? "");
  const [, from = "0", to = ""] = range ?? [];
  const first = Number(from);
  const end = Math.min(bytes.length, to === "" ? Infinity : Number(to) + 1);
  // What is no part is passed over, as HTTP has it.
  if (!range || first >= end) {
    return answer(bytes, type, { headers: { "accept-ranges": "bytes" } });
  }
  return answer(bytes.subarray(first, end), type, {
    status: 206,
    headers: {
      "accept-ranges": "bytes",
      "content-range": `bytes ${first}-${end - 1}/${bytes.length}`,
    },
  });
}

function wholeOf(
  query: URLSearchParams,
  name: string,
  from: number,
  to: number,
  otherwise?: number,
): number {
  const text = query.get(name);
  const value = text === null && otherwise !== undefined ? otherwise : Number(text || NaN);
  if (Number.isInteger(value) && value >= from && value <= to) return value;
  throw new RequestError(400, `${name}: must be a whole number from ${from} to ${to}`);
}
