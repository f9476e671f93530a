/**
 * Pre-training: configuration, audio decoding, batches, the update, schedules, checkpoints and the
 * loop that ties them together. Reading and writing need permission when they are called; importing
 * needs none.
 *
 * ```ts
 * import { decodeAudio, syntheticSource } from "@tessera/tessera/train";
 *
 * const { channels, sampleRate } = await decodeAudio(await Deno.readFile("dog.flac"));
 * const corpus = syntheticSource({ size: 8, seed: 1, samples: 16000 });
 * const clip = await corpus.load(0); // mono, 16 kHz
 * ```
 *
 * @module
 */
export {
  type Checkpoint,
  checkpointName,
  type CheckpointTensor,
  type Keeping,
  loadCheckpoint,
  saveCheckpoint,
  writeTensors,
} from "./run/checkpoint.ts";
export { pretrainHelp, resolveConfig, type ResolvedConfig } from "./config/config.ts";
export { AudioError, type DecodedAudio } from "./audio/decoded_audio.ts";
export {
  decodeAudio,
  loadWaveform,
  SAMPLE_RATE,
  toMono,
  type WaveformOptions,
} from "./audio/decode.ts";
export { AUDIO_EXTENSIONS, FolderError, listAudioFiles, type OnSkip } from "./io/folders.ts";
export { NoDataError } from "./errors.ts";
export { batchLogMel } from "./data/batch_logmel.ts";
export {
  type Batch,
  type CropChoice,
  Loader,
  type LoaderOptions,
  type LoaderShare,
  type LoaderState,
  type PartState,
} from "./data/loader.ts";
export { type DataOptions, dataSource } from "./data/data_source.ts";
export type { NpyDtype } from "./io/npy.ts";
export type { CropRequest } from "./data/logmel_file.ts";
export { WorkerPool } from "./data/worker_pool.ts";
export {
  type PrepareOptions,
  type PrepareResult,
  type PrepareState,
  prepareStore,
} from "./store/prepare.ts";
export { type OpenShard, type Shard, type ShardFacts, ShardFolder } from "./io/shards.ts";
export {
  type AudioFolderOptions,
  audioFolderSource,
  type CacheBudget,
  type ClipSource,
  type Crop,
  type FileSourceOptions,
  type SkippedClip,
  type SourcePart,
  type Statistics,
  syntheticSource,
  type WaveformSource,
} from "./data/clip_source.ts";
export type { CropPlace } from "./data/crop.ts";
export {
  type AudioRequest,
  type ClipAudio,
  type ClipRequest,
  FileError,
  type Piece,
  type PiecesRequest,
  type WaveformRequest,
} from "./data/clip_reading.ts";
export { type Choices, type ClipChoices, ClipEncoder } from "./downstream/clip_encoder.ts";
export {
  audioFiles,
  embedFiles,
  type EmbedFilesOptions,
  type EmbedPart,
  type EmbedResult,
  type EmbedState,
  mergeEmbeddings,
  skippedPath,
} from "./downstream/embed_files.ts";
export type { KeptClips, RowShape } from "./downstream/embedding_file.ts";
export { Prng, type PrngState } from "../engine/prng.ts";
export {
  type Phase,
  resample,
  type ResampleKernel,
  resampleKernel,
} from "../model/frontend/resample.ts";
export { SYNTHETIC_CLASSES, type SyntheticClip, syntheticClip } from "./data/synthetic.ts";
export {
  describeError,
  EXIT_INTERRUPTED,
  exitCodeOf,
  InterruptedError,
  UsageError,
} from "./errors.ts";
export { type Group, groupOfOne, type GroupOptions, openGroup } from "./cluster/group.ts";
export type { SumOrder } from "./cluster/exchange.ts";
export { type EvaluationScore, MEASURED_FIELDS, type MetricsRow } from "./metrics/metrics_row.ts";
export { JsonLines } from "./io/json_lines.ts";
export { type Embedded, Evaluator, type EvaluatorOptions } from "./run/evaluate.ts";
export { type LabelledClip, type LabelledFolder, labelledFolder } from "./data/labelled_folder.ts";
export { pretrain, type RunContext } from "./run/loop.ts";
export { measureRun, memoryText, type RunMemory, totalBytes } from "./run/memory.ts";
export { Progress, type ProgressOutput, type ProgressState } from "./cli/progress.ts";
export { openRunDirectory, type RunPaths, runPaths, writeRunConfig } from "./run/run_directory.ts";
export { cropSamples, type ScheduleConfig, type Schedules, schedulesOf } from "./run/schedule.ts";
export {
  encoderTensors,
  loadWeights,
  type PendingTensors,
  restoreState,
  type RunState,
  snapshotState,
  type Tensors,
} from "./run/state_dict.ts";
export type { Precision } from "../model/objectives/masked_model.ts";
export { LossScale } from "../engine/mod.ts";
export type { RecentMetrics } from "./metrics/metrics_ring.ts";
export { type Inspect, STEP_DEFAULTS, type StepSettings, Trainer } from "./run/update.ts";
export type { UpdatePart } from "./run/recorded_update.ts";
export { normalisedStd, type StepValues } from "./metrics/update_metrics.ts";
export type { OptimizerSettings } from "./run/update_values.ts";
export { EventFile } from "./metrics/tensorboard.ts";
