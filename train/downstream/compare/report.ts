/**
 * A comparison for people: Markdown.
 *
 * @module
 */
import { DEVIATIONS } from "../../../model/objectives/recipe.ts";
import { type Estimate, isClear } from "./intervals.ts";
import { markdownTable } from "../../cli/table.ts";
import type { Plan } from "./plan.ts";
import type { Column, Comparison, Differences, Row } from "./results.ts";
import { isFailure } from "./runs.ts";

/** Crops that the paper trains on: 300 epochs of its data set. */
const PAPER_CROPS = 300 * DEVIATIONS["dataset-size"].paper.choices.epochClips;

/** Percent with one digit, and half the interval. */
function scoreText(score: Estimate | null): string {
  if (score === null) return "-";
  const half = score.ci95 === null ? "" : ` ± ${points(score.ci95)}`;
  return `${points(score.mean)}${half}`;
}

function differenceText(score: Estimate | null): string {
  if (score === null) return "-";
  const text = `${score.mean < 0 ? "" : "+"}${scoreText(score)}`;
  return isClear(score) ? `**${text}**` : text;
}

const points = (share: number): string => (100 * share).toFixed(1);

const columnTitle = ({ dataset, metric, tuned }: Column): string =>
  `${dataset}, ${metric}${tuned ? ", tuned" : ""}`;

function scoreRows({ columns, rows }: Comparison, seeds: readonly number[]): string[][] {
  return [
    [
      "features",
      ...columns.map(columnTitle),
      ...["samples/s", "trained parameters", "loss_pred", "loss_cls"],
    ],
    ...rows.map(({ title, seeds: own, training, scores }: Row) => [
      own === undefined || own.length === seeds.length
        ? title
        : own.length === 0
        ? `${title} (failed)`
        : `${title} (${own.length} of ${seeds.length} seeds)`,
      ...scores.map(scoreText),
      training?.samples_per_s.toPrecision(3) ?? "",
      training ? `${(training.trained_parameters / 1e6).toFixed(2)} M` : "",
      training?.loss_pred.toPrecision(3) ?? "",
      training?.loss_cls?.toPrecision(3) ?? "",
    ]),
  ];
}

function differenceRows(
  { columns, rows: all }: Comparison,
  { reference, rows }: Differences,
): string[][] {
  const { title } = all.find(({ key }) => key === reference)!;
  return [
    [`minus ${title}`, ...columns.map(columnTitle)],
    ...rows.map(({ title, scores }) => [title, ...scores.map(differenceText)]),
  ];
}

/** How much was trained, and how much that is of the paper's. */
function trainingText({ runs, seeds, objectives }: Plan, found: Comparison): string {
  const [{ config: { batch, geometry, data, preset, recipe, lr } }] = runs;
  const finished = found.runs.flatMap(({ result }) => isFailure(result) ? [] : [result]);
  if (finished.length === 0) return "No run came to its end.";
  const [{ steps, adapter }] = finished;
  const crops = steps * batch;
  const rates = new Set(runs.map(({ config }) => config.lr));
  const share = crops / PAPER_CROPS;
  return [
    `${objectives.length} objectives, seeds ${
      seeds.join(", ")
    }. Each run: ${steps} updates of ${batch} crops of ` +
    `${geometry.cropFrames / 100} s, ${crops} crops, which are ${
      (100 * share).toPrecision(2)
    } % of the paper's.`,
    `Preset ${preset}, recipe ${recipe}${
      rates.size === 1 ? `, learning rate ${lr}` : ""
    }: the same for all and fitted to none. Mask ratio, gradient clipping and the like are each ` +
    "objective's own.",
    `Data: ${data.length > 0 ? data.join(", ") : "the built-in synthetic corpus"}.`,
    `Adapter: ${adapter}.`,
  ].join(" ");
}

/** What the numbers are, and what they are not. */
function readingText({ seeds, protocol }: Plan, { columns }: Comparison): string[] {
  const several = seeds.length > 1;
  const [repeated, over] = protocol === "hear"
    ? ["folds", "folds where events are looked for, else there is none"]
    : ["repeats and folds", "repeats (1.96 sd / sqrt(n))"];
  return [
    `- Scores are percent, of ${
      protocol === "hear" ? "perceptrons" : "linear probes"
    } on frozen embeddings under protocol ${protocol}; a seed's score is the mean over ` +
    `${repeated}. ` +
    (several
      ? "± is the 95 % interval of the mean over seeds (Student's t), of log-mel, which has no " +
        "seed, the probe's own " +
        `over ${over}.`
      : `With one seed ± is the probe's own interval over ${over}: it says nothing about ` +
        `another training.`),
    ...columns.some(({ tuned }) => tuned)
      ? [
        "- Tuned: on standardised embeddings, with the best of the learning rates 1e-3, 1e-2 and " +
        "1e-1 on validation clips. The protocol's one low rate is hard on features of few " +
        "values, so an encoder is to be held against the tuned baselines.",
      ]
      : [],
    "- Differences are in points, paired by seed: runs of one seed see the same crops in the " +
    "same order, and all probes have the same draws. " +
    (seeds.length > 2
      ? "Bold ones are of three seeds or more and have 0 outside their 95 % interval; of many " +
        "some are bold by chance, and " +
        "nothing corrects for that."
      : "With fewer than three seeds none of them is marked."),
    "- Intervals are about seeds alone. Other clips to train on or to probe on, other learning " +
    "rates or longer runs may turn the order round.",
    "- Losses are means over the last tenth of the rows; each objective's is of its own " +
    "targets, so they compare with nothing here.",
    "- Samples per second are of this machine: medians over a run's rows without the first " +
    "tenth, then over seeds.",
  ];
}

/** The text of compare.md. */
export function markdownOf(plan: Plan, found: Comparison, command: string): string {
  const { differences, failures } = found;
  const parts = [
    ...["# Comparison of objectives", ""],
    ...["```sh", command, "```", ""],
    ...[trainingText(plan, found), ""],
    ...[...markdownTable(scoreRows(found, plan.seeds)), ""],
    ...differences.filter(({ rows }) => rows.length > 0).flatMap((it) => [
      ...markdownTable(differenceRows(found, it)),
      "",
    ]),
    ...readingText(plan, found),
    ...failures.length > 0 ? ["", "Failed:", ""] : [],
    ...failures.map(({ name, reason }) => `- ${name}: ${reason}`),
  ];
  return `${parts.join("\n")}\n`;
}
