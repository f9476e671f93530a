/**
 * EAT (Chen et al., arXiv:2401.03497) and SSLAM (Alex et al., ICLR 2025), which goes on from it:
 * names of fairseq's files and of transformers' folders (model/README.md, Encoders of others).
 *
 * @module
 */
import type { CheckpointFile } from "../formats/checkpoint_file.ts";
import type { StoredTensors } from "../formats/checkpoint_names.ts";
import { KALDI_128 } from "../frontend/kaldi_fbank.ts";
import { headsOf, type PretrainedOptions } from "./options.ts";
import {
  AUDIOSET_STATISTICS,
  CANVAS,
  vitAbout,
  type VitSizes,
  vitSources,
} from "./spectrogram_vit.ts";
import { countBlocks, type Plan, shapeOf, type Source } from "./state_dict.ts";

const TITLE = "EAT or SSLAM";
const EPS = 1e-6;
/** Bands, and frames, of a patch. */
const PATCH = 16;
const ROWS = KALDI_128.bands / PATCH;

/** How a file names its tensors. */
interface Style {
  /** What stands before the names of blocks. */
  readonly blocks: string;
  /** What stands before the others. */
  readonly rest: string;
  /** The norm before the blocks. */
  readonly norm: string;
}

const FAIRSEQ = "modality_encoders.IMAGE.";
/** fairseq's, pre-trained and fine-tuned, and that of the folders of transformers. */
const STYLES: readonly Style[] = [
  { blocks: "", rest: FAIRSEQ, norm: "context_encoder.norm" },
  { blocks: "model.", rest: `model.${FAIRSEQ}`, norm: "context_encoder.norm" },
  { blocks: "model.", rest: "model.", norm: "pre_norm" },
];

function styleOf(tensors: StoredTensors): Style | undefined {
  // data2vec 2.0 has the same names for pictures, which have three channels.
  return STYLES.find(({ rest, norm }) =>
    tensors.has(`${rest}extra_tokens`) && tensors.has(`${rest}${norm}.weight`) &&
    tensors.get(`${rest}local_encoder.proj.weight`)?.shape[1] === 1
  );
}

/** Whether tensors are those of EAT or SSLAM. */
export function isEat(tensors: StoredTensors): boolean {
  return styleOf(tensors) !== undefined;
}

/** The teacher, decoders, heads and what losses need. */
const BESIDE = new RegExp(
  "^_ema[._]|(^|\\.)(decoder|shared_decoder|head|fc_norm|cls_proj|recon_proj)\\.|(^|\\.)center$",
);

/**
 * What an encoder takes from a file.
 *
 * @throws {EncoderError} if sizes cannot be told.
 */
export function eatPlan(file: CheckpointFile, options: PretrainedOptions): Plan<VitSizes> {
  const { tensors, setting } = file;
  const { blocks, rest, norm } = styleOf(tensors)!;
  const table = `${rest}fixed_positional_encoder.positions`;
  const [, positions, width] = shapeOf(TITLE, tensors, table, 3);
  // Folders have a table for two minutes; clips are cut as fairseq's files and the examples do.
  const columns = Math.min(CANVAS / PATCH, Math.floor(positions / ROWS));
  const said = (name: string) => setting("model", name) ?? setting(name);
  const eps = said("norm_eps");
  const sizes: VitSizes = {
    ...{ width, patch: [PATCH, PATCH], stride: [PATCH, PATCH], frames: columns * PATCH },
    ...{ grid: [ROWS, columns], own: ["extra_tokens"], timeFirst: true, postNorm: true },
    depth: countBlocks(TITLE, tensors, said("depth"), `${blocks}blocks.`),
    heads: headsOf(width, file.heads.encoder ?? said("num_heads"), options),
    eps: typeof eps === "number" ? eps : EPS,
    ...AUDIOSET_STATISTICS,
  };
  const named = (name: string) => [
    name.startsWith("blocks.")
      ? blocks + name
      : rest + name.replace(/^patch_embed\./, "local_encoder.").replace(/^norm_pre\b/, norm),
  ];
  const sources = vitSources(sizes, named).map((it): Source =>
    it.name !== "pos_embed" ? it : {
      ...it,
      // The program never trains them.
      frozen: true,
      from: [{ name: table, shape: [1, positions, width] }],
      // The token in front has no position.
      fold: ([values]) => {
        const all = new Float32Array((1 + ROWS * columns) * width);
        all.set(values.subarray(0, ROWS * columns * width), width);
        return all;
      },
    }
  );
  const about = vitAbout(sizes, {
    system: "eat",
    title: TITLE,
    source: "https://github.com/cwx-worst-one/EAT, arXiv:2401.03497; SSLAM builds on it",
    licence: "MIT of the code; none stated for weights",
    vectors: ["tokens", "patches"],
  });
  return { about, sizes, tensors, sources, beside: BESIDE };
}
