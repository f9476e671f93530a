/**
 * A classifier of sounds: spectrograms by a short-time Fourier transform, a convolution over them,
 * and a gated recurrent unit that reads the result from start to end. The program makes its sounds
 * itself: rising and falling chirps, steady tones and bursts of noise, all with noise around them.
 *
 * ```sh
 * deno run tests/examples/sounds.ts         # 60 steps: half a minute on two processor cores
 * deno run tests/examples/sounds.ts 300 64  # steps, and width of the recurrent unit
 * ```
 *
 * @module
 */
import * as t from "@tessera/tessera";

/** Samples per second. */
const RATE = 8000;
/** Samples of a sound: half a second. */
const LENGTH = 4000;
/** Of the Fourier transform: samples of a frame, and between frames. */
const [SIZE, HOP] = [256, 128];
const BATCH = 32;
const KINDS = ["a rising chirp", "a falling chirp", "a tone", "a burst of noise"] as const;

/** Sounds [count, LENGTH] of random kinds, and which kinds they are. */
function make(count: number, random: t.Prng): { samples: Float32Array; kinds: Uint32Array } {
  const samples = new Float32Array(count * LENGTH);
  const kinds = Uint32Array.from({ length: count }, () => random.integer(KINDS.length));
  kinds.forEach((kind, n) => {
    const volume = random.uniform(0.3, 1);
    const [start, length] = [random.integer(LENGTH / 2), LENGTH / 4 + random.integer(LENGTH / 4)];
    const [low, high] = [random.uniform(300, 900), random.uniform(1500, 3500)];
    // Frequencies at the beginning and at the end, in Hz; a tone may be anywhere between.
    const tone = random.uniform(low, high);
    const [first, last] = [[low, high], [high, low], [tone, tone], [0, 0]][kind];
    let phase = 0;
    for (let i = 0; i < LENGTH; i++) {
      const along = (i - start) / length;
      let value = 0;
      if (along >= 0 && along < 1) {
        phase += 2 * Math.PI * (first + (last - first) * along) / RATE;
        value = kind === 3 ? 0.7 * random.normal() : Math.sin(phase);
        value *= Math.sin(Math.PI * along); // no clicks at either end
      }
      samples[n * LENGTH + i] = volume * value + 0.05 * random.normal();
    }
  });
  return { samples, kinds };
}

/** Spectrogram, convolution, recurrent unit and a linear layer. */
class Listener extends t.Module {
  protected readonly parts;
  /** What is saved and freed with the parameters, but not trained. */
  protected override readonly buffers;

  constructor(device: t.Device, width: number, seed: t.Seed) {
    super();
    const bins = SIZE / 2 + 1;
    this.parts = {
      // Bins are channels, and the convolution goes along the time.
      conv: new t.Conv1d(device, bins, width, 5, seed, { stride: 2, padding: 2 }),
      norm: new t.LayerNorm(device, width),
      gru: new t.GRU(device, width, width, seed, { batchFirst: true }),
      head: new t.Linear(device, width, KINDS.length, seed),
    };
    // `keep`: it lives as long as the layer, whatever scope that is made in.
    this.buffers = { window: t.keep(t.hannWindow(device, SIZE)) };
  }

  /** Logits [batch, kinds] for sounds [batch, samples]. */
  apply(samples: t.Tensor): t.Tensor {
    const { conv, norm, gru, head } = this.parts;
    const spectrum = t.stft(samples, { size: SIZE, hop: HOP, window: this.buffers.window });
    // Real and imaginary parts to loudness: [batch, frames, bins].
    const loudness = spectrum.square().sum({ axes: [-1] }).add(1e-2).log();
    const heard = conv.apply(loudness.transpose()).transpose().relu();
    const states = gru.apply(norm.apply(heard));
    // What it has heard at any time: [batch, frames, width] to [batch, width].
    return head.apply(states.max({ axes: [1] }));
  }
}

/** What a run is like. */
export interface Options {
  /** Updates, of 32 sounds each. */
  readonly steps?: number;
  /** Channels of the convolution, and size of the recurrent unit's state. */
  readonly width?: number;
  /** Sounds that are made for the test alone. */
  readonly unseen?: number;
  /** Where messages go. */
  readonly log?: (line: string) => void;
}

/** Trains the classifier; gives the share of unseen sounds whose kind it hears. */
export async function hearSounds(
  { steps = 60, width = 32, unseen = 500, log = console.log }: Options = {},
): Promise<number> {
  using device = await t.openDevice();
  const random = new t.Prng(1);
  using model = new Listener(device, width, random);
  using optimizer = new t.Adam(model.parameters(), { rate: 0, clipNorm: 1 });
  const rate = t.warmupCosine(1e-2, 5, steps);
  using step = t.jit(device, (samples: t.Tensor, kinds: t.Tensor) => {
    optimizer.zeroGrad();
    const loss = t.crossEntropy(model.apply(samples), kinds, { reduction: "mean" });
    loss.backward();
    optimizer.update();
    return loss;
  });
  for (let i = 0; i < steps; i++) {
    const { samples, kinds } = make(BATCH, random);
    optimizer.advance(rate(i));
    using loss = t.scope(() => step(device.tensor(samples, [BATCH, LENGTH]), device.tensor(kinds)));
    if (i % 20 === 19) log(`step ${i + 1}: loss ${(await loss.item()).toFixed(3)}`);
  }

  const { samples, kinds } = make(unseen, random);
  using guesses = t.scope(() =>
    t.noGrad(() => model.apply(device.tensor(samples, [unseen, LENGTH]))).argmax({ axis: 1 })
  );
  const heard = await guesses.data<Uint32Array>();
  const accuracy = heard.filter((kind, n) => kind === kinds[n]).length / unseen;
  const wrong = heard.findIndex((kind, n) => kind !== kinds[n]);
  log(`${(100 * accuracy).toFixed(1)} % of ${unseen} unseen sounds are told apart`);
  if (wrong >= 0) log(`(such as ${KINDS[kinds[wrong]]}, heard as ${KINDS[heard[wrong]]})`);
  return accuracy;
}

if (import.meta.main) {
  const [steps, width] = Deno.args.map(Number);
  await hearSounds({ steps, width });
}
