/** metrics.jsonl and skipped.jsonl: one JSON object per line, each line written whole. */

/** What an evaluation found; one of them. */
export interface EvaluationScore {
  /** Accuracy of the linear probe, mean over folds; clips of one label. */
  readonly eval_accuracy?: number;
  /** Its mean average precision; clips of several labels. */
  readonly eval_map?: number;
}

/** One logged step; the rows of evaluations have their score. */
export interface MetricsRow extends EvaluationScore {
  /** Updates done. */
  readonly step: number;
  /** Passes over the data that were begun before, from 0. */
  readonly epoch: number;
  /** Clips seen. */
  readonly samples: number;
  /** Weighted loss. */
  readonly loss: number;
  /** Mean prediction loss. */
  readonly loss_pred: number;
  /** Mean classification loss, in objectives that classify. */
  readonly loss_cls?: number;
  /** Learning rate of the update. */
  readonly lr: number;
  /** Temperature of the teacher's softmax, in objectives that classify. */
  readonly teacher_temp?: number;
  /** Decay of the teacher encoder's average, in objectives that have one. */
  readonly ema_encoder?: number;
  /** Decay of the teacher head's average, in objectives that classify. */
  readonly ema_head?: number;
  /** Temperature at which predictor heads compete, in MATPAC++. */
  readonly choice_temp?: number;
  /** L2 norm of the whole gradient before clipping. */
  readonly grad_norm: number;
  /** exp of the entropy of the mean target distribution. */
  readonly target_perplexity?: number;
  /** Spread of the targets; near 0 they have collapsed. */
  readonly target_std: number;
  /** Spread of the predictions. */
  readonly prediction_std: number;
  /** Prototypes that are the target of some token; 1 when targets have collapsed. */
  readonly distinct_targets?: number;
  /** exp of the entropy of the winning predictor heads, in MATPAC++. */
  readonly head_perplexity?: number;
  /** Mixed precision: what the loss is multiplied by after this update. */
  readonly loss_scale?: number;
  /**
   * Mixed precision: updates left out so far because gradients overflowed; their own values are
   * null where not finite.
   */
  readonly skipped_updates?: number;
  /** Clips per second, as last measured. */
  readonly samples_per_s: number;
  /** Seconds that the updates since the row before waited for their batches. */
  readonly loader_wait: number;
  /** Bytes of GPU memory in use. */
  readonly gpu_live_bytes: number;
  /** The most that were in use so far. */
  readonly gpu_peak_bytes: number;
  /**
   * Resident bytes of the process, in which a software adapter's memory and what drivers keep
   * counts as well.
   */
  readonly process_bytes: number;
  /** Since the start of the process. */
  readonly seconds: number;
}

/** Fields that are measured: runs that are otherwise the same may differ in them. */
export const MEASURED_FIELDS: readonly (keyof MetricsRow)[] = [
  "samples_per_s",
  "loader_wait",
  "gpu_live_bytes",
  "gpu_peak_bytes",
  "process_bytes",
  "seconds",
];

/** An input that could not be used. */
export interface SkippedRow {
  /** The input. */
  readonly path: string;
  /** Why it could not be used. */
  readonly reason: string;
}

/** An open file of JSON lines. */
export class JsonLines<Row extends object> implements Disposable {
  readonly #file: Deno.FsFile;

  private constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  /** Opens `path` empty. */
  static create<Row extends object>(path: string): JsonLines<Row> {
    return new JsonLines(Deno.openSync(path, { write: true, create: true, truncate: true }));
  }

  /** Appends one line; a reader sees it at once and whole. */
  write(row: Row): void {
    writeAll(this.#file, new TextEncoder().encode(JSON.stringify(row) + "\n"));
  }

  /** Waits until what was written is on the disk. */
  flush(): void {
    this.#file.syncDataSync();
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }

  /**
   * Opens the metrics of a run that goes on after `step` updates: later lines, and a last
   * line that was cut off, are removed first. Makes the file where there is none.
   */
  static resume<Row extends { readonly step: number }>(path: string, step: number): JsonLines<Row> {
    const file = Deno.openSync(path, { read: true, write: true, create: true });
    const kept = keptBytes(readAll(file), step);
    file.truncateSync(kept);
    file.seekSync(kept, Deno.SeekMode.Start);
    return new JsonLines(file);
  }
}

/** Bytes of the whole lines at the start whose step is not above `step`. */
function keptBytes(bytes: Uint8Array, step: number): number {
  let kept = 0;
  for (let start = 0; start < bytes.length;) {
    const end = bytes.indexOf(0x0a, start);
    if (end < 0) break;
    const found = stepOf(new TextDecoder().decode(bytes.subarray(start, end)));
    if (found === undefined || found > step) break;
    kept = start = end + 1;
  }
  return kept;
}

function stepOf(line: string): number | undefined {
  try {
    const { step } = JSON.parse(line);
    return typeof step === "number" ? step : undefined;
  } catch {
    return undefined;
  }
}

function readAll(file: Deno.FsFile): Uint8Array {
  const bytes = new Uint8Array(file.statSync().size);
  let done = 0;
  while (done < bytes.length) {
    const read = file.readSync(bytes.subarray(done));
    if (read === null) break;
    done += read;
  }
  return bytes.subarray(0, done);
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}
