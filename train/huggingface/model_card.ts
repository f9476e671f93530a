/**
 * Model cards: what an encoder is, how it is used, and what the run's files say of its training.
 *
 * @module
 */
import { type EncoderContent, encoderFileSpecs } from "../../model/encoder/encoder.ts";
import { gridOf, stepSize } from "../../model/encoder/embed.ts";
import { type ClipPool, type ClipReadout, embeddingSize } from "../../model/encoder/pooling.ts";
import { SYSTEM_TITLES } from "../../model/formats/checkpoint_file.ts";
import type { HuggingFaceConfig } from "../../model/formats/hugging_face.ts";
import { countOf } from "../../model/formats/stored_tensor.ts";
import { printable } from "../../engine/formats/printable.ts";
import { basename } from "../deps/path.ts";
import type { ResolvedConfig } from "../config/config.ts";
import { meanOf } from "../downstream/probe/metrics.ts";
import { readJsonLines } from "../io/json_lines.ts";
import { readRegularText } from "../io/regular_file.ts";
import type { MetricsRow } from "../metrics/metrics_row.ts";
import { runPaths } from "../run/run_directory.ts";
import { type ListedRun, listRuns } from "../run/run_list.ts";

/** Share of a run's rows at its end that its losses are means of. */
const SETTLED = 0.1;

/** A line of a table. */
type Figure = readonly [what: string, value: string];

const thousands = (x: number): string => x.toLocaleString("en");
const short = (x: number): string => String(Number(x.toPrecision(4)));

/**
 * What a run's directory says of its training.
 *
 * @returns none where it is no run's.
 */
export async function trainingFigures(dir: string): Promise<Figure[]> {
  const [run] = await listRuns(dir, 0);
  if (!run) return [];
  const paths = runPaths(dir);
  const { rows } = readJsonLines<MetricsRow>(paths.metrics);
  const last = rows.at(-1);
  return [...lossFigures(rows, run), ...configFigures(configIn(paths.config), last)];
}

/** What is there of a run's configuration; other versions may have had less. */
type Recorded = Partial<ResolvedConfig> & {
  readonly adapter_info?: { readonly description?: string };
};

function configIn(path: string): Recorded {
  try {
    return JSON.parse(readRegularText(path));
  } catch {
    return {};
  }
}

function configFigures(config: Recorded, last: MetricsRow | undefined): Figure[] {
  const { data, geometry, preset, recipe, batch, adapter_info } = config;
  const seconds = geometry && geometry.cropFrames / 100;
  const figures: (Figure | undefined)[] = [
    data && ["Data", data.length === 0 ? "built-in sounds" : data.map((it) => basename(it)).join()],
    seconds && last
      ? [
        "Audio heard",
        `${short(last.samples * seconds / 3600)} h: ${thousands(last.samples)} crops of ` +
        `${seconds} s, pass ${last.epoch + 1} over the data`,
      ]
      : undefined,
    batch ? ["Clips per update", thousands(batch)] : undefined,
    preset && recipe ? ["Preset and recipe", `${preset}, ${recipe}`] : undefined,
    adapter_info?.description ? ["Adapter", adapter_info.description] : undefined,
  ];
  return figures.filter((it) => it !== undefined);
}

function lossFigures(rows: readonly MetricsRow[], run: ListedRun): Figure[] {
  const settled = rows.slice(-Math.ceil(rows.length * SETTLED));
  const mean = (of: (row: MetricsRow) => number | undefined): string | undefined => {
    const values = settled.map(of).filter((it) => typeof it === "number");
    return values.length > 0 ? short(meanOf(values)) : undefined;
  };
  const losses = ([
    ["loss", mean((it) => it.loss)],
    ["prediction", mean((it) => it.loss_pred)],
    ["classification", mean((it) => it.loss_cls)],
  ] as const).filter(([, value]) => value !== undefined);
  const { steps, evaluation, seconds } = run;
  const figures: (Figure | undefined)[] = [
    steps === null ? undefined : ["Updates", thousands(steps)],
    losses.length === 0 ? undefined : [
      "Losses, mean over the last tenth of the log",
      losses.map(([name, value]) => `${name} ${value}`).join(", "),
    ],
    evaluation
      ? [
        "Evaluation during training",
        `${evaluation.metric} ${short(evaluation.score)} of a linear probe at update ` +
        thousands(evaluation.step),
      ]
      : undefined,
    seconds === null ? undefined : ["Hours of training", short(seconds / 3600)],
  ];
  return figures.filter((it) => it !== undefined);
}

