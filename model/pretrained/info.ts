/**
 * What is known of encoders of other systems, and what they can be asked for.
 *
 * @module
 */
import type { Tensor } from "../../engine/functions.ts";
import type { Bands } from "../encoder/embed.ts";
import type { ClipPool } from "../encoder/pooling.ts";
import type { Attend } from "./token_attention.ts";

/** Which system an encoder is of. */
export type PretrainedSystem =
  | "mae-ast"
  | "beats"
  | "atst"
  | "passt"
  | "htsat"
  | "ast"
  | "audiomae"
  | "eat"
  | "ced";

/** Sizes that every encoder has. */
export interface PretrainedSizes {
  /** Width of a token. */
  readonly width: number;
  /** Blocks. */
  readonly depth: number;
  /** Attention heads. */
  readonly heads: number;
}

/** What is known of an encoder. */
export interface PretrainedInfo extends PretrainedSizes {
  /** Which system. */
  readonly system: PretrainedSystem;
  /** What people call it. */
  readonly title: string;
  /** Where it was published. */
  readonly source: string;
  /** Terms of the released weights. */
  readonly licence: string;
  /** The front end in words. */
  readonly frontend: string;
  /** Samples per second of the audio it takes. */
  readonly sampleRate: number;
  /** Least samples that give a time step. */
  readonly minSamples: number;
  /** Most time steps of a clip; undefined where there is no limit but memory. */
  readonly maxSteps?: number;
  /** Samples from one time step to the next. */
  readonly hopSamples: number;
  /** Tokens of a time step: patches along frequency, the low one first. */
  readonly rows: number;
  /** How tokens lie that attend to all others; undefined where no attention is given. */
  readonly attention?: AttentionLayout;
  /** What there is to choose of its embeddings. */
  readonly choices: readonly Choice[];
  /** Vectors that an embedding can be, the default first, where there are several. */
  readonly vectors?: readonly Vector[];
  /** Names of tensors in the file that no part of the encoder is. */
  readonly unused: readonly string[];
}

/** How the tokens of a clip lie in the attention of every block. */
export interface AttentionLayout {
  /** Tokens before the patches. */
  readonly own: number;
  /** Whether patches of one time lie together, else those of one frequency; low and early first. */
  readonly timeMajor: boolean;
  /** Samples from one column of patches to the next. */
  readonly columnSamples: number;
  /** Most columns of patches. */
  readonly columns: number;
}

/** Whom a token of a clip attends to. */
export interface TokenAttention {
  /** Columns of patches that begin in the clip. */
  readonly columns: number;
  /** Of each block: [heads, tokens before the patches + rows * columns], patches row by row. */
  readonly blocks: readonly Float32Array[];
}

/**
 * Sees the results of an encoder's stages by name: `patch`, `proj`, `enc_in`, `mid0`, `block0` and
 * what else a system has. They are freed soon after: who needs one later keeps a copy.
 */
export type Trace = (stage: string, value: Tensor) => void;

/** How {@link PretrainedEncoder.encode} runs. */
export interface EncodeOptions {
  /**
   * Tokens of each clip that are of it; those behind are of padding: no other token sees them, and
   * their own results mean nothing. Default: all.
   */
  readonly tokens?: readonly number[];
  /** Sees each stage. */
  readonly trace?: Trace;
  /** Sees what the attention of each block is computed of, where `info` has `attention`. */
  readonly attend?: Attend;
}

/**
 * What there is to choose of an embedding that not every encoder has: another pooling than the mean
 * over time, bands side by side, outputs of other blocks, joining of chunks as official programs do
 * it, and of ATST-Frame as its probes do it.
 */
export type Choice =
  | "pool"
  | "bands concat"
  | "blocks"
  | "official"
  | "official downstream";

/** Which vector of an output an embedding is; see {@link PretrainedEmbedOptions.vector}. */
export type Vector = "features" | "logits" | "all" | "tokens" | "patches";

/** How a clip is embedded; the same words mean the same with every encoder. */
export interface PretrainedEmbedOptions {
  /** Samples per second of the waveform, resampled as files are; default the encoder's. */
  readonly sampleRate?: number;
  /** Mean over time (default), maximum, mean and deviation, or every time step. */
  readonly pool?: ClipPool | "none";
  /** Patches of one time step averaged (default), or side by side, the low one first. */
  readonly bands?: Bands;
  /** Whether all blocks' outputs are given; the last one's always are. */
  readonly layers?: boolean;
  /**
   * Blocks that an embedding is of, counted from 1; default the last one, of ATST-Frame all, as
   * EVAR has them.
   */
  readonly blocks?: readonly number[];
  /** Whether these are side by side (default) or averaged. */
  readonly join?: "concat" | "mean";
  /**
   * Joins chunks as official programs do, which count alike however short one is. Of ATST-Clip
   * those are left out that have at most half of the length, and means are divided by the patches
   * that remain in the clip rather than by those of the chunk; `downstream` is what ATST-Frame's
   * probes do, without a later chunk of at most half its length. Default: each chunk counts by its
   * length.
   */
  readonly official?: boolean | "downstream";
  /**
   * Of PaSST: `features` (default), the mean of class and distillation token; `logits` of the
   * classes; `all`, HEAR's: both, logits first. Of AST, SSAST and AudioMAE: the mean of the
   * `tokens` before the patches, or of the `patches`; default the system's.
   */
  readonly vector?: Vector;
  /** Most clips of one length that go through together; default what 80 s hold. */
  readonly batch?: number;
}
