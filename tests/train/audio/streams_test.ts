// Files of several streams, files that would become too much, and bad files beside good ones.
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertRejects,
} from "@std/assert";
import { join } from "@std/path";
import { AudioError } from "../../../train/audio/decoded_audio.ts";
import { decodeAudio, loadWaveform, waveformBlocks } from "../../../train/audio/decode.ts";
import { openWav } from "../../../train/audio/wav.ts";
import { clipReaders, FileError } from "../../../train/data/clip_reading.ts";
import { cropStart, samplesOf } from "../../../train/data/crop.ts";
import { concatBytes } from "../../../train/io/bytes.ts";
import { npyHeader } from "../../../train/io/npy.ts";
import { Prng } from "../../../engine/prng.ts";
import {
  concealedOpus,
  constantFlac,
  namelessFlac,
  silentMp3,
  silentVorbis,
  VORBIS_PAGE,
  withChecksum,
} from "../../support/audio_bytes.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { full, fullOnly, test } from "../../support/tier.ts";

const STREAMS = new URL("../../golden/audio_streams/", import.meta.url).pathname;
const GOLDEN = new URL("../../golden/audio/", import.meta.url).pathname;
const VORBIS = Deno.readFileSync(join(GOLDEN, "ogg_vorbis.ogg"));
const VORBIS_RATE = new DataView(VORBIS.buffer).getUint32(28 + 12, true);
const read = (file: string) => Deno.readFileSync(join(STREAMS, file));

/** Frequency of a sine by its zero crossings. */
function pitch(samples: Float32Array, rate: number): number {
  let crossings = 0;
  for (let i = 1; i < samples.length; i++) {
    if (samples[i - 1] < 0 !== samples[i] < 0) crossings++;
  }
  return crossings / 2 / (samples.length / rate);
}

// Samples at 16 kHz by oggdec, opusdec (whole streams) and ffmpeg (MP3, delays and padding
// included), and the pitches that were coded.
const CHAINS: readonly (readonly [string, number, number, [number, number, number][]])[] = [
  ["chained_vorbis.ogg", 19200, 0, [[0, 0.5, 300], [0.5, 0.9, 500], [0.9, 1.2, 400]]],
  ["chained.opus", 19200, 0, [[0, 0.5, 300], [0.5, 0.9, 500], [0.9, 1.2, 400]]],
  ["mp3_mono_stereo_mono.mp3", 26423, 2400, [[0, 0.45, 300], [0.65, 0.95, 500], [1.2, 1.5, 300]]],
  ["mp3_rates.mp3", 15515, 2400, [[0, 0.45, 300], [0.65, 0.85, 400]]],
];
for (const [file, samples, slack, parts] of CHAINS) {
  Deno.test(`${file}: all streams come, one after the other`, async () => {
    const waveform = await loadWaveform(read(file));
    assertAlmostEquals(waveform.length, samples, slack);
    for (const [from, to, hertz] of parts) {
      const inside = waveform.subarray((from + 0.05) * 16000, (to - 0.05) * 16000);
      assertAlmostEquals(pitch(inside, 16000), hertz, 12, `${from} s to ${to} s`);
    }
  });
}

test("streams of one rate with different channels are one array per channel", async () => {
  const { sampleRate, channels } = await decodeAudio(read("chained.opus"));
  // opusdec: 57,600.
  assertEquals([sampleRate, ...channels.map(({ length }) => length)], [48000, 57600, 57600]);
  await assertRejects(() => decodeAudio(read("chained_vorbis.ogg")), AudioError, "several sample");
});

test("Ogg Opus shorter than a second ends where its last page says", async () => {
  const { sampleRate, channels } = await decodeAudio(read("short.opus"));
  // opusdec: 20,160; the packets hold 20,472 and the pre-skip.
  assertEquals([sampleRate, channels[0].length], [48000, 20160]);
});

