/**
 * A convolutional network that reads digits. The program draws its images itself: each digit is a
 * few strokes, shifted, slanted, stretched and covered with noise.
 *
 * ```sh
 * deno run tests/examples/digits.ts         # 150 steps: half a minute on two processor cores
 * deno run tests/examples/digits.ts 600 32  # steps, and channels of the first convolution
 * ```
 *
 * @module
 */
import * as t from "@tessera/tessera";

/** Pixels along each side of an image. */
const SIDE = 16;
const BATCH = 64;

/** Corners of each digit's strokes: x to the right and y down, in a box of 4 by 6. */
const STROKES: readonly (readonly (readonly [x: number, y: number][])[])[] = [
  [[[1, 0], [3, 0], [4, 2], [4, 4], [3, 6], [1, 6], [0, 4], [0, 2], [1, 0]]],
  [[[1, 1], [2, 0], [2, 6]], [[1, 6], [3, 6]]],
  [[[0, 1], [1, 0], [3, 0], [4, 1], [4, 2], [0, 6], [4, 6]]],
  [[[0, 0], [4, 0], [2, 2], [4, 4], [3, 6], [1, 6], [0, 5]]],
  [[[3, 6], [3, 0], [0, 4], [4, 4]]],
  [[[4, 0], [0, 0], [0, 3], [3, 2], [4, 4], [3, 6], [0, 6]]],
  [[[3, 0], [1, 1], [0, 4], [1, 6], [3, 6], [4, 4], [3, 3], [0, 4]]],
  [[[0, 0], [4, 0], [1, 6]]],
  [[[2, 3], [0, 1], [2, 0], [4, 1], [0, 5], [2, 6], [4, 5], [2, 3]]],
  [[[4, 2], [3, 3], [1, 3], [0, 1], [1, 0], [3, 0], [4, 2], [3, 6]]],
];

/** How far a point lies from the line between two others. */
function distance([x, y]: number[], [ax, ay]: readonly number[], [bx, by]: readonly number[]) {
  const [dx, dy] = [bx - ax, by - ay];
  const along = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy);
  const nearest = Math.min(1, Math.max(0, along));
  return Math.hypot(x - ax - nearest * dx, y - ay - nearest * dy);
}

/** Images [count, 1, SIDE, SIDE] of random digits, and which digits they are. */
function draw(count: number, random: t.Prng): { pixels: Float32Array; digits: Uint32Array } {
  const pixels = new Float32Array(count * SIDE * SIDE);
  const digits = Uint32Array.from({ length: count }, () => random.integer(10));
  digits.forEach((digit, n) => {
    const size = random.uniform(1.5, 2);
    const [left, top] = [random.uniform(2, 6), random.uniform(1, 3)];
    const slant = random.uniform(-0.25, 0.25);
    const lines = STROKES[digit].flatMap((stroke) =>
      stroke.slice(1).map((end, i) =>
        [stroke[i], end].map(([x, y]) => [left + size * (x + slant * (3 - y)), top + size * y])
      )
    );
    for (let i = 0; i < SIDE * SIDE; i++) {
      const pixel = [i % SIDE, Math.floor(i / SIDE)];
      const nearest = Math.min(...lines.map(([a, b]) => distance(pixel, a, b)));
      // A stroke is a pixel and a half wide, and fades out.
      const ink = Math.min(1, Math.max(0, 1.5 - nearest));
      pixels[n * SIDE * SIDE + i] = ink + 0.2 * random.normal();
    }
  });
  return { pixels, digits };
}

/** What a run is like. */
export interface Options {
  /** Updates, of 64 images each. */
  readonly steps?: number;
  /** Channels of the first convolution; the second has twice as many. */
  readonly channels?: number;
  /** Images that are drawn for the test alone. */
  readonly unseen?: number;
  /** Where messages go. */
  readonly log?: (line: string) => void;
}

/** Trains the network; gives the share of unseen images that it reads rightly. */
export async function readDigits(
  { steps = 150, channels = 16, unseen = 1000, log = console.log }: Options = {},
): Promise<number> {
  using device = await t.openDevice();
  const random = new t.Prng(1);
  using model = new t.Sequential(
    // Batch normalisation shifts by itself, so the convolutions before it need no bias.
    new t.Conv2d(device, 1, channels, 3, random, { padding: "same", bias: false }),
    new t.BatchNorm(device, channels),
    t.relu,
    (x) => t.maxPool2d(x, 2),
    new t.Conv2d(device, channels, 2 * channels, 3, random, { padding: "same", bias: false }),
    new t.BatchNorm(device, 2 * channels),
    t.relu,
    (x) => t.maxPool2d(x, 2),
    (x) => x.flatten(1),
    new t.Dropout(device, 0.25, random),
    new t.Linear(device, 2 * channels * (SIDE / 4) ** 2, 10, random),
  );
  using optimizer = new t.Adam(model.parameters(), { rate: 5e-3 });
  const rate = t.warmupCosine(5e-3, 10, steps);

  // The first batch serves as the pattern of all: `capture` records a step for tensors like these.
  const batch = () => {
    const { pixels, digits } = draw(BATCH, random);
    return [pixels, digits] as const;
  };
  const [pixels, digits] = batch();
  using images = device.tensor(pixels, [BATCH, 1, SIDE, SIDE]);
  using labels = device.tensor(digits);
  using step = t.capture(device, [images, labels], (images, labels) => {
    optimizer.zeroGrad();
    const loss = t.crossEntropy(model.apply(images), labels, { reduction: "mean" });
    loss.backward();
    optimizer.update();
    return loss;
  });
  for (let i = 0; i < steps; i++) {
    optimizer.advance(rate(i));
    const loss = step.replay(batch());
    // Reading waits for the device; now and then is enough.
    if (i % 50 === 49) log(`step ${i + 1}: loss ${(await loss.item()).toFixed(3)}`);
  }

  // Evaluation: running averages in place of the batch's, and nothing dropped.
  model.train(false);
  const test = draw(unseen, random);
  const guesses = t.scope(() => {
    const x = device.tensor(test.pixels, [unseen, 1, SIDE, SIDE]);
    return t.noGrad(() => model.apply(x)).argmax({ axis: 1 });
  });
  const read = await guesses.data<Uint32Array>();
  const accuracy = read.filter((digit, n) => digit === test.digits[n]).length / unseen;
  log(`${(100 * accuracy).toFixed(1)} % of ${unseen} unseen digits are read rightly`);
  return accuracy;
}

if (import.meta.main) {
  const [steps, channels] = Deno.args.map(Number);
  await readDigits({ steps, channels });
}
