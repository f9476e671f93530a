/**
 * What a model sees in a sound, computed in the page by WebGPU, with the code that the server has.
 *
 * @module
 */
import type * as Engine from "../page_engine.ts";
import type { AttentionAnswer, PaintedAnswer, ProbeAnswer, SoundAnswer } from "../api.ts";
import { address, AnswerError, ask, MODEL_HEADS, MODEL_KEY } from "./client.ts";
import { floatsOf } from "./raster.ts";

/** A sound that the page has looked at. */
export interface SeenHere {
  readonly answer: SoundAnswer;
  /** As those of a collection's clips. */
  readonly embedding: Float32Array;
  /** Of the model that made it. */
  readonly key: string;
  /** Whom a token attends to. */
  attention(patch: number | "class"): Promise<AttentionAnswer>;
  /** The sound with hidden patches painted. */
  painted(seed: number): Promise<PaintedAnswer>;
}

/** Whether the browser has WebGPU, and whether on a GPU; in words. */
export async function pageAdapter(): Promise<
  { readonly words: string; readonly fast: boolean } | undefined
> {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return undefined;
    const { vendor, architecture, description, isFallbackAdapter } = adapter.info;
    const words = [description, vendor, architecture].filter((it) => it).join(" ") || "WebGPU";
    return { words, fast: !isFallbackAdapter && !/swiftshader|llvmpipe|software/i.test(words) };
  } catch {
    return undefined;
  }
}

/** A model that is open here. */
interface Opened extends Disposable {
  readonly id: string;
  readonly key: string;
  readonly encoder: Engine.ClipEncoder;
  readonly model: Engine.OpenModel;
}

let engine: Promise<{ readonly it: typeof Engine; readonly device: Engine.Device }> | undefined;
let opened: Opened | undefined;

async function load(): Promise<{ readonly it: typeof Engine; readonly device: Engine.Device }> {
  const path = "../../engine.js";
  const it: typeof Engine = await import(path);
  return { it, device: await it.openDevice() };
}

/** The engine and a model, which is loaded anew where its file is another by now. */
async function modelOf(id: string) {
  engine ??= load();
  engine.catch(() => engine = undefined);
  const { it, device } = await engine;
  const known = opened?.id === id ? opened.key : undefined;
  const answer = await ask(address("api/encoder", { model: id, key: known }));
  if (answer.status !== 204) {
    const key = answer.headers.get(MODEL_KEY) ?? "";
    const said = answer.headers.get(MODEL_HEADS);
    const heads = said === null ? undefined : Number(said);
    const file = it.openCheckpoint(it.bytesAccess(await answer.bytes()));
    const encoder = await it.loadClipEncoder(device, file, heads === undefined ? {} : { heads });
    const model = encoder.encoder instanceof it.Encoder
      ? await withDecoder(it, device, id, heads, it.modelIn(device, file, heads)!)
      : it.encoderAlone(encoder.title);
    opened?.[Symbol.dispose]();
    const dispose = (): void => [encoder, model].forEach((it) => it[Symbol.dispose]());
    opened = { id, key, encoder, model, [Symbol.dispose]: dispose };
  }
  return { it, device, ...opened! };
}

/** Of MSM-MAE the file with the decoder, which is another than the encoder's in a run's folder. */
async function withDecoder(
  it: typeof Engine,
  device: Engine.Device,
  id: string,
  heads: number | undefined,
  found: Engine.OpenModel,
): Promise<Engine.OpenModel> {
  if (found.title !== "MSM-MAE" || !("missing" in found.autoencoder)) return found;
  const answer = await ask(address("api/autoencoder", { model: id }));
  const file = it.openCheckpoint(it.bytesAccess(await answer.bytes()));
  return it.modelIn(device, file, heads) ?? found;
}

/** A file as a mono waveform, decoded by the browser. */
async function waveformOf(file: Blob, rate: number, most: number): Promise<Float32Array> {
  const context = new OfflineAudioContext(1, 1, rate);
  const decoded = await context.decodeAudioData(await file.arrayBuffer());
  const length = Math.min(decoded.length, most * rate);
  const mono = new Float32Array(length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    const values = decoded.getChannelData(channel);
    for (let i = 0; i < length; i++) mono[i] += values[i] / decoded.numberOfChannels;
  }
  return mono;
}

/** The probe that the studio was started with, for a model. */
async function probeOf(it: typeof Engine, id: string) {
  const response = await ask(address("api/probe", { model: id }));
  if (response.status === 204) return undefined;
  const answer: ProbeAnswer = await response.json();
  if ("lacking" in answer) return answer;
  const { weight, bias, statistics, ...rest } = answer;
  return new it.Probe({
    ...{ ...rest, checkpoint: "", about: {} },
    ...{ weight: floatsOf(weight), bias: floatsOf(bias) },
    ...statistics && {
      statistics: { mean: floatsOf(statistics.mean), std: floatsOf(statistics.std) },
    },
  });
}

/** Addresses of sounds; those before are given up. */
let addresses: string[] = [];

/**
 * Looks at a sound.
 *
 * @param adapter in words
 * @param onStage hears what is being done
 * @throws {AnswerError} what the server says of the model
 * @throws {Error} if the browser cannot decode it, or the page cannot compute with the model
 */
export async function listenHere(
  file: Blob,
  id: string,
  { name, adapter }: { readonly name: string; readonly adapter: string },
  onStage: (stage: string) => void,
): Promise<SeenHere> {
  onStage("loading the engine and the model");
  const { it, key, encoder, model } = await modelOf(id);
  const probe = await probeOf(it, id);
  const waveform = await waveformOf(file, encoder.sampleRate, it.MOST_SECONDS);
  const start = performance.now();
  onStage("compiling kernels the first time, then computing");
  const { seen, sight } = await it.listenTo({ encoder, model }, waveform, probe);
  return {
    answer: {
      ...{ ...sight, id: crypto.randomUUID(), model: `${model.title}, ${name}` },
      by: `this page (WebGPU: ${adapter})`,
      seconds: (performance.now() - start) / 1000,
    },
    ...{ embedding: seen.embedding, key },
    attention: (patch) => it.attentionOf({ encoder, model }, seen, patch),
    async painted(seed) {
      const { answer, sounds } = await it.paintedOf({ encoder, model }, seen, { seed });
      for (const it of addresses) URL.revokeObjectURL(it);
      addresses = sounds.map(({ wav }) =>
        URL.createObjectURL(new Blob([wav], { type: "audio/wav" }))
      );
      return { ...answer, sounds: addresses };
    },
  };
}

/** Whether what is wrong is the model's or the server's: then the server has no better answer. */
export const isServers = (error: unknown): error is AnswerError =>
  error instanceof AnswerError && error.status !== 409;