test("the output gain of an Opus header is applied", async () => {
  const plain = read("short.opus");
  const louder = plain.slice();
  const view = new DataView(louder.buffer);
  // The header packet follows the page's 28 bytes; gain in 1/256 dB.
  const gain = view.getInt16(28 + 16, true) + 6 * 256;
  view.setInt16(28 + 16, gain, true);
  louder.set(withChecksum(louder.slice(0, 28 + 19)));
  const [[a], [b]] = [(await decodeAudio(plain)).channels, (await decodeAudio(louder)).channels];
  for (let i = 0; i < a.length; i += 97) assertAlmostEquals(b[i], a[i] * 10 ** 0.3, 1e-6);
});

test("FLAC frames that leave rate and bits to STREAMINFO", async () => {
  const plain = Deno.readFileSync(join(GOLDEN, "flac_16bit_mono.flac"));
  const bare = namelessFlac(plain);
  assertNotEquals(bare, plain);
  assertEquals(await decodeAudio(bare), await decodeAudio(plain));
});

/** A WAV header of mono float32, or as RF64 of 16-bit integers. */
function floatWav(values: readonly number[], rate = 16000): Uint8Array {
  const bytes = wav(new Float32Array(2 * values.length), rate);
  const view = new DataView(bytes.buffer);
  view.setUint16(20, 3, true);
  view.setUint16(32, 4, true);
  view.setUint16(34, 32, true);
  values.forEach((value, i) => view.setFloat32(44 + 4 * i, value, true));
  return bytes;
}

test("samples that no spectrum can hold are refused, loud ones are not", async () => {
  for (const bad of [NaN, Infinity, -Infinity, 1e20, -1e30, 3e38]) {
    const bytes = floatWav([0, 0.5, bad, 0]);
    await assertRejects(() => decodeAudio(bytes), AudioError, "at frame 2");
    await assertRejects(() => loadWaveform(bytes), AudioError, "at frame 2");
  }
  assertEquals([...await loadWaveform(floatWav([0, 2 ** 31, -32768]))], [0, 2 ** 31, -32768]);
});

test("values of a store that are no log-mel are refused", async () => {
  await inTempDir(async (dir) => {
    const readers = clipReaders();
    for (const bad of [NaN, Infinity, 1e37, -1e5]) {
      const values = new Float32Array(80 * 10).fill(-7);
      values[123] = bad;
      const path = join(dir, "a.npy");
      Deno.writeFileSync(path, concatBytes([npyHeader([80, 10], "f32"), bytesOf(values)]));
      const request = { path, frames: 10, position: 0, mean: 0, std: 1 };
      await assertRejects(() => readers.crop(request), FileError, "band 12, frame 3");
    }
  });
});

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

test("what is no regular file is never waited for", async () => {
  await inTempDir(async (dir) => {
    const readers = clipReaders();
    const paths = [dir, join(dir, "zero.wav"), join(dir, "absent.wav")];
    Deno.symlinkSync("/dev/zero", paths[1]);
    for (const path of paths) {
      const place = { path, frames: 10, position: 0 };
      await assertRejects(() => readers.waveform({ path }), FileError, "cannot be read");
      await assertRejects(() => readers.clip(place), FileError, "cannot be read");
      await assertRejects(() => readers.crop({ ...place, mean: 0, std: 1 }), FileError, "be read");
    }
  });
});

test("rates below 1 kHz are refused", async () => {
  const quiet = new Float32Array(2000);
  await assertRejects(() => loadWaveform(wav(quiet, 1)), AudioError, "sample rate of 1 Hz");
  await assertRejects(() => loadWaveform(wav(quiet, 999)), AudioError, "at least 1000");
  assertEquals((await loadWaveform(wav(quiet, 1000))).length, 32000);
});

