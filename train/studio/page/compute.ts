/**
 * What a model sees in a sound, computed in the page by WebGPU.
 *
 * @module
 */
import type * as Model from "../../bundle/model.ts";
import type { AttentionMaps } from "../../../model/encoder/attention_maps.ts";
import type { AttentionAnswer, Picture, SoundAnswer } from "../api.ts";
import { loudestChunk } from "../../visualize/chunk_choice.ts";
import { address, ask, MODEL_KEY } from "./client.ts";

const RATE = 16_000;
const MOST_SECONDS = 60;
const DECIBELS = 10 / Math.LN10;

/** A sound that the page has looked at. */
export interface Seen {
  readonly answer: SoundAnswer;
  /** Mean over time. */
  readonly embedding: Float32Array;
  /** Of the model that made it. */
  readonly key: string;
  /** Whom a token attends to. */
  attention(patch: number | "class"): Promise<AttentionAnswer>;
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

let engine: Promise<{ readonly model: typeof Model; readonly device: Model.Device }> | undefined;
let opened:
  | { readonly id: string; readonly key: string; readonly encoder: Model.Encoder }
  | undefined;

async function load(): Promise<{ readonly model: typeof Model; readonly device: Model.Device }> {
  const path = "../../model.js";
  const model: typeof Model = await import(path);
  return { model, device: await model.openDevice() };
}

/** The engine and a model, which is loaded anew where its file is another by now. */
async function encoderOf(id: string) {
  engine ??= load();
  engine.catch(() => engine = undefined);
  const { model, device } = await engine;
  const known = opened?.id === id ? opened.key : undefined;
  const answer = await ask(address("api/encoder", { model: id, key: known }));
  if (answer.status !== 204) {
    const key = answer.headers.get(MODEL_KEY) ?? "";
    const encoder = await model.loadEncoder(device, await answer.bytes());
    opened?.encoder[Symbol.dispose]();
    opened = { id, key, encoder };
  }
  const { key, encoder } = opened!;
  return { model, device, encoder, key };
}

/** A file as mono of 16 kHz, decoded by the browser. */
async function waveformOf(file: Blob): Promise<Float32Array> {
  const context = new OfflineAudioContext(1, 1, RATE);
  const decoded = await context.decodeAudioData(await file.arrayBuffer());
  const length = Math.min(decoded.length, MOST_SECONDS * RATE);
  const mono = new Float32Array(length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    const values = decoded.getChannelData(channel);
    for (let i = 0; i < length; i++) mono[i] += values[i] / decoded.numberOfChannels;
  }
  return mono;
}

/** Coordinates along components of largest variance, by the matrix of products of rows. */
export function components(rows: readonly Float32Array[], count: number) {
  const n = rows.length;
  const size = rows[0].length;
  const mean = new Float64Array(size);
  for (const row of rows) for (let k = 0; k < size; k++) mean[k] += row[k] / n;
  const gram = rows.map((a) =>
    Float64Array.from(rows, (b) => {
      let sum = 0;
      for (let k = 0; k < size; k++) sum += (a[k] - mean[k]) * (b[k] - mean[k]);
      return sum;
    })
  );
  const total = gram.reduce((sum, row, i) => sum + row[i], 0);
  const points = rows.map((): number[] => []);
  const shares: number[] = [];
  for (let c = 0; c < Math.min(count, n - 1); c++) {
    let vector = Float64Array.from({ length: n }, (_, i) => Math.sin(i + 1 + c));
    let value = 0;
    for (let round = 0; round < 300; round++) {
      const next = Float64Array.from(
        gram,
        (row) => row.reduce((a, it, j) => a + it * vector[j], 0),
      );
      value = Math.hypot(...next);
      if (value === 0) break;
      vector = next.map((it) => it / value);
    }
    const largest = vector.reduce((a, b) => Math.abs(b) > Math.abs(a) ? b : a, 0);
    const scale = Math.sqrt(value) * (Math.sign(largest) || 1);
    points.forEach((point, i) => point.push(vector[i] * scale));
    shares.push(total > 0 ? value / total : 0);
    gram.forEach((row, i) => row.forEach((_, j) => row[j] -= value * vector[i] * vector[j]));
  }
  return { points, shares };
}

function base64(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return btoa(text);
}

function pictureOf(values: Float32Array, rows: number, columns: number): Picture {
  const high = Math.ceil(values.reduce((a, b) => Math.max(a, b), -Infinity));
  const least = Math.floor(values.reduce((a, b) => Math.min(a, b), Infinity));
  const low = Math.min(high - 1, Math.max(least, high - 80));
  const bytes = Uint8Array.from(
    values,
    (it) => Math.round(255 * Math.min(1, Math.max(0, (it - low) / (high - low)))),
  );
  return { rows, columns, bytes: base64(bytes), range: [low, high] };
}

/** Columns of each row. */
function cut(values: Float32Array, rows: number, first: number, count: number): Float32Array {
  const all = values.length / rows;
  const part = new Float32Array(rows * count);
  for (let row = 0; row < rows; row++) {
    part.set(values.subarray(row * all + first, row * all + first + count), row * count);
  }
  return part;
}

/** Looks at a sound. @throws {Error} if the browser cannot decode it, or has no device */
export async function listenHere(
  file: Blob,
  id: string,
  words: { readonly model: string; readonly adapter: string },
  onStage: (stage: string) => void,
): Promise<Seen> {
  const waveform = await waveformOf(file);
  onStage("loading the engine and the model");
  const { model, device, encoder, key } = await encoderOf(id);
  const start = performance.now();
  onStage("compiling kernels the first time, then computing");
  const { geometry, frontend } = encoder;
  const { melBands, patch, depth, heads } = geometry;
  const centre = frontend.framing === "centred";
  const statistics = frontend.statistics ?? model.MATPAC_STATISTICS;
  // As many samples as a patch has frames of.
  const fewest = (patch[1] - 1) * model.HOP_SAMPLES + model.FRAME_SAMPLES;
  const filled = new Float32Array(Math.max(waveform.length, fewest));
  filled.set(waveform);
  const tables = new model.LogMel(device, {
    ...{ centre, statistics, order: centre ? "nnaudio" as const : "torchaudio" as const },
  });
  const input = device.tensor(filled, [1, filled.length]);
  const output = tables.apply(input);
  const logmel = await output.data() as Float32Array;
  const frames = output.shape[2];
  for (const it of [tables, input, output]) it[Symbol.dispose]();
  const { rows, columns: most } = model.gridOf(geometry);
  const columns = Math.min(most, Math.floor(frames / patch[1]));
  const chunkFrames = columns * patch[1];
  const decibels = logmel.map((it) => (it * statistics.std + statistics.mean) * DECIBELS);
  const first = loudestChunk({ values: decibels, frames, bands: melBands }, chunkFrames);
  const chunk = cut(logmel, melBands, first, chunkFrames);
  const sums = new Float64Array(rows * columns);
  chunk.forEach((value, i) => {
    const [band, t] = [Math.floor(i / chunkFrames), i % chunkFrames];
    sums[Math.floor(band / patch[0]) * columns + Math.floor(t / patch[1])] += value;
  });
  const { values, steps, times } = await encoder.embed(
    { logMel: logmel, standardised: true },
    { pool: "none" },
  );
  const size = values.length / steps;
  const stepRows = Array.from(
    { length: steps },
    (_, i) => values.slice(i * size, (i + 1) * size),
  );
  const embedding = new Float32Array(size);
  for (const row of stepRows) row.forEach((it, k) => embedding[k] += it / steps);
  const second = model.HOP_SAMPLES / RATE;
  const classToken = geometry.classToken ?? true;
  const answer: SoundAnswer = {
    id: "",
    model: words.model,
    by: `this page (WebGPU: ${words.adapter})`,
    seconds: (performance.now() - start) / 1000,
    length: waveform.length / RATE,
    spectrogram: pictureOf(decibels, melBands, frames),
    chunk: {
      ...{ start: first * second, length: chunkFrames * second, rows, columns },
      ...{ classToken, layers: depth, heads },
      loudest: sums.reduce((best, it, i) => it > sums[best] ? i : best, 0),
    },
    path: steps < 3 ? null : {
      ...components(stepRows, 3),
      times: Array.from(times!, (ms) => ms / 1000),
      step: encoder.stepMs / 1000,
    },
    labels: null,
    lacking: [],
    paints: false,
  };
  let maps: Promise<AttentionMaps> | undefined;
  const own = classToken ? 1 : 0;
  const queries = [
    ...own ? ["class" as const] : [],
    ...Array.from({ length: rows * columns }, (_, i) => i),
  ];
  const all = async (): Promise<AttentionMaps> => {
    const tensor = device.tensor(chunk, [1, melBands, chunkFrames]);
    const found = await model.attentionMaps(encoder.network, tensor, queries);
    tensor[Symbol.dispose]();
    return found;
  };
  return {
    answer,
    embedding,
    key,
    async attention(token) {
      const found = await (maps ??= all());
      const query = queries.indexOf(token);
      const tokens = own + rows * columns;
      const weights = new Float32Array(found.layers.length * heads * tokens);
      found.layers.forEach((layer, l) => {
        for (let head = 0; head < heads; head++) {
          const at = (head * queries.length + query) * tokens;
          weights.set(layer.subarray(at, at + tokens), (l * heads + head) * tokens);
        }
      });
      return {
        ...{ layers: found.layers.length, heads, tokens, classTokens: own },
        weights: base64(new Uint8Array(weights.buffer)),
      };
    },
  };
}
