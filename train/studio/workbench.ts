/**
 * The device and the model that the studio computes with: opened when first needed, one thing at a
 * time.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { Encoder } from "../../model/encoder/encoder.ts";
import { WEIGHT_FILES } from "../../model/formats/hugging_face.ts";
import { openWatchedDevice } from "../cli/kernel_line.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { encoderFrom, modelPath } from "../downstream/encoder_file.ts";
import { basename } from "../deps/path.ts";
import { isFolder } from "../io/folders.ts";
import { readRegular } from "../io/regular_file.ts";
import { newestCheckpoint } from "../run/checkpoint.ts";
import { encoderAlone, openModel } from "../visualize/autoencoder.ts";
import type { ModelItem } from "./api.ts";
import { isInside } from "./confined.ts";
import { RequestError } from "./guard.ts";
import type { Library } from "./library.ts";
import type { SoundModel } from "./listening.ts";

/** What the workbench is told. */
export interface WorkbenchOptions {
  /** The folder of runs. */
  readonly folder: string;
  /** The model that was named on the command line. */
  readonly checkpoint?: string;
  readonly heads?: number;
  readonly adapter: "auto" | "gpu" | "software";
  /** Threads that decode. */
  readonly workers?: number;
}

/** A model that is open. */
export interface Opened extends SoundModel {
  /** In words. */
  readonly title: string;
  /** The encoder's file. */
  readonly path: string;
  /** Another one for every file and state of it. */
  readonly key: string;
  /** The run that it is of, where it is one's. */
  readonly run: string | undefined;
}

/** Bytes of a file that a page gets. */
const MOST_BYTES = 1 << 30;

/** By which the model of the command line is asked for. */
export const NAMED = "";

/** What tells a model from others, and from what its file held before. */
async function keyOf(id: string, path: string): Promise<string> {
  const info = await Deno.stat(path).catch(() => undefined);
  return encodeURIComponent([id, path, info?.ino, info?.mtime?.getTime()].join("\n"));
}

/** Computes. Ends when it is disposed. */
export class Workbench implements Disposable {
  readonly #options: WorkbenchOptions;
  #device: Promise<Device> | undefined;
  #opened: (Opened & Disposable) | undefined;
  #pool: WorkerPool | undefined;
  #last: Promise<unknown> = Promise.resolve();

  /** Opens nothing yet. */
  constructor(options: WorkbenchOptions) {
    this.#options = options;
  }

  /** Models that can be asked for, the likeliest first. */
  models({ items }: Library): ModelItem[] {
    const { checkpoint } = this.#options;
    const usable = items.filter((it) =>
      it.message === undefined && (it.state === "finished" || it.checkpoint_step !== null)
    );
    return [
      ...checkpoint === undefined ? [] : [{ id: NAMED, title: checkpoint }],
      ...usable.map(({ id, name, objective, preset, steps }) => ({
        id,
        title: `${name} (${objective} ${preset}, step ${steps ?? 0})`,
      })),
    ];
  }

  /** Threads that decode. */
  get pool(): WorkerPool {
    return this.#pool ??= new WorkerPool(
      this.#options.workers ?? Math.min(4, navigator.hardwareConcurrency),
    );
  }

  /**
   * Runs `work` with a model, after what was asked for before.
   *
   * @param id of {@link models}
   * @throws {RequestError} if there is no such model, or its file cannot be used
   */
  use<Result>(
    library: Library,
    id: string,
    work: (opened: Opened, device: Device) => Promise<Result>,
  ): Promise<Result> {
    const result = this.#last.then(async () => {
      const device = await this.#open();
      return await work(await this.#model(library, id, device), device);
    });
    this.#last = result.catch(() => {});
    return result;
  }

  /** The file of a model's encoder. @throws {RequestError} as {@link use} */
  async path(library: Library, id: string): Promise<string> {
    return (await this.#pathOf(library, id)).path;
  }

  /**
   * The bytes of a model's encoder, or of the file that has its decoder, and a key of them; none if
   * that is `known`.
   *
   * @throws {RequestError} as {@link use}, or if pages cannot take it
   */
  async bytes(
    library: Library,
    id: string,
    part: "encoder" | "autoencoder",
    known: string | null,
  ): Promise<{ readonly key: string; readonly bytes?: Uint8Array<ArrayBuffer> }> {
    const { path: encoder, named } = await this.#pathOf(library, id);
    const path = part === "encoder"
      ? encoder
      : await isFolder(named)
      ? await newestCheckpoint(named) ?? encoder
      : named;
    if (WEIGHT_FILES.includes(basename(path))) {
      throw new RequestError(409, `${basename(path)} is read with what lies beside it`);
    }
    const key = await keyOf(id, path);
    if (key === known) return { key };
    try {
      if (Deno.statSync(path).size > MOST_BYTES) {
        throw new Error(`is above ${MOST_BYTES >> 20} MB`);
      }
      return { key, bytes: readRegular(path) };
    } catch (error) {
      throw new RequestError(404, `${basename(path)}: ${(error as Error).message}`);
    }
  }

  /** Frees what is open. */
  [Symbol.dispose](): void {
    this.#opened?.[Symbol.dispose]();
    this.#pool?.[Symbol.dispose]();
    void this.#device?.then((device) => device[Symbol.dispose](), () => {});
  }

  async #open(): Promise<Device> {
    const { adapter } = this.#options;
    this.#device ??= openWatchedDevice({ adapter }, true);
    try {
      return await this.#device;
    } catch (error) {
      // An adapter may be there the next time.
      this.#device = undefined;
      throw new RequestError(503, `no device computes here: ${(error as Error).message}`);
    }
  }

  async #model(library: Library, id: string, device: Device): Promise<Opened> {
    const { path, named, run } = await this.#pathOf(library, id);
    const key = await keyOf(id, path);
    if (this.#opened?.key === key) return this.#opened;
    this.#opened?.[Symbol.dispose]();
    this.#opened = undefined;
    const { heads } = this.#options;
    using opening = new DisposableStack();
    try {
      const encoder = opening.use(await encoderFrom(device, path, heads));
      const model = encoder.encoder instanceof Encoder
        ? opening.use(await openModel(device, named, heads))
        : encoderAlone(encoder.title);
      const held = opening.move();
      const title = run === undefined
        ? `${model.title}, ${basename(named)}`
        : `${model.title}, ${run === NAMED ? basename(path) : `${run} (${basename(path)})`}`;
      this.#opened = {
        ...{ encoder, model, title, path, key, run },
        [Symbol.dispose]: () => held.dispose(),
      };
      return this.#opened;
    } catch (error) {
      const { name, message } = error as Error;
      if (!["UsageError", "NoDataError"].includes(name)) throw error;
      throw new RequestError(400, message.replace(/^--checkpoint /, ""));
    }
  }

  async #pathOf(library: Library, id: string) {
    const { checkpoint, folder } = this.#options;
    if (id === NAMED && checkpoint !== undefined) {
      const path = await modelPath(checkpoint).catch((error: Error) => {
        throw new RequestError(400, error.message);
      });
      return { path, named: checkpoint, run: undefined };
    }
    const dir = library.directory(id);
    if (dir === undefined) throw new RequestError(404, "this run is not there any more");
    const path = await modelPath(dir).catch((error: Error) => {
      throw new RequestError(409, error.message);
    });
    // Where there is a checkpoint, it has the decoder, too.
    const named = await newestCheckpoint(dir) ?? path;
    for (const it of [path, named]) {
      if (isInside(folder, it)) continue;
      throw new RequestError(403, `${basename(it)} is a link out of the folder and is not read`);
    }
    return { path, named, run: id };
  }
}
