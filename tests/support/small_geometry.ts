/** Geometries of small models for tests. */
import { geometryFor, type ObjectiveName, OBJECTIVES } from "../../model/objectives/objectives.ts";
import { PRESETS } from "../../model/objectives/presets.ts";
import type { Geometry } from "../../model/vit/geometry.ts";

/** All objectives. */
export const OBJECTIVE_NAMES = Object.keys(OBJECTIVES) as ObjectiveName[];

/** A model of odd sizes that trains in milliseconds. */
export const SMALL: Geometry = {
  ...PRESETS.tiny.geometry,
  width: 24,
  depth: 2,
  heads: 3,
  predictorWidth: 16,
  predictorDepth: 1,
  predictorHeads: 2,
  headHidden: 20,
  prototypes: 12,
  bottleneck: 16,
  cropFrames: 64,
};

/** The small model with what an objective has of its own. */
export function smallFor(objective: ObjectiveName, changes: Partial<Geometry> = {}): Geometry {
  const { keyBias, predictorPositions, mclHeads } = geometryFor(objective, "tiny");
  const own = { keyBias, predictorPositions, ...(mclHeads && { mclHeads: 3 }) };
  return { ...SMALL, ...own, ...changes };
}