/** RF64 with 64-bit sizes; `frames` of 16 bits. */
function rf64(frames: number, pcm: Uint8Array): Uint8Array {
  const plain = wav(new Float32Array(0));
  const ds64 = new Uint8Array(36);
  ds64.set(new TextEncoder().encode("ds64"));
  const view = new DataView(ds64.buffer);
  view.setUint32(4, 28, true);
  view.setBigUint64(16, BigInt(2 * frames), true);
  const header = concatBytes([plain.subarray(0, 12), ds64, plain.subarray(12)]);
  header.set(new TextEncoder().encode("RF64"));
  header.fill(255, 4, 8);
  header.fill(255, header.length - 4);
  return concatBytes([header, pcm]);
}

test("RF64: sizes of 64 bits, and what follows the data is no sound", async () => {
  const chunk = new Uint8Array(40);
  chunk.set(new TextEncoder().encode("bext"));
  chunk[4] = 32;
  const bytes = rf64(300, concatBytes([new Uint8Array(600).fill(1), chunk]));
  assertEquals((await decodeAudio(bytes)).channels[0].length, 300);
  const head = rf64(2_400_000_000, new Uint8Array(0));
  // As a sparse file of 4.8 GB.
  const large = openWav({
    size: head.length + 4_800_000_000,
    read: (at, length) => {
      const part = new Uint8Array(length);
      part.set(head.subarray(at, at + length));
      return part;
    },
  });
  assertEquals(large.frames, 2_400_000_000);
  assertEquals(large.read(2_399_999_999, 1), [new Float32Array(1)]);
});

Deno.test("millions of empty chunks are passed over at once", async () => {
  const count = full ? 5_000_000 : 500_000;
  const chunks = new Uint8Array(8 * count);
  for (let i = 0; i < count; i++) chunks.set([106, 117, 110, 107], 8 * i);
  const plain = wav(Float32Array.of(0.5));
  const bytes = concatBytes([plain.subarray(0, 12), chunks, plain.subarray(12)]);
  const start = performance.now();
  assertEquals((await decodeAudio(bytes)).channels[0].length, 1);
  assert(performance.now() - start < 20_000);
});

Deno.test("files of more hours than the limit are refused before they are decoded", async () => {
  // 30 h: 72,672 frames of 65,535 samples at 44.1 kHz, in 1 MB.
  const frames = full ? 65_000 : 11_000;
  const bytes = constantFlac(frames, full ? 44100 : 8000);
  assert(bytes.length < 1.1e6);
  await assertRejects(() => loadWaveform(bytes, { maxHours: 24 }), AudioError, "than 24 hours");
  const opus = concealedOpus(3 * 3600);
  assert(opus.length < 1e6);
  await assertRejects(() => loadWaveform(opus, { maxHours: 2.5 }), AudioError, "than 2.5 hours");
  // Where the pages lie about it, it shows while it is decoded.
  const lying = concealedOpus(300, 5760);
  await assertRejects(() => loadWaveform(lying, { maxHours: 1 / 60 }), AudioError, "0.02 hours");
  // 40 s in 40 kB, and 30 h in 108 MB.
  const [mp3, hours] = full ? [silentMp3(1_500_000), 24] : [silentMp3(556), 0.01];
  await assertRejects(() => loadWaveform(mp3, { maxHours: hours }), AudioError, `${hours} hours`);
  // 41 s in 8 kB, and 33 h in 10 MB.
  const vorbis = silentVorbis(VORBIS, full ? 20_000 : 7);
  await assertRejects(() => loadWaveform(vorbis, { maxHours: hours }), AudioError, "hours");
});

test("silence has the length that its frames say", async () => {
  const mp3 = await loadWaveform(silentMp3(20));
  assertEquals([mp3.length, mp3.every((it) => it === 0)], [20 * 1152, true]);
  const vorbis = await decodeAudio(silentVorbis(VORBIS, 2));
  assertEquals(vorbis.channels[0], new Float32Array(2 * VORBIS_PAGE - 1024));
});

