/**
 * A ring on the device with the metrics of the newest updates.
 *
 * @module
 */
import { concat, type Device, noGrad, storeRow, type Tensor } from "../../engine/mod.ts";
import { type MetricNames, type StepValues, stepValues } from "./update_metrics.ts";

/** Updates whose rows are kept. */
const KEPT = 256;

/**
 * Metrics that were copied on the device and can be fetched later: updates that follow do not
 * change them.
 */
export interface RecentMetrics {
  /** One per update, the newest last. */
  values(): Promise<StepValues[]>;
}

/** The ring. */
export class MetricsRing implements Disposable {
  /** [KEPT, columns], the row of update u at u mod KEPT. */
  readonly #rows: Tensor;
  readonly #columns: number;

  /** Makes the memory. */
  constructor(private readonly device: Device, private readonly names: MetricNames) {
    this.#columns = names.length;
    this.#rows = device.zeros([KEPT, this.#columns]);
  }

  /** Where the row of update u goes. */
  static place(u: number): number {
    return u % KEPT;
  }

  /**
   * Stores an update's row.
   *
   * @param metrics parts of the row, each [n]
   * @param place [1] from {@link MetricsRing.place}
   */
  store(metrics: readonly Tensor[], place: Tensor): void {
    storeRow(this.#rows, noGrad(() => concat(metrics, 0)), place);
  }

  /**
   * Copies the metrics of the newest updates.
   *
   * @param count updates, the newest last; the last 256 are kept
   * @param updates updates so far
   */
  recent(count: number, updates: number): RecentMetrics {
    const columns = this.#columns;
    const kept = Math.min(count, KEPT, updates);
    const first = MetricsRing.place(updates - kept);
    const beforeWrap = Math.min(kept, KEPT - first);
    const parts = [[first, beforeWrap], [0, kept - beforeWrap]].map(([row, rows]) =>
      this.#rows.view([rows, columns], undefined, this.#rows.offset + row * columns)
    );
    const copied = this.device.readLater(parts);
    parts.forEach((part) => part.dispose());
    return {
      values: async () =>
        (await copied.values()).flatMap((rows) =>
          Array.from(
            { length: rows.length / columns },
            (_, i) => stepValues(this.names, rows.subarray(i * columns, (i + 1) * columns)),
          )
        ),
    };
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    this.#rows.dispose();
  }
}
