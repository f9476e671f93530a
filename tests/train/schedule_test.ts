/** SPEC section 13 item 7: spot values of section 4. */
import { assertAlmostEquals, assertEquals } from "@std/assert";
import { peakLearningRate, PRESETS } from "../../model/presets.ts";
import {
  emaDecay,
  learningRate,
  multipleChoiceTemperature,
  schedulesOf,
  teacherTemperature,
} from "../../train/schedule.ts";

Deno.test("the published schedules have their spot values", () => {
  const [total, warmup] = [294_816, 19_654];
  assertEquals(learningRate(0, 3e-4, warmup, total), 0);
  assertAlmostEquals(learningRate(9827, 3e-4, warmup, total), 1.5e-4, 1e-12);
  assertAlmostEquals(learningRate(100_000, 3e-4, warmup, total), 2.4119e-4, 1e-8);
  assertAlmostEquals(learningRate(200_000, 3e-4, warmup, total), 7.9637e-5, 1e-9);
  assertEquals(teacherTemperature(0, 0.04, 0.07, 9827), 0.04);
  assertAlmostEquals(teacherTemperature(9827, 0.04, 0.07, 9827), 0.07, 1e-15);
  assertEquals(teacherTemperature(50_000, 0.04, 0.07, 9827), 0.07);
  assertAlmostEquals(emaDecay(100_000, 0.99995, 0.99999, total), 0.99996357, 1e-8);
  assertAlmostEquals(emaDecay(100_000, 0.998, 1, total), 0.99867839, 1e-8);
  // SPEC section 9 row 13: at and past the end the head's decay is 1.
  assertEquals(emaDecay(total, 0.998, 1, total), 1);
  assertEquals(emaDecay(total + 5, 0.998, 1, total), 1);
  // MATPAC++ turns hard at u = 230,256.
  assertEquals(multipleChoiceTemperature(230_255) > 1e-4, true);
  assertEquals(multipleChoiceTemperature(230_256) > 1e-4, false);
});

Deno.test("base follows the published lengths from 2,012,615 clips", () => {
  const { training } = PRESETS.base;
  const schedules = schedulesOf({ ...training, lr: 3e-4 }, 2_012_615);
  assertEquals(schedules.total, 294_816);
  assertAlmostEquals(schedules.lr(9827), 1.5e-4, 1e-12);
  assertAlmostEquals(schedules.lr(19_654), 3e-4, 1e-12);
  assertAlmostEquals(schedules.teacherTemp(9827), 0.07, 1e-15);
  assertAlmostEquals(schedules.emaEncoder(100_000), 0.99996357, 1e-8);
});

Deno.test("the paper scales the rate with the batch, the released code does not", () => {
  const { peakRate, batch } = PRESETS.base.training;
  assertAlmostEquals(peakLearningRate(peakRate.paper, batch), 2.4e-3, 1e-15);
  assertEquals(peakLearningRate(peakRate.released, batch), 3e-4);
});

Deno.test("a run without warm-up starts at the peak and ends at zero", () => {
  assertEquals(learningRate(0, 1, 0, 10), 1);
  assertAlmostEquals(learningRate(10, 1, 0, 10), 0, 1e-15);
});
