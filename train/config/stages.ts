/**
 * The stages of a run: one, or under `--paint-steps` MSM-MAE first, from whose encoder the
 * objective goes on, in one run directory with one count of updates.
 *
 * @module
 */
import { judge } from "../cli/option.ts";
import { completed, type ResolvedConfig } from "./config.ts";
import { PRETRAIN_OPTIONS } from "./options.ts";

/** A part of a run that trains one objective. */
export interface Stage {
  /** What it does; its length is its own. */
  readonly config: ResolvedConfig;
  /** Updates of the run before it. */
  readonly first: number;
}

/** Options that mean nothing to MSM-MAE. */
const NOT_PAINTING = [
  ...["alpha", "target-layers", "target-centre", "masks-per-clip", "teacher-view", "mcl-heads"],
  ...["decoder-positions", "epochs", "warmup"],
] as const;

/** The stages of a run, in order. */
export function stagesOf(config: ResolvedConfig): readonly Stage[] {
  const { paint } = config;
  if (!paint) return [{ config, first: 0 }];
  const options: Record<string, unknown> = { ...config.options };
  for (const name of NOT_PAINTING) delete options[name];
  Object.assign(options, {
    objective: "msm-mae",
    "norm-pix": true,
    "paint-steps": 0,
    steps: paint.steps,
    lr: paint.lr,
  });
  const painting = completed(judge(PRETRAIN_OPTIONS, options, {}), new Date(0), config.ranks);
  const { init: _, ...after } = config;
  return [{ config: painting, first: 0 }, { config: after, first: paint.steps }];
}
