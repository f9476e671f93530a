/** Schedules for tests. */
import type { Schedules } from "../../train/run/schedule.ts";

/** Schedules of a short run that stay the same, but for those that are given. */
export function constantSchedules(given: Partial<Schedules> = {}): Schedules {
  return {
    total: 100,
    lr: () => 1e-3,
    teacherTemp: () => 0.05,
    emaEncoder: () => 0.9,
    emaHead: () => 0.8,
    choiceTemperature: () => 0.1,
    ...given,
  };
}
