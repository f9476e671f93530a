/**
 * One encoder for many callers: what is asked for at once is bit for bit what each gets alone;
 * giving up, progress, rates, live audio, warming up, and what is said to those who pass no audio.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Prng } from "../../../engine/prng.ts";
import { openDevice, ShapeError } from "../../../engine/mod.ts";
import type { EmbedProgress } from "../../../model/encoder/embed_service.ts";
import type { EmbeddedStep, StreamOptions } from "../../../model/encoder/embed_stream.ts";
import {
  loadEncoder,
  type TogetherOptions,
  type WarmUpProgress,
} from "../../../model/encoder/encoder.ts";
import { resample } from "../../../model/frontend/resample.ts";
import { encoderFile } from "../../support/golden_encoder.ts";

const device = await openDevice();
const encoder = await loadEncoder(device, encoderFile());

/** A chunk of this encoder is 64 frames: 10,480 samples, of which 10,240 are new ones. */
const [CHUNK, STEP] = [10_240, 2560];

function noise(samples: number, seed: number): Float32Array {
  const random = new Prng(seed);
  return Float32Array.from({ length: samples }, () => random.uniform() - 0.5);
}

Deno.test("service: 20 callers at once get what each gets alone, in fewer dispatches", async () => {
  const clips = Array.from({ length: 20 }, (_, i) => noise([3000, CHUNK + 240, 97_520][i % 3], i));
  const options: TogetherOptions[] = [{}, { pool: "none", layers: true }];
  const ask = (i: number) => encoder.embed(clips[i], options[i % 2]);
  const dispatches = () => device.counters.dispatches;
  const start = dispatches();
  const alone = [];
  for (let i = 0; i < clips.length; i++) alone.push(await ask(i));
  const between = dispatches();
  assertEquals(await Promise.all(clips.map((_, i) => ask(i))), alone);
  const [apart, together] = [between - start, dispatches() - between];
  assert(together < apart / 3, `${together} dispatches together, ${apart} apart`);
});

Deno.test("service: a request waits no longer than the least patient one", async () => {
  const patient = encoder.embed(noise(3000, 1), { waitMs: 3_600_000 });
  await encoder.embed(noise(3000, 2), { waitMs: 0 });
  await patient;
});

Deno.test("service: who gives up or sends what cannot be embedded is alone in it", async () => {
  const clips = Array.from({ length: 4 }, (_, i) => noise(25_000, i));
  const expected = await encoder.embed(clips[3]);
  const controller = new AbortController();
  const reason = new Error("the caller left");
  const bad = clips[1].slice();
  bad[20_000] = NaN;
  const { signal } = controller;
  const asked = [
    encoder.embed(clips[0], { signal }),
    encoder.embed(bad),
    encoder.embed(clips[2], {
      onProgress: () => {
        throw new RangeError("the caller's own");
      },
    }),
    encoder.embed(clips[3]),
  ];
  controller.abort(reason);
  const settled = await Promise.allSettled(asked);
  assertEquals(settled.map(({ status }) => status), [
    "rejected",
    "rejected",
    "rejected",
    "fulfilled",
  ]);
  const [left, notNumber, own, good] = settled as [
    PromiseRejectedResult,
    PromiseRejectedResult,
    PromiseRejectedResult,
    PromiseFulfilledResult<unknown>,
  ];
  assertEquals(left.reason, reason);
  assert(notNumber.reason instanceof ShapeError && own.reason instanceof RangeError);
  assertEquals(notNumber.reason.message.slice(0, 40), "embed: sample 20000 of the waveform is N");
  assertEquals(good.value, expected);
  assertEquals(await assertRejects(() => encoder.embed(clips[0], { signal })), reason);
  assertEquals(await encoder.embed([]), []);
});

Deno.test("service: progress counts chunks, whatever else goes along", async () => {
  const seen: EmbedProgress[] = [];
  // 25,000 samples are 154 frames: three chunks; 3000 are one.
  const clips = [noise(25_000, 1), noise(3000, 2)];
  await Promise.all([
    encoder.embed(clips, { onProgress: (it) => seen.push(it) }),
    encoder.embed(noise(50_000, 3)),
  ]);
  assertEquals(seen, [1, 2, 3, 4].map((done) => ({ done, total: 4 })));
});

Deno.test("service: audio of another rate is resampled as files are", async () => {
  const wave = noise(150_000, 4);
  const expected = await encoder.embed(resample(wave, 44_100, 16_000));
  assertEquals(await encoder.embed(wave, { sampleRate: 44_100 }), expected);
  const together = { batchStatistics: true, sampleRate: 44_100 };
  assertEquals(
    await encoder.embed([wave], together),
    await encoder.embed([resample(wave, 44_100, 16_000)], { batchStatistics: true }),
  );
  await assertRejects(() => encoder.embed(wave, { sampleRate: 0 }), RangeError, "from 0 to 16000");
});

