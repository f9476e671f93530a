/**
 * What a run will take of the device's memory, found out before any of it is taken.
 *
 * @module
 */
import {
  type Device,
  formatBytes,
  measure,
  OutOfMemoryError,
  type Tensor,
} from "../../engine/mod.ts";
import { LogMel } from "../../model/frontend/log_mel.ts";
import { patchGrid, patchSides } from "../../model/vit/geometry.ts";
import { buildModel, maskCounts, stepSettings } from "./model_from_config.ts";
import type { ResolvedConfig } from "../config/config.ts";
import { labelledFolder } from "../data/labelled_folder.ts";
import { CHUNKS_AT_ONCE, QUICK_PROBE } from "./evaluate.ts";
import { LinearProbes } from "../downstream/probe/linear_probes.ts";
import { cropSamples } from "./schedule.ts";
import { Trainer } from "./update.ts";

/** Bytes by purpose. */
export interface RunMemory {
  /** Parameters of the student, f16 copies included. */
  readonly parameters: number;
  /** Their gradients. */
  readonly gradients: number;
  /** Moments of the optimizer. */
  readonly optimizer: number;
  /** Both teachers. */
  readonly teachers: number;
  /** Intermediate results of an update, which share one arena. */
  readonly activations: number;
  /** Batches on their way in, metrics on their way out, tables. */
  readonly staging: number;
  /** What `--eval` takes while it runs; 0 without it. */
  readonly evaluation: number;
  /** Largest single buffer. */
  readonly largest: number;
  /**
   * Textures that an update's operands are copied into on software adapters: on top of all others,
   * as a run under a limit does without them.
   */
  readonly textures: number;
}

const SCHEDULES = {
  total: 1,
  lr: zero,
  teacherTemp: zero,
  emaEncoder: zero,
  emaHead: zero,
  choiceTemperature: zero,
};

/**
 * Arrays of one f32 per token and width that embedding holds at its largest: 19 inside a block
 * (measured), and chunks shorter than a crop have up to a fifth more class tokens. It runs op by
 * op, so that nothing is planned ahead.
 */
const EVALUATION_ARRAYS = 24;
/** Of these, the widest tensor: the hidden layer of a block. */
const WIDEST = 4;

function zero(): number {
  return 0;
}

function bytesOf({ size, itemSize }: Tensor): number {
  return size * itemSize;
}

/** What lowers the need, for messages. */
export const MEMORY_HINT = "--micro-batch, --crop-frames and a smaller --preset lower the need; " +
  "--recompute cuts activations to a fifth, --precision mixed to about half";

/**
 * Measures a run of this configuration: its update is recorded as in training, with no memory
 * behind it.
 *
 * @throws {OutOfMemoryError} if one of its tensors is beyond what the adapter can bind.
 */
export function measureRun(device: Device, config: ResolvedConfig): RunMemory {
  const { geometry, microBatch: batch, masksPerClip } = config;
  const { patches } = patchGrid(geometry);
  const { visible } = maskCounts(config);
  // Nothing is exchanged.
  const group = { size: config.ranks, sum: () => Promise.resolve() };
  const settings = { ...stepSettings(config), group };
  const { microBatches = 1 } = settings;
  const recorded = microBatches > 1 ? ["begin", "sum", "pass", "finish"] : ["pass"];
  let known: Pick<RunMemory, "parameters" | "gradients" | "optimizer" | "teachers"> | undefined;
  const build = () => {
    const model = buildModel(device, config);
    const trainer = new Trainer(device, model, SCHEDULES, settings);
    const frontend = new LogMel(device);
    // A batch on its way in: audio and what the front end makes of it. A plan has inputs of its
    // own.
    const waves = device.empty([batch, cropSamples(geometry)]);
    const images = [1, 2].map(() => device.empty([batch, geometry.melBands, geometry.cropFrames]));
    const ids = [1, 2].map(() => device.empty([batch, masksPerClip * patches], "u32"));
    known = { ...model.bytes, optimizer: bytesOf(trainer.m) + bytesOf(trainer.v) };
    const parts = [trainer, model, frontend, waves, ...images, ...ids];
    return {
      trainer,
      input: images[0],
      ids,
      [Symbol.dispose]: () => parts.forEach((part) => part[Symbol.dispose]()),
    };
  };
  type Built = ReturnType<typeof build>;
  try {
    const { state, arena, outputs, largest, textures } = measure(
      device,
      build,
      ...recorded.map((part) => ({ trainer, input, ids: [shuffle, restore] }: Built) => {
        const { run } = trainer.parts().find(({ role }) => role === part)!;
        run(input, { shuffle, restore, visible });
      }),
    );
    const kept = Object.values(known!).reduce((sum, bytes) => sum + bytes, 0);
    const evaluation = bytesOfEvaluation(device, config);
    return {
      ...known!,
      activations: arena,
      staging: state + outputs - kept,
      evaluation: evaluation.all,
      largest: Math.max(largest, evaluation.largest),
      textures,
    };
  } catch (error) {
    if (!(error instanceof RangeError) && (error as Error).name !== "LifetimeError") throw error;
    throw refusal(`an update cannot be bound on this adapter: ${(error as Error).message}`);
  }
}

