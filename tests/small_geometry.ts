import { type Geometry, PRESETS } from "../model/presets.ts";

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
