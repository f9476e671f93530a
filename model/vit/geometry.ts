/**
 * Sizes of a model and the grid of patches that follows from them (model/README.md, Symbols).
 *
 * @module
 */

/** Rows (frequency) and columns (time) of patches of a clip. */
export interface PatchGrid {
  /** Patches along frequency. */
  readonly rows: number;
  /** Patches along time. */
  readonly columns: number;
}

/** Bands and frames of a patch, or the side of a square one. */
export type PatchSize = number | readonly [bands: number, frames: number];

/** Sizes of patch embedding, encoder, predictor and heads. */
export interface Geometry {
  /** Encoder width D. */
  readonly width: number;
  /** Encoder blocks. */
  readonly depth: number;
  /** Encoder attention heads. */
  readonly heads: number;
  /** Predictor width. */
  readonly predictorWidth: number;
  /** Predictor blocks. */
  readonly predictorDepth: number;
  /** Predictor attention heads. */
  readonly predictorHeads: number;
  /** Hidden width of both classification heads. */
  readonly headHidden: number;
  /** Prototypes K of both classification heads. */
  readonly prototypes: number;
  /** Width of the L2-normalised layer before the prototypes. */
  readonly bottleneck: number;
  /** Mel bands of the input. */
  readonly melBands: number;
  /** Bands and frames of a patch. */
  readonly patchSize: PatchSize;
  /** Frames (10 ms) of a training crop. */
  readonly cropFrames: number;
  /** Share of the patches that the student does not see. */
  readonly maskRatio: number;
  /** Whether a class token goes before the patches; default true. */
  readonly classToken?: boolean;
  /**
   * Whether keys have a bias; default true. MSM-MAE's blocks have none (model/README.md, Encoder).
   */
  readonly keyBias?: boolean;
  /**
   * Layout of the predictor's position table; default 2-D. MSM-MAE counts patches in one line
   * (model/README.md, Patches and positions).
   */
  readonly predictorPositions?: "1d" | "2d";
  /** Whether there is a projection of clips, for their contrast; default false. */
  readonly projection?: boolean;
  /** Heads of the predictor that compete (MATPAC++); default none. */
  readonly mclHeads?: number;
}

/** Bands and frames of a patch. */
export function patchSides(
  { patchSize }: Pick<Geometry, "patchSize">,
): readonly [bands: number, frames: number] {
  return typeof patchSize === "number" ? [patchSize, patchSize] : patchSize;
}

/** Patch grid of a geometry; frames that fill no patch are dropped. */
export function patchGrid(
  geometry: Pick<Geometry, "melBands" | "cropFrames" | "patchSize">,
): { rows: number; columns: number; patches: number } {
  const [bands, frames] = patchSides(geometry);
  const rows = Math.floor(geometry.melBands / bands);
  const columns = Math.floor(geometry.cropFrames / frames);
  return { rows, columns, patches: rows * columns };
}