fullOnly("hours of silence take bounded memory", async () => {
  // Three hours at 16 kHz; of Vorbis and MP3, which take longer, a half and one and a half.
  const frames = 2636;
  await inTempDir(async (dir) => {
    for (
      const [name, bytes, expected] of [
        ["flac", constantFlac(frames, 16000), frames * 65535],
        // Pages of 255 packets of 120 ms; the header skips nothing.
        ["opus", concealedOpus(600), 20 * 255 * 1920],
        ["mp3", silentMp3(75_000), 75_000 * 1152],
        ["ogg", silentVorbis(VORBIS, 300), (300 * VORBIS_PAGE - 1024) / VORBIS_RATE * 16000],
      ] as const
    ) {
      const path = join(dir, name);
      Deno.writeFileSync(path, bytes);
      const before = Deno.memoryUsage().rss;
      let [most, length] = [before, 0];
      for await (const block of waveformBlocks(path)) {
        length += block.length;
        most = Math.max(most, Deno.memoryUsage().rss);
      }
      assertEquals(length, Math.ceil(expected), name);
      assert(most - before < 400e6, `${name}: ${(most - before) / 1e6} MB`);
    }
  });
});

Deno.test("the crop of a long clip has the bits of the whole one", async () => {
  const prng = new Prng(9);
  const rate = full ? 8000 : 16000;
  const signal = Float32Array.from({ length: 125 * rate }, () => prng.uniform() - 0.5);
  await inTempDir(async (dir) => {
    const path = join(dir, "long.wav");
    Deno.writeFileSync(path, wav(signal, rate));
    const whole = await loadWaveform(path);
    const readers = clipReaders();
    for (const position of [0.37, 0, 1 - 2 ** -53]) {
      const place = { frames: 33, position };
      const clip = await readers.clip({ path, ...place });
      assertEquals(clip.whole, false);
      const start = cropStart(whole.length, place);
      assertEquals(clip.samples, whole.slice(start, start + samplesOf(33)));
    }
  });
});

Deno.test("a file's samples do not depend on the broken ones before it", async () => {
  const good = ["mp3_vbr.mp3", "ogg_opus.opus", "ogg_vorbis.ogg", "flac_16bit_mono.flac"]
    .map((file) => Deno.readFileSync(join(GOLDEN, file)));
  const alone = await Promise.all(good.map((bytes) => loadWaveform(bytes)));
  const trap = read("vorbis_damages_heap.ogg");
  const prng = new Prng(13);
  const printed: unknown[] = [];
  const { error } = console;
  console.error = (...words) => printed.push(words);
  try {
    await assertRejects(() => loadWaveform(trap), AudioError, "damaged");
    for (let i = 0; i < (full ? 200 : 12); i++) {
      const kind = prng.integer(good.length);
      if (i % 2 === 0) {
        assertEquals(await loadWaveform(good[kind]), alone[kind]);
        continue;
      }
      const bad = kind === 3 ? trap : good[kind].slice();
      for (let edit = 0; edit < 20; edit++) bad[prng.integer(bad.length)] = prng.integer(256);
      // Ogg pages get right checksums again, so that the damage reaches the decoder.
      await loadWaveform(kind === 0 ? bad : mended(bad)).catch((error) => {
        assert(error instanceof AudioError, String(error));
      });
    }
  } finally {
    console.error = error;
  }
  assertEquals(printed, []);
});

/** Bytes of Ogg pages with the checksums that belong to them. */
function mended(bytes: Uint8Array): Uint8Array {
  for (let at = 0; at + 27 < bytes.length;) {
    const table = bytes.subarray(at + 27, at + 27 + bytes[at + 26]);
    const end = at + 27 + table.length + table.reduce((sum, size) => sum + size, 0);
    if (bytes[at] !== 0x4f || end > bytes.length) break;
    bytes.set(withChecksum(bytes.slice(at, end)), at);
    at = end;
  }
  return bytes;
}
