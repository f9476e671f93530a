/**
 * The options of `deno task pretrain`: on the command line and, under the same names, in files.
 *
 * @module
 */
import { MASK_KINDS } from "../../model/objectives/masking.ts";
import { type ObjectiveName, OBJECTIVES } from "../../model/objectives/objectives.ts";
import { PRESETS, type Span, type TrainingDefaults } from "../../model/objectives/presets.ts";
import {
  type Deviation,
  type DeviationName,
  deviations,
  sideOf,
} from "../../model/objectives/recipe.ts";
import { CLIP_POOLS } from "../../model/encoder/pooling.ts";
import { flag, group, type Option, option, type Values } from "../cli/option.ts";
import { adapter, maxHours, quiet } from "../cli/shared_options.ts";
import {
  choice,
  file,
  folder,
  number,
  pair,
  parsed,
  path,
  repeated,
  several,
  sides,
  whole,
} from "../cli/value_types.ts";

/** What presets have, as a default text. */
function byPreset(value: (training: TrainingDefaults) => unknown): { defaultText: string } {
  const texts = Object.entries(PRESETS).map(([name, it]) => `${name} ${value(it.training)}`);
  return { defaultText: texts.join(", ") };
}

function spanText(span: Span): string | number {
  if ("steps" in span) return span.steps;
  return "epochs" in span ? `${span.epochs} epochs` : `${span.fraction * 100} % of the run`;
}

const OBJECTIVE_NAMES = Object.keys(OBJECTIVES) as ObjectiveName[];
const SIDES = ["paper", "released"] as const;
const share = number({ from: 0, to: 1 });

/** A choice between paper and released code in one respect. */
function deviationOption(row: Deviation): Option<typeof SIDES[number] | undefined> {
  const [paper, released] = SIDES.map((it) => sideOf(it, row));
  return option(
    choice(SIDES),
    `${row.topic[0].toUpperCase()}${row.topic.slice(1)}: paper ${row.paper.text}; ` +
      `released ${row.released.text}.`,
    {
      defaultText: paper === "neither"
        ? "as the data has"
        : paper === released
        ? paper
        : "--recipe",
    },
  );
}
const DEVIATION_OPTIONS = Object.fromEntries(
  deviations().map(([name, row]) => [`recipe-${name}`, deviationOption(row)]),
) as Record<`recipe-${DeviationName}`, ReturnType<typeof deviationOption>>;

