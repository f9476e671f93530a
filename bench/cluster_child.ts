/** One rank of cluster.ts: measures sums and updates in turns, and rank 0 says what it found. */
import { openDevice } from "../engine/mod.ts";
import { Prng } from "../engine/prng.ts";
import { initialise } from "../model/objectives/initialise.ts";
import { randomMask } from "../model/objectives/masking.ts";
import { patchGrid } from "../model/vit/geometry.ts";
import { openGroup } from "../train/cluster/group.ts";
import { resolveConfig } from "../train/config/config.ts";
import { buildModel, stepSettings } from "../train/run/model_from_config.ts";
import { schedulesOf } from "../train/run/schedule.ts";
import { Trainer } from "../train/run/update.ts";
import type { ClusterTimes } from "./cluster.ts";
import { MARK } from "./peers/workloads.ts";

/** 16 MiB, as a bucket of gradients, several times. */
const BUCKET = 2 ** 22;
const BUCKETS = 4;
const ROUNDS = 4;
const UPDATES = 3;

const group = await openGroup({ timeout: 120 });
const { rank, size } = group;
try {
  const shared = Array.from(
    { length: BUCKETS },
    () => new Float32Array(new SharedArrayBuffer(4 * BUCKET)).fill(1),
  );
  const copy = new Float32Array(BUCKET);
  const [sums, copies]: number[][] = [[], []];
  for (let round = 0; round <= ROUNDS; round++) {
    await group.gather("");
    let before = performance.now();
    await Promise.all(shared.map((values) => group.sum(values, "sequence")));
    const sum = performance.now() - before;
    before = performance.now();
    for (const values of shared) copy.set(values);
    // The first touches memory.
    if (round === 0) continue;
    copies.push(performance.now() - before);
    sums.push(sum);
  }
  const bytes = 4 * BUCKET * BUCKETS;
  const rate = (times: readonly number[]) => bytes / Math.min(...times) / 1e6;

  using device = await openDevice();
  const words = [
    ...["--batch", String(2 * size), "--micro-batch", "1"],
    ...["--crop-frames", "48", "--steps", "100"],
  ];
  const config = resolveConfig(words, new Date(), size);
  const trainers = [group.sum.bind(group), () => Promise.resolve()].map((sum) => {
    const model = buildModel(device, config);
    initialise(model, new Prng(1));
    const settings = { ...stepSettings(config), group: { size, sum } };
    return new Trainer(device, model, schedulesOf(config, 1024), settings);
  });
  const { geometry } = config;
  const { patches } = patchGrid(geometry);
  const random = new Prng(2, rank);
  using input = device.tensor(
    Float32Array.from({ length: 80 * geometry.cropFrames }, () => random.normal()),
    [1, 80, geometry.cropFrames],
  );
  const mask = randomMask(() => random.uniform(), 1, patches, geometry.maskRatio);
  const update = async (trainer: Trainer) => {
    await group.gather("");
    const before = performance.now();
    while (!await trainer.stepTogether(input, mask));
    await device.sync();
    return performance.now() - before;
  };
  const [step, alone]: number[][] = [[], []];
  for (let i = 0; i <= UPDATES; i++) {
    const [together, apart] = [await update(trainers[0]), await update(trainers[1])];
    // The first compiles.
    if (i === 0) continue;
    step.push(together);
    alone.push(apart);
  }
  const times: ClusterTimes = {
    library: group.library ?? "no MPI",
    exchange_gbps: rate(sums),
    memcpy_gbps: rate(copies),
    step_ms: step,
    alone_ms: alone,
  };
  if (rank === 0) console.log(MARK + JSON.stringify(times));
} catch (error) {
  await group.abort(error);
}
await group.finish();
