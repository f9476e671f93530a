/**
 * Answers of the studio that need a model or a folder of sounds.
 *
 * @module
 */
import { AUDIO_EXTENSIONS } from "../io/folders.ts";
import { readRegular } from "../io/regular_file.ts";
import { loadProbe, type Probe } from "../downstream/probe/probe_file.ts";
import type { BatchAnswer, SoundAnswer } from "./api.ts";
import { batchOf } from "./batch.ts";
import { Collection } from "./collection.ts";
import { answer, bodyOf, json, RequestError } from "./guard.ts";
import { attentionOf, decoded, type Heard, listenTo, paintedOf } from "./listening.ts";
import { engineModule } from "./engine_module.ts";
import type { Library } from "./library.ts";
import type { SoundAnswers } from "./server.ts";
import { MODEL_KEY } from "./page/client.ts";
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
          await this.#workbench.use(library, heard.model, (it) => paintedOf(it, heard, choice)),
        );
      }
      case "api/painted.wav": {
        const { sounds } = this.#known(query);
        const sound = sounds?.[wholeOf(query, "n", 0, 9)];
        if (!sound) throw new RequestError(404, "there is no such sound");
        return partOf(sound.wav, "audio/wav", request);
      }
      case "api/encoder": {
        const known = query.get("key");
        const { key, bytes } = await this.#workbench.encoder(library, model, known);
        return answer(bytes ?? null, "application/octet-stream", {
          status: bytes ? 200 : 204,
          headers: { [MODEL_KEY]: key },
        });
      }
      case "modules/model.js":
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
    const waveform = await decoded(await bodyOf(request, MOST_BYTES, "the sound"));
    const start = performance.now();
    return await this.#workbench.use(library, model, async (opened, device) => {
      const about = { id: crypto.randomUUID(), model, key: opened.key };
      const { heard, answer } = await listenTo(opened, device, waveform, this.#probe, about);
      this.#heard.set(heard.id, heard);
      for (const id of this.#heard.keys()) {
        if (this.#heard.size > MOST_KEPT) this.#heard.delete(id);
      }
      return { ...answer, model: opened.title, seconds: (performance.now() - start) / 1000 };
    });
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