/** Options by name; those without a group are the most used. */
export const PRETRAIN_OPTIONS = {
  data: option(
    repeated(path()),
    "Folder of audio, folder of .npy log-mels, or manifest .tsv; may be given several times.",
    { default: [], defaultText: "built-in synthetic corpus" },
  ),
  out: option(folder(), "Run directory.", { defaultText: "runs/<time>-<preset>" }),
  objective: option(
    choice(OBJECTIVE_NAMES, "NAME"),
    `What is learned: ${
      OBJECTIVE_NAMES.map((it) => `${it} ${OBJECTIVES[it].summary}`).join("; ")
    }.`,
    { default: "matpac" },
  ),
  preset: option(
    choice(["tiny", "small", "base"]),
    "Size of the model, with its training numbers; base is the paper's.",
    { default: "tiny" },
  ),
  steps: option(whole(1), "Length of the run in updates.", byPreset((it) => spanText(it.length))),
  batch: option(
    whole(1),
    "Crops per update: one of a clip, under --contrast two.",
    byPreset((it) => it.batch),
  ),
  eval: option(
    folder("DATASET"),
    "Labelled folder (audio/ and meta.csv) on which the student's encoder is tried during " +
      "training: accuracy of a linear probe, or mAP where clips have several labels.",
    { defaultText: "none" },
  ),
  resume: flag("Go on from the newest checkpoint in --out, with that run's settings."),
  quiet,
  ...group("Data", {
    "data-weights": option(
      several(number({ above: 0 })),
      "One number for each --data: clips come from them in that proportion.",
      { defaultText: "every clip once per epoch" },
    ),
    standardise: option(
      choice(["paper", "store"]),
      "Mean and standard deviation that log-mel values are standardised with: the paper's -7.056 " +
        "and 4.193, or those that prepare left in the stores.",
      { default: "paper" },
    ),
    "crop-frames": option(
      whole(2),
      "Frames (10 ms) of a training crop, a multiple of a patch's.",
      { defaultText: "208 for tiny and for msm-mae's base, else 608" },
    ),
    speeds: option(
      pair(number({ above: 0 })),
      "Slowest and fastest that crops are played: pitch and tempo change by a factor between the " +
        "two, drawn for each crop.",
      { default: [1, 1] },
    ),
    "max-hours": maxHours,
    workers: option(
      whole(0, 256),
      "Threads that read and decode clips ahead of the GPU; 0 does it between updates.",
      { defaultText: "one less than there are cores, from 1 to 16" },
    ),
  }),
  ...group("Model", {
    init: option(
      file(),
      "Checkpoint whose weights (only those) the run starts from, or encoder.safetensors of a " +
        "run of any objective: a teacher that the file lacks starts as the student.",
    ),
    patch: option(
      sides(
        whole(1, 80, "B"),
        whole(1, 1024, "F"),
        "bands and frames from 1 to 80 and from 1 to 1024 with an x between them",
      ),
      "Bands and frames of a patch; MSM-MAE's were 16x16, 16x8, 16x4, 8x16 and 80x4.",
      { defaultText: "16x16" },
    ),
    pool: option(
      choice(CLIP_POOLS),
      "What embed and probe make of a clip's time steps unless they are told: mean, maximum, or " +
        "mean and behind it the standard deviation. The encoder's file says it.",
      { default: "mean" },
    ),
    blocks: option(
      several(whole(0, 4096), { distinct: true }),
      "Blocks whose outputs embed and probe put side by side unless they are told, counted from " +
        "1, 0 for what enters the first. The encoder's file says it.",
      { defaultText: "the last one" },
    ),
    "no-class-token": flag("Encode the patches without a class token before them."),
    "paint-steps": option(
      whole(0),
      "Updates in which the encoder paints spectrograms (msm-mae --norm-pix) before the " +
        "objective goes on from it for --steps: two stages in one run, as two with --init.",
      { default: 0 },
    ),
    "paint-lr": option(number({ above: 0 }), "Peak learning rate of that painting.", {
      defaultText: "--lr",
    }),
    "decoder-positions": option(
      choice(["1d", "2d"]),
      "Position table of the predictor: counted in one line, or by frequency and time.",
      { defaultText: "1d for msm-mae, else 2d" },
    ),
    "mcl-heads": option(whole(1, 64), "matpac-plus: predictor heads that compete.", {
      defaultText: "5",
    }),
  }),
  ...group("Objective", {
    mask: option(
      choice(MASK_KINDS),
      "What is masked: single patches; rows and columns of patches, as many patches in all; or " +
        "columns, which are moments with all their bands.",
      { default: "random" },
    ),
    "mask-ratio": option(
      number({ above: 0, below: 1 }),
      "Share of the patches that the student does not see.",
      { defaultText: "0.75 for msm-mae, else 0.7" },
    ),
    "masks-per-clip": option(
      whole(1, 64),
      "m2d, matpac, matpac-plus: masks that each clip of the batch is seen with in an update; a " +
        "clip is read and, by the teacher, encoded once for all of them.",
      { default: 1 },
    ),
    "teacher-view": option(
      choice(["masked", "clip"]),
      "m2d, matpac, matpac-plus: what the teacher encodes: the masked patches, or the whole " +
        "clip, once for all its masks.",
      { defaultText: "masked, as published; with several --masks-per-clip: clip" },
    ),
    "mask-run": option(
      whole(1),
      "Under --mask time: neighbouring columns that are masked together; such runs may overlap.",
      { defaultText: "1" },
    ),
    alpha: option(
      share,
      "matpac, matpac-plus: weight of prediction against classification; 1 is prediction alone.",
      { defaultText: "0.5" },
    ),
    contrast: option(
      number({ from: 0 }),
      "Weight of the contrast of clips beside the objective: two crops of each clip come in a " +
        "pass, and what the encoder makes of one is to be nearer to the other than to those of " +
        "other clips; 0 is without.",
      { default: 0 },
    ),
    "target-layers": option(
      several(whole(1)),
      "m2d, matpac, matpac-plus: teacher's blocks, counted from 1, whose normalised outputs are " +
        "averaged to be the target.",
      { defaultText: "the last one after the teacher's norm" },
    ),
    "target-centre": option(
      choice(["none", "clip"]),
      "clip: targets lose their mean over the clip's masked patches and are standardised, so " +
        "that telling clips apart is not enough to predict them. For short runs; not in the " +
        "papers.",
      { default: "none" },
    ),
    "norm-pix": flag(
      "msm-mae: standardise each patch that is to be painted by its own mean and variance.",
    ),
  }),
  ...group("Schedule", {
    epochs: option(
      number({ above: 0, metavar: "N" }),
      "Length of the run in passes over the data, instead of --steps.",
    ),
    hours: option(
      number({ above: 0, unit: "hours" }),
      "Training time on this adapter, from which model, crops, batch, rates, stages and length " +
        "follow, together with the hours of sound; options that are given win. Without options " +
        "that say how to train, runs on --data take an hour so.",
      { defaultText: "1 with --data alone" },
    ),
    lr: option(
      number({ above: 0 }),
      "Peak learning rate; under the released recipe base's does not grow with the batch.",
      byPreset(({ peakRate: { paper } }) =>
        `${paper.rate}${paper.perBatchOf256 ? " for 256 clips per update" : ""}`
      ),
    ),
    warmup: option(
      whole(0),
      "Updates over which the learning rate rises from zero.",
      byPreset((it) => spanText(it.warmup)),
    ),
    "ema-encoder": option(
      pair(share),
      "First and last decay of the teacher encoder's average, linear over the run. A half-life " +
        "of a few percent of the run's updates is usual: a decay of 0.99 halves in 69 updates, " +
        "0.999 in 693.",
      byPreset((it) => it.emaEncoder),
    ),
    "ema-head": option(
      pair(share),
      "First and last decay of the teacher head's average, linear over the run.",
      byPreset((it) => it.emaHead),
    ),
    "teacher-temp": option(
      pair(number({ above: 0 })),
      "First and last temperature of the teacher's softmax; it rises at the start of the run.",
      byPreset((it) => it.teacherTemp),
    ),
    seed: option(whole(0, 2 ** 32 - 1), "Start of every random choice.", { default: 1337 }),
  }),
  ...group("Where paper and released code differ", {
    recipe: option(choice(SIDES), "Which source is followed.", { default: "paper" }),
    ...DEVIATION_OPTIONS,
  }),
  ...group("Precision and memory", {
    precision: option(
      choice(["f32", "mixed"]),
      "Number format of weights and activations in forward and backward passes; mixed: 16-bit " +
        "floats with a dynamic loss scale, and f32 for master weights, optimizer, teachers and " +
        "losses.",
      { default: "f32" },
    ),
    "micro-batch": option(
      whole(1),
      "Clips per pass; gradients add up to those of --batch clips, of which it is a divisor. " +
        "Fewer need less memory.",
      { defaultText: "--batch" },
    ),
    recompute: flag(
      "Compute transformer blocks again in the backward pass instead of keeping their activations.",
    ),
    "memory-limit": option(
      whole(1, Number.MAX_SAFE_INTEGER, "BYTES"),
      "Most GPU memory that the run may take; one that needs more is refused before it starts.",
      { defaultText: "none" },
    ),
    anomaly: flag(
      "Look through every value and stop at the first NaN or infinity, naming the op; several " +
        "times slower.",
    ),
  }),
  ...group("Run directory", {
    "log-every": option(
      whole(1),
      "Updates between two rows of metrics.",
      byPreset((it) => it.logEvery),
    ),
    "save-every": option(
      whole(1),
      "Updates between two checkpoints.",
      byPreset((it) => it.saveEvery),
    ),
    "eval-every": option(
      whole(1),
      "Updates between two evaluations; one is made before the first update and one after the " +
        "last, too.",
      { defaultText: "--save-every" },
    ),
    keep: option(whole(1), "Newest checkpoints that are kept.", { default: 3 }),
    "keep-best": option(
      whole(0),
      "Checkpoints kept beside the newest: those with the lowest mean loss since the checkpoint " +
        "before (of at most 256 updates). A low loss need not mean good features.",
      { default: 1 },
    ),
    profile: option(
      whole(1),
      "Updates to profile after three to warm up; writes profile.txt and profile.json (a Chrome " +
        "trace).",
      { defaultText: "none" },
    ),
  }),
  ...group("Adapter and kernels", {
    adapter,
    tune: option(
      choice(["auto", "on", "off"]),
      "Time kernel variants on this adapter before the first update and remember the fastest in " +
        "the user's cache folder; auto: on GPUs, software adapters have fitted defaults.",
      { default: "auto" },
    ),
    variant: option(
      repeated(parsed(
        "KERNEL=NAME",
        "a kernel, =, and one of its variants",
        (word) => /^[a-z-]+=[\w-]+$/.test(word) ? word : undefined,
      )),
      "Kernel variant to use wherever it fits, such as gemm=tiled-64x64; may be given several " +
        "times.",
      { default: [], defaultText: "none" },
    ),
    deterministic: flag(
      "Default kernel variants, whatever was measured: the same bits on every machine with this " +
        "adapter.",
    ),
  }),
};

/** Name of an option, without dashes. */
export type OptionName = keyof typeof PRETRAIN_OPTIONS;

/** Options with defaults filled in, before preset and recipe are looked up. */
export type Options = Values<typeof PRETRAIN_OPTIONS>;
