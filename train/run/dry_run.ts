/**
 * What a run would be, without one: `pretrain --dry-run`.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { OBJECTIVES } from "../../model/objectives/objectives.ts";
import type { ResolvedConfig } from "../config/config.ts";
import { stagesOf } from "../config/stages.ts";
import type { ClipSource } from "../data/clip_source.ts";
import { measureRun, memoryText, refuseUnfit } from "./memory.ts";
import { schedulesOf } from "./schedule.ts";

/**
 * Lines on a run: configuration, sizes, length and memory. Nothing is written or trained.
 *
 * @throws {OutOfMemoryError} for a run that does not fit, as at its start
 */
export function dryRunText(device: Device, config: ResolvedConfig, source: ClipSource): string[] {
  const { objective, preset, recipe, geometry, choices, crops, batch, microBatch, options } =
    config;
  const { total } = schedulesOf(config, source.size);
  const parameters = OBJECTIVES[objective].specs(geometry, choices)
    .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const stages = stagesOf(config).map((stage) => measureRun(device, stage.config));
  for (const memory of stages) refuseUnfit(device, memory);
  const given = Object.entries(options).filter(([, it]) =>
    it !== false && it !== undefined && !(Array.isArray(it) && it.length === 0)
  );
  return [
    "configuration (--config takes it as TOML):",
    ...given.map(([name, it]) => `  ${name} = ${JSON.stringify(it)}`),
    `adapter: ${device.info.description}`,
    `data: ${source.name}, ${source.size} clips`,
    `model: ${objective}, preset ${preset}, recipe ${recipe}, ` +
    `${(parameters / 1e6).toFixed(2)} M trained parameters`,
    ...config.paint ? [`first: ${config.paint.steps} updates of painting (msm-mae)`] : [],
    `length: ${total} updates of ${batch} crops of ${geometry.cropFrames / 100} s` +
    `${microBatch < batch ? ` in passes of ${microBatch}` : ""}, ${total * batch} crops, ` +
    `${(total * batch / crops.cropsPerClip / source.size).toPrecision(3)} passes over the data`,
    ...stages.map(memoryText),
    "dry run: nothing was trained or written",
  ];
}