Deno.test("service: what is no audio is named with what is wanted", async () => {
  const wanted = "; a mono waveform (Float32Array, samples in [-1, 1]) or " +
    "{ logMel: Float32Array of [bands, frames] } is needed";
  const cases: [unknown, string][] = [
    ["dog.wav", "embed: audio is a path (dog.wav); loadWaveform of ./train reads audio files"],
    [[0.5, 1], "embed: audio is an array of numbers; Float32Array.from makes a waveform of it"],
    [
      new Uint8Array(9),
      "embed: audio is bytes; decodeAudio of ./train makes waveforms of a file's",
    ],
    [
      [noise(400, 1), "a.wav"],
      "embed: clip 1 is a path (a.wav); loadWaveform of ./train reads audio",
    ],
    [new Int16Array(3), "embed: audio is an Int16Array; Float32Array.from(it, (x) => x / 32768)"],
    [new Float64Array(3), `embed: audio is a Float64Array${wanted}`],
    [undefined, `embed: audio is undefined${wanted}`],
    [{ logmel: [] }, `embed: audio is an object without logMel: Float32Array${wanted}`],
  ];
  for (const [audio, message] of cases) {
    const error = await assertRejects(() => encoder.embed(audio as Float32Array), ShapeError);
    assertEquals(error.message.slice(0, message.length), message);
    assert(error.message.endsWith(wanted));
  }
});

/** A waveform in blocks of odd lengths; `read` is told how much was taken. */
async function* live(wave: Float32Array, read: (samples: number) => void = () => {}) {
  for (let at = 0; at < wave.length; at += 1777) {
    const block = wave.subarray(at, at + 1777);
    await Promise.resolve();
    read(at + block.length);
    yield block;
  }
}

async function stepsOf(wave: Float32Array, options: StreamOptions = {}): Promise<EmbeddedStep[]> {
  return await Array.fromAsync(encoder.embedStream(live(wave), options));
}

Deno.test("live audio: chunk by chunk, the steps of the whole", async () => {
  for (const samples of [1, 399, CHUNK, CHUNK + 240, 2 * CHUNK + 7000]) {
    const wave = noise(samples, samples);
    const { values, times } = await encoder.embed(wave, { pool: "none" });
    const steps = await stepsOf(wave);
    assertEquals(steps.map(({ time }) => time), [...times!]);
    assertEquals(steps.flatMap((it) => [...it.values]), [...values]);
  }
  assertEquals(await stepsOf(new Float32Array(0)), []);
  const wave = noise(70_000, 9);
  const expected = await stepsOf(resample(wave, 48_000, 16_000));
  assertEquals(await stepsOf(wave, { sampleRate: 48_000 }), expected);
});

Deno.test("live audio: with a hop, each step once and soon, from a chunk's length of sound", async () => {
  const wave = noise(2 * CHUNK + 7000, 5);
  let taken = 0;
  const found: EmbeddedStep[] = [];
  const hopMs = 320;
  for await (const step of encoder.embedStream(live(wave, (n) => taken = n), { hopMs })) {
    // The end of its last frame, two steps of hop and a block: never later.
    const latest = step.time * 16 + 2 * STEP + 240 + 1777;
    assert(taken <= Math.max(latest, 0) || taken === wave.length, `${step.time} ms at ${taken}`);
    found.push(step);
  }
  const { times } = await encoder.embed(wave, { pool: "none" });
  assertEquals(found.map(({ time }) => time), [...times!]);
  // Steps 6 and 7 come from frames 64 to 127, of which they are the last.
  const context = wave.subarray(4 * STEP, 8 * STEP + 240);
  const { values } = await encoder.embed(context, { pool: "none" });
  assertEquals(found.slice(6, 8).flatMap((it) => [...it.values]), [...values.slice(2 * 80)]);
  const signal = AbortSignal.abort(new Error("enough"));
  await assertRejects(() => stepsOf(wave, { signal }), Error, "enough");
  await assertRejects(() => stepsOf(wave, { hopMs: 0 }), RangeError, "hopMs is 0");
});

Deno.test("warming up compiles what the first callers need, and counts", async () => {
  using device = await openDevice();
  using encoder = await loadEncoder(device, encoderFile());
  const before = device.pipelinesCreated;
  const seen: WarmUpProgress[] = [];
  await encoder.warmUp({ seconds: [0.2], together: 2, onProgress: (it) => seen.push(it) });
  // Each kernel of the first part is told of, and embedding then needs no other.
  const first = seen.findIndex(({ done }) => done === 1);
  assert(first > 10);
  const left = (from: number) => Array.from({ length: from }, (_, i) => from - 1 - i);
  assertEquals(seen.slice(0, first).map((it) => it.kernelsLeft), left(first));
  assertEquals(
    seen.slice(0, first).map((it) => it.kernels),
    left(first).map((it) => before + first - it),
  );
  assertEquals(seen[first], { done: 1, total: 2, kernels: before + first, kernelsLeft: 0 });
  assertEquals(seen.at(-1)!.kernels, device.pipelinesCreated);
  assertEquals(seen.at(-1)!.done, 2);
  const { pipelinesCreated } = device;
  await Promise.all([1, 2].map((seed) => encoder.embed(noise(3200, seed))));
  assertEquals(device.pipelinesCreated, pipelinesCreated);
});