/** What an evaluation takes beside the model: to embed, and then to probe, whichever is more. */
function bytesOfEvaluation(
  device: Device,
  { geometry, eval: folder, pool, blocks }: ResolvedConfig,
): { readonly all: number; readonly largest: number } {
  if (folder === undefined) return { all: 0, largest: 0 };
  const bytes = (elements: number) => 4 * CHUNKS_AT_ONCE * elements;
  const tokens = bytes(patchGrid(geometry).patches * geometry.width);
  const input = bytes(cropSamples(geometry) + 2 * geometry.melBands * geometry.cropFrames);
  const { clips, protocol } = labelledFolder(folder);
  const parts = [...Map.groupBy(clips, ({ part }) => part).values()];
  const step = geometry.melBands / patchSides(geometry)[0] * geometry.width;
  const dim = (blocks?.length ?? 1) * (pool === "mean-std" ? 2 * step : step);
  const sizes = {
    clips: clips.length,
    dim,
    classes: new Set(clips.flatMap(({ labels }) => labels)).size,
    problems: protocol === "split" ? 1 : parts.length,
    tried: Math.max(...parts.map(({ length }) => length)),
  };
  return {
    all: Math.max(
      EVALUATION_ARRAYS * tokens + input,
      LinearProbes.bytes(device, sizes, QUICK_PROBE),
    ),
    largest: Math.max(WIDEST * tokens, 4 * clips.length * dim),
  };
}

/** Bytes by purpose; together what a run takes. */
function purposes(
  { largest: _, textures: __, ...parts }: RunMemory,
): Omit<RunMemory, "largest" | "textures"> {
  return parts;
}

/** Bytes of a run in all, without textures. */
export function totalBytes(memory: RunMemory): number {
  return Object.values(purposes(memory)).reduce((sum, bytes) => sum + bytes, 0);
}

/** One line for a person. */
export function memoryText(memory: RunMemory): string {
  const list = Object.entries(purposes(memory)).filter(([, bytes]) => bytes > 0)
    .map(([name, bytes]) => `${name} ${formatBytes(bytes)}`);
  const { textures } = memory;
  return `memory: ${list.join(", ")}; ${formatBytes(totalBytes(memory))} in all` +
    (textures > 0 ? `, and textures of ${formatBytes(textures)}` : "");
}

/**
 * Refuses a run that does not fit the adapter or the device's limit, before it takes any memory.
 *
 * @throws {OutOfMemoryError} saying what lowers the need.
 */
export function refuseUnfit(device: Device, memory: RunMemory): void {
  const total = totalBytes(memory);
  const { maxBufferSize } = device.gpu.limits;
  const limit = device.memory.limitBytes;
  if (memory.largest > maxBufferSize) {
    throw refusal(
      `the run needs a buffer of ${formatBytes(memory.largest)}, but this adapter's largest is ${
        formatBytes(maxBufferSize)
      }`,
      memory,
    );
  }
  if (total > limit) {
    throw refusal(
      `the run needs ${formatBytes(total)}, above the limit of ${formatBytes(limit)}`,
      memory,
    );
  }
}

function refusal(message: string, memory?: RunMemory): OutOfMemoryError {
  const details = [...(memory ? [memoryText(memory)] : []), MEMORY_HINT].join("\n");
  return Object.assign(new OutOfMemoryError(message), { details });
}
