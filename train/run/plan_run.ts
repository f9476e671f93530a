/**
 * From words that leave training open to a configuration: looks at the sounds, times the adapter,
 * and asks plan.ts.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { judge } from "../cli/option.ts";
import { waiting } from "../cli/wait_line.ts";
import {
  canContrast,
  completed,
  optionsOfTraining,
  type PlannedValues,
  resolveConfig,
  type ResolvedConfig,
  resolvePlanned,
} from "../config/config.ts";
import { PRETRAIN_OPTIONS } from "../config/options.ts";
import type { ClipSource } from "../data/clip_source.ts";
import type { WorkerPool } from "../data/worker_pool.ts";
import { initialModel } from "./initial_weights.ts";
import {
  FIRST_SIZES,
  measureRates,
  planContinued,
  planLengths,
  planSizes,
  soundOf,
} from "./plan.ts";

/** What {@link planRun} works with. */
export interface PlanContext {
  /** Of training. */
  readonly hours: number;
  /** Trains. */
  readonly device: Device;
  /** Sounds. */
  readonly source: ClipSource;
  /** Decodes some of them. */
  readonly pool: WorkerPool;
  /** Shows nothing. */
  readonly quiet: boolean;
}

/**
 * The configuration of a run on these sounds.
 *
 * @param argv words of the command line; the options that they and their file give win
 * @param now names the default run directory
 * @throws {UsageError} for options that do not fit what is planned
 */
export async function planRun(
  argv: readonly string[],
  now: Date,
  { hours, device, source, pool, quiet }: PlanContext,
): Promise<ResolvedConfig> {
  const shown = { quiet };
  const resolve = (values: PlannedValues["values"], reasons: PlannedValues["reasons"] = []) =>
    resolvePlanned(argv, now, { values, reasons });
  const timed = (config: ResolvedConfig) =>
    waiting(() => "timing updates on this adapter", measureRates(device, config), shown);
  const sound = await waiting(() => "looking at some clips", soundOf(source, pool), shown);
  const given = optionsOfTraining(argv);
  const { init, preset, objective } = resolveConfig(argv, now);
  const rate = init === undefined
    ? (await timed(completed(judge(PRETRAIN_OPTIONS, FIRST_SIZES, {}), now)))[0]
    : 0;
  const sizes = init === undefined
    ? planSizes(sound, rate, hours, {
      ...given.has("preset") && { preset },
      ...given.has("objective") && { objective },
    })
    : planContinued(sound, initialModel(init), hours);
  const short = { steps: 1, ...sizes.painting > 0 && { "paint-steps": 1 } };
  const { microBatch } = resolve({ ...sizes.values, ...short });
  const contrast = !given.has("contrast") && canContrast(microBatch) ? sizes.contrast : undefined;
  const chosen = { ...sizes.values, ...contrast?.values };
  const some = resolve({ ...chosen, ...short });
  const isFirst = given.size === 0 && some.precision === "f32" && !some.recompute &&
    some.microBatch === some.batch &&
    Object.entries(FIRST_SIZES).every(([name, it]) => chosen[name] === it);
  const rates = isFirst ? [rate] : await timed(some);
  const { values, reason } = planLengths(sizes, rates, hours, some);
  const reasons = [...sizes.reasons, ...contrast ? [contrast.reason] : [], reason];
  return resolve({ ...chosen, ...values }, reasons);
}