/** Pooling in words. */
const POOLS: Readonly<Record<ClipPool, string>> = {
  mean: "their mean",
  max: "their maximum",
  "mean-std": "their mean and standard deviation",
};

/** What a clip's embedding is made of. */
function readoutText({ pool, blocks }: ClipReadout): string {
  const names = blocks?.map((it) => it === 0 ? "the patches before the first one" : `${it}`);
  return POOLS[pool] + (names ? `, of blocks ${names.join(", ")} side by side` : "");
}

const cell = (text: string): string => printable(text).replaceAll("|", "\\|");

function table(heading: Figure, figures: readonly Figure[]): string {
  return [heading, ["---", "---"] as const, ...figures]
    .map(([what, value]) => `| ${cell(what)} | ${cell(value)} |`).join("\n");
}

/** What {@link modelCard} is about. */
export interface CardOptions {
  /** The model's name. */
  readonly name: string;
  /** Licence of the weights, as the Hub names it. */
  readonly license: string;
  /** As config.json says them. */
  readonly config: HuggingFaceConfig;
  /** {@link trainingFigures}. */
  readonly figures: readonly Figure[];
}

/** The text of a model card, README.md of the folder. */
export function modelCard(
  { geometry, tensors, readout }: EncoderContent,
  { name, license, config, figures }: CardOptions,
): string {
  const title = SYSTEM_TITLES[config.system as keyof typeof SYSTEM_TITLES];
  const size = stepSize(geometry, "concat");
  const clipSize = embeddingSize(geometry, readout);
  const stepMs = geometry.patch[1] * 10;
  const parameters = encoderFileSpecs(geometry)
    .reduce((sum, { name }) => sum + countOf(tensors.get(name)!.shape), 0);
  const { rows } = gridOf(geometry);
  const sizes: Figure[] = [
    ["Parameters", `${thousands(parameters)}, positions included`],
    ["Blocks, width, heads", `${geometry.depth}, ${geometry.width}, ${geometry.heads}`],
    ["Patches", `${geometry.patch[0]} mel bands x ${stepMs} ms`],
    ["Embedding", `${size} values a step of ${stepMs} ms: ${rows} frequency bands side by side`],
    ["Chunks", `longer clips are cut into parts of ${geometry.cropFrames / 100} s`],
    [
      "Front end",
      `16 kHz, 80 log-mel bands (50 to 8000 Hz, 25 ms every 10 ms, frames ${config.framing}), ` +
      `mean ${config.mean}, deviation ${config.std}`,
    ],
  ];
  return `---
license: ${license}
library_name: transformers
pipeline_tag: feature-extraction
tags:
- audio
- audio-embedding
- self-supervised-learning
- ${config.system}
- tessera
---

# ${printable(name)}

An audio encoder, pre-trained with ${title}. It takes mono audio at 16 kHz and gives a vector for
each ${stepMs} ms and one for a clip, ${readoutText(readout)}. Code and weights are
in this folder; it needs torch and transformers.

\`\`\`python
from transformers import AutoFeatureExtractor, AutoModel

extract = AutoFeatureExtractor.from_pretrained(folder)
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
inputs = extract([waveform], sampling_rate=16000, padding=True, return_tensors="pt")
output = model(**inputs)
output.pooler_output      # [clips, ${clipSize}]
output.last_hidden_state  # [clips, steps, ${size}]
\`\`\`

Clips of different lengths may be given together: each gets the embedding that it has alone.
[X-ARES](https://github.com/jimbozhang/xares) takes \`TesseraEncoder\` of \`modeling_tessera.py\`
(\`python -m xares.run FOLDER/modeling_tessera.py src/tasks/*.py\`),
[MTEB](https://github.com/embeddings-benchmark/mteb) \`TesseraMteb(folder)\` for MAEB's tasks.

## Sizes

${table(["", ""], sizes)}
${figures.length === 0 ? "" : `\n## Training\n\n${table(["", ""], figures)}\n`}`;
}
