/**
 * Holds linear probes and their metrics against the set `probe`.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { LinearProbes, ProbeTable } from "../downstream/probe/linear_probes.ts";
import {
  accuracyOf,
  averagePrecision,
  balancedAccuracyOf,
  classTargets,
  type ClipClasses,
  confusionOf,
  meanAveragePrecision,
  meanLoss,
} from "../downstream/probe/metrics.ts";
import { type CheckRow, Report, TOLERANCES } from "./report.ts";
import type { GoldenSet, GoldenTensor } from "./golden.ts";

/** Runs all checks of the set. */
export async function verifyProbe(device: Device, golden: GoldenSet): Promise<CheckRow[]> {
  const report = new Report("probe");
  await training(device, golden, report, "single");
  await training(device, golden, report, "multi");
  metrics(golden, report);
  return report.rows;
}

/** Classes of each row of a table of 0 and 1. */
function classesOf({ shape: [rows, classes], data }: GoldenTensor): number[][] {
  return Array.from(
    { length: rows },
    (_, i) => Array.from({ length: classes }, (_, k) => k).filter((k) => data[i * classes + k] > 0),
  );
}

async function training(
  device: Device,
  golden: GoldenSet,
  report: Report,
  kind: "single" | "multi",
): Promise<void> {
  const { lr, batch, epochs, classes } = golden.json.hyperparameters;
  const expected = golden.json.scalars[kind];
  const truthOf = (part: string): ClipClasses =>
    kind === "multi"
      ? classesOf(golden.get(`${part}.y_multi`))
      : Array.from(golden.get(`${part}.y`).data, (label) => [label]);
  const known = truthOf("val");
  const truth = [...truthOf("train"), ...known];
  const [train, validation] = ["train.x", "val.x"].map((name) => golden.get(name));
  const features = new Float32Array(train.data.length + validation.data.length);
  features.set(train.data);
  features.set(validation.data, train.data.length);
  using table = new ProbeTable(device, truth.length, features, classTargets(truth, classes));
  const start = {
    weight: golden.get("init.weight").data as Float32Array,
    bias: golden.get("init.bias").data as Float32Array,
  };
  const loss = kind === "multi" ? "binary" : "cross-entropy";
  using probes = new LinearProbes(table, [start], { loss, rate: lr, batch });
  const rows = train.shape[0];
  const others = known.map((_, i) => rows + i);
  const scores = async () => ({ values: (await probes.logits([others]))[0], classes });
  const losses = [meanLoss(await scores(), known, loss)];
  const batchLosses: number[] = [];
  const order = golden.get("order").data;
  for (let epoch = 0; epoch < epochs; epoch++) {
    const own = order.subarray(epoch * rows, (epoch + 1) * rows);
    for (let first = 0; first < rows; first += batch) {
      probes.step([own.subarray(first, first + batch)]);
      batchLosses.push((await probes.losses())[0]);
    }
    losses.push(meanLoss(await scores(), known, loss));
  }
  probes.keep([true]);
  const [{ weight, bias }] = await probes.kept();
  const compare = (name: string, actual: ArrayLike<number>, expected: ArrayLike<number>) =>
    report.compare(`${kind}.${name}`, actual, expected, TOLERANCES.probe);
  compare("batch_losses", batchLosses, expected.batch_losses_float64);
  compare("val_losses", losses, expected.val_losses_before_and_after_each_epoch_float64);
  compare("final.weight", weight, golden.get(`${kind}.final.weight`).data);
  compare("final.bias", bias, golden.get(`${kind}.final.bias`).data);
  const final = await scores();
  compare("final.val_logits", final.values, golden.get(`${kind}.final.val_logits`).data);
  // Of the reference's logits: ranks of ours may differ where two of them all but coincide.
  const judged = { ...final, values: golden.get(`${kind}.final.val_logits`).data as Float32Array };
  if (kind === "single") {
    const accuracy = accuracyOf(confusionOf(judged, known));
    report.compare("single.val_accuracy", [accuracy], [expected.val_accuracy], TOLERANCES.metric);
  } else {
    const mAP = meanAveragePrecision(judged, known);
    report.compare("multi.val_mAP", [mAP], [expected.val_mAP], {
      max: 1e-8,
      l2: 1e-8,
      reason: "the reference divided float32 counts here",
    });
  }
}

function metrics(golden: GoldenSet, report: Report): void {
  const precision = golden.json.scalars.average_precision;
  const labels = golden.get("metrics.labels");
  const [, classes] = labels.shape;
  const truth = classesOf(labels);
  const scores = { values: golden.get("metrics.scores").data as Float32Array, classes };
  const compare = (name: string, actual: ArrayLike<number>, expected: ArrayLike<number>) =>
    report.compare(name, actual, expected, TOLERANCES.metric);
  compare(
    "average_precision per class",
    Array.from({ length: classes }, (_, k) =>
      averagePrecision(
        truth.map((_, clip) => scores.values[clip * classes + k]),
        (clip) => truth[clip].includes(k),
      )),
    precision.per_class,
  );
  compare("mAP, classes without positives as 0", [meanAveragePrecision(scores, truth, "zero")], [
    precision.mAP_all_classes_zero_for_no_positive,
  ]);
  compare("mAP, classes without positives left out", [meanAveragePrecision(scores, truth)], [
    precision.mAP_classes_with_positives_only,
  ]);
  const accuracy = golden.json.scalars.accuracy;
  const { shape, data } = golden.get("accuracy.scores");
  const confusion = confusionOf(
    { values: data as Float32Array, classes: shape[1] },
    Array.from(golden.get("accuracy.labels").data, (label) => [label]),
  );
  compare("confusion", confusion.flat(), accuracy.confusion_rows_true_columns_predicted.flat());
  compare("accuracy", [accuracyOf(confusion)], [accuracy.accuracy]);
  compare("balanced accuracy", [balancedAccuracyOf(confusion)], [
    accuracy.balanced_accuracy_mean_recall_over_classes_present,
  ]);
}
