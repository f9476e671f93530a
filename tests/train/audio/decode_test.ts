/** Decoders of every format: lengths, values, damaged files, real recordings. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import { AudioError } from "../../../train/audio/decoded_audio.ts";
import { decodeAudio, loadWaveform, toMono } from "../../../train/audio/decode.ts";
import { concatBytes } from "../../../train/io/bytes.ts";
import { oggStreams } from "../../../train/audio/ogg.ts";
import { bytesInMemory } from "../../../train/audio/byte_source.ts";
import { listAudioFiles } from "../../../train/io/folders.ts";
import { Prng } from "../../../engine/prng.ts";
import { crc, withChecksum } from "../../support/audio_bytes.ts";
import { full, test } from "../../support/tier.ts";

const GOLDEN = new URL("../../golden/audio/", import.meta.url).pathname;
const REAL = new URL("../../../../shared/data/", import.meta.url).pathname;
const REAL_AUDIO = exists(REAL);
if (!REAL_AUDIO) console.log("skipped: real audio absent");

interface Expected {
  readonly file: string;
  readonly expect: "decode" | "error" | "decode_or_error";
  readonly sample_rate?: number;
  readonly channels?: number;
  readonly frames?: number;
  readonly duration_s?: number;
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

function expectations(folder: string): Expected[] {
  const text = Deno.readTextFileSync(join(folder, "expected.json"));
  return (JSON.parse(text) as { files: Expected[] }).files;
}

async function checkFile(folder: string, expected: Expected): Promise<void> {
  const bytes = Deno.readFileSync(join(folder, expected.file));
  if (expected.expect === "error") {
    const error = await assertRejects(() => loadWaveform(bytes), AudioError);
    assert((error as Error).message.length > 10);
    return;
  }
  try {
    await checkDecoded(bytes, expected);
  } catch (error) {
    const tolerated = expected.expect === "decode_or_error" &&
      error instanceof AudioError;
    if (!tolerated) throw error;
  }
}

async function checkDecoded(bytes: Uint8Array, e: Expected): Promise<void> {
  const { sampleRate, channels } = await decodeAudio(bytes);
  assertEquals(sampleRate, e.sample_rate);
  assertEquals(channels.length, e.channels);
  const frames = e.frames ?? (e.duration_s ?? 0) * sampleRate;
  if (frames > 0) {
    // Lossy streams begin with an encoder delay that not every decoder removes.
    const lossy = /\.(mp3|opus)$/.test(e.file);
    const slack = lossy ? (frames > 1e6 ? 0.15 : 0.06) * sampleRate : 0;
    assertAlmostEquals(channels[0].length, frames, slack);
  }
  const waveform = await loadWaveform(bytes);
  assert(waveform.length >= 1 && waveform.every(Number.isFinite));
  assertEquals(
    waveform.length,
    Math.ceil(channels[0].length * 16000 / sampleRate),
  );
}

async function decodeGolden(file: string): Promise<Float32Array> {
  return toMono((await decodeAudio(golden(file))).channels);
}

function golden(file: string): Uint8Array {
  return Deno.readFileSync(join(GOLDEN, file));
}

/** Correlation of two signals over their common length, 1 for the same up to scale. */
function correlation(a: Float32Array, b: Float32Array, shift = 0): number {
  let ab = 0, aa = 0, bb = 0;
  const end = Math.min(a.length, b.length - shift);
  for (let i = 0; i < end; i++) {
    ab += a[i] * b[i + shift];
    aa += a[i] ** 2;
    bb += b[i + shift] ** 2;
  }
  return ab / Math.sqrt(aa * bb);
}

for (const expected of expectations(GOLDEN)) {
  Deno.test(`golden ${expected.file}: ${expected.expect}`, () => checkFile(GOLDEN, expected));
}

test("lossy formats decode to the signal of the lossless file, in place", async () => {
  const reference = await decodeGolden("flac_16bit_mono.flac");
  for (const file of ["ogg_vorbis.ogg", "mp3_vbr.mp3", "mp3_id3_album_art.mp3"]) {
    const decoded = await decodeGolden(file);
    assertEquals(decoded.length, reference.length, file);
    assert(correlation(decoded, reference) > 0.98, file);
  }
  const at16k = await loadWaveform(golden("flac_16bit_mono.flac"));
  const opus = await loadWaveform(golden("ogg_opus.opus"));
  assertEquals(opus.length, at16k.length);
  assert(correlation(opus, at16k) > 0.95);
});

Deno.test("a cut-off MP3 or Ogg file gives the beginning of the whole one", async () => {
  for (
    const [part, whole] of [
      ["ogg_truncated.ogg", "ogg_vorbis.ogg"],
      ["mp3_truncated.mp3", "mp3_vbr.mp3"],
    ]
  ) {
    const [cut, full] = [await decodeGolden(part), await decodeGolden(whole)];
    assert(cut.length > full.length / 3 && cut.length < full.length, part);
    assert(correlation(cut, full) > 0.999, part);
  }
});

test("damage that a checksum shows is an error and never noise", async () => {
  await assertRejects(
    () => decodeAudio(golden("flac_damaged_middle.flac")),
    AudioError,
    "FLAC frame 10 is damaged",
  );
  const prng = new Prng(1);
  for (const file of ["flac_16bit_mono.flac", "ogg_vorbis.ogg", "ogg_opus.opus"]) {
    const intact = golden(file);
    for (let trial = 0; trial < 20; trial++) {
      const bytes = intact.slice();
      // In the last half there are no tags, whose damage would not matter.
      const at = bytes.length - 1 - prng.integer(bytes.length >> 1);
      bytes[at] ^= 1 + prng.integer(255);
      const attempt = (): Promise<unknown> => decodeAudio(bytes);
      await assertRejects(attempt, AudioError, "damaged");
    }
  }
});

test("a FLAC file cut off at a frame boundary is reported with its counts", async () => {
  const bytes = golden("flac_16bit_mono.flac");
  await assertRejects(
    () => decodeAudio(bytes.subarray(0, bytes.length - 40000)),
    AudioError,
    "FLAC",
  );
});

Deno.test("FLAC of 8, 16 and 24 bits reads back exactly, full scale being 2^(bits-1)", async () => {
  const prng = new Prng(5);
  for (const bits of [8, 16, 24]) {
    const full = 2 ** (bits - 1);
    const values = Array.from({ length: 300 }, () => prng.integer(2 * full) - full);
    values.splice(0, 4, -full, full - 1, -1, 1);
    const { channels, sampleRate } = await decodeAudio(verbatimFlac(values, bits));
    assertEquals(sampleRate, 16000);
    assertEquals(channels, [Float32Array.from(values, (x) => x / full)]);
  }
});

Deno.test("FLAC in Ogg decodes to the same samples as native FLAC", async () => {
  const native = golden("flac_16bit_mono.flac");
  const expected = await decodeAudio(native);
  assertEquals(await decodeAudio(await oggFlac(native)), expected);
});

test("FLAC between an ID3v2 and an ID3v1 tag decodes", async () => {
  const native = golden("flac_16bit_mono.flac");
  const id3 = concatBytes([
    new TextEncoder().encode("ID3"),
    Uint8Array.of(3, 0, 0, 0, 0, 1, 0), // syncsafe 128
    new Uint8Array(128),
  ]);
  const tail = new Uint8Array(128);
  tail.set(new TextEncoder().encode("TAG"));
  assertEquals(
    await decodeAudio(concatBytes([id3, native, tail])),
    await decodeAudio(native),
  );
});

test("junk before, between and after MP3 frames is not decoded", async () => {
  const mp3 = golden("mp3_vbr.mp3");
  const expected = await decodeAudio(mp3);
  const prng = new Prng(2);
  const junk = Uint8Array.from({ length: 3000 }, () => prng.integer(256));
  assertEquals(await decodeAudio(concatBytes([junk, mp3, junk])), expected);
});

test("random bytes, text and pictures are never taken for audio", async () => {
  const prng = new Prng(3);
  for (let trial = 0; trial < 60; trial++) {
    const size = 1 + prng.integer(40_000);
    // Bytes of 0xf0 and above are frequent here, so false sync words are too.
    const floor = trial % 2 === 0 ? 0 : 240;
    const bytes = Uint8Array.from(
      { length: size },
      () => floor + prng.integer(256 - floor),
    );
    await assertRejects(() => decodeAudio(bytes), AudioError);
  }
  const text = new TextEncoder().encode("Dear reader, ".repeat(500));
  await assertRejects(() => decodeAudio(text), AudioError, "not a known audio");
  await assertRejects(
    () => decodeAudio(golden("png_named.ogg")),
    AudioError,
    "PNG picture",
  );
});

test("mutated files end in finite samples or an AudioError", async () => {
  const prng = new Prng(4);
  const files = ["mp3_vbr.mp3", "ogg_opus.opus", "ogg_vorbis.ogg", "ten_ms.wav"];
  for (let trial = 0; trial < 80; trial++) {
    const bytes = golden(files[trial % files.length]);
    const reach = trial % 3 === 0 ? 150 : bytes.length;
    for (let edit = 0; edit < 5; edit++) {
      bytes[prng.integer(reach)] = prng.integer(256);
    }
    const cut = trial % 5 === 0 ? prng.integer(bytes.length) : bytes.length;
    try {
      const { channels } = await decodeAudio(bytes.subarray(0, cut));
      assert(channels.every((channel) => channel.every(Number.isFinite)));
    } catch (error) {
      assert(error instanceof AudioError, String(error));
    }
  }
});

test("a missing Ogg page is noticed", async () => {
  const bytes = golden("ogg_vorbis.ogg");
  const starts = oggPageStarts(bytes);
  assert(starts.length >= 4);
  const [from, to] = starts.slice(-2);
  const holed = concatBytes([bytes.subarray(0, from), bytes.subarray(to)]);
  await assertRejects(() => decodeAudio(holed), AudioError, "missing");
});

test("an Ogg file without a known codec is named as such", async () => {
  const bytes = golden("ogg_opus.opus").subarray(0, oggPageStarts(golden("ogg_opus.opus"))[1]);
  assertEquals(oggStreams(bytesInMemory(bytes)).map(({ codec }) => codec), ["opus"]);
  const other = bytes.slice();
  other.set(new TextEncoder().encode("Speex   "), 28);
  await assertRejects(
    () => decodeAudio(withChecksum(other)),
    AudioError,
    "no Vorbis, Opus or FLAC",
  );
});

test("mono is the arithmetic mean of all channels", () => {
  const channels = [[1, 2, -3], [0, 2, 3], [0.5, 2, 0]].map((x) => Float32Array.from(x));
  assertEquals([...toMono(channels)], [0.5, 2, 0]);
  assertEquals(toMono([channels[0]]), channels[0]);
});

test("a path that cannot be read is an AudioError", async () => {
  const attempt = (): Promise<unknown> => loadWaveform(join(GOLDEN, "absent.wav"));
  const error = await assertRejects(attempt, AudioError);
  assertStringIncludes((error as Error).message, "cannot be read");
});

if (REAL_AUDIO) {
  for (const expected of expectations(join(REAL, "corrupt"))) {
    Deno.test(`corrupt ${expected.file}: ${expected.expect}`, () =>
      checkFile(join(REAL, "corrupt"), expected));
  }
}

Deno.test({
  name: "every PCM and lossless variant of the corrupt set equals its reference",
  ignore: !REAL_AUDIO,
  async fn(): Promise<void> {
    const load = async (file: string): Promise<Float32Array> => {
      const bytes = Deno.readFileSync(join(REAL, "corrupt", file));
      return (await decodeAudio(bytes)).channels[0];
    };
    const reference = await load("ref_pcm16_44100_mono.wav");
    const steps: Readonly<Record<string, number>> = {
      "pcm24.wav": 2 ** -15,
      "pcm32.wav": 2 ** -15,
      "float32.wav": 2 ** -15,
      "float64.wav": 2 ** -15,
      "pcm_u8.wav": 2 ** -7,
      "extensible_pcm16_mono.wav": 0,
      "extensible_float32_stereo.wav": 2 ** -15,
      "list_chunk_odd_size.wav": 0,
      "trailing_bytes.wav": 0,
      "riff_size_zero.wav": 0,
      "riff_size_too_big.wav": 0,
      "data_size_ffffffff.wav": 0,
      "flac_16bit_mono.flac": 0,
      "flac_named.wav": 0,
    };
    for (const [file, step] of Object.entries(steps)) {
      const samples = await load(file);
      assertEquals(samples.length, reference.length, file);
      // Rounding half a step, and the writer's full scale of 2^(bits-1) - 1 steps, one less than
      // ours.
      const wrong = samples.findIndex((x, i) =>
        Math.abs(x - reference[i]) > step * (0.51 + Math.abs(reference[i]))
      );
      assertEquals(wrong, -1, `${file}: first wrong sample`);
    }
  },
});

Deno.test({
  name: "other sampling rates of one signal agree after resampling",
  ignore: !REAL_AUDIO,
  async fn(): Promise<void> {
    const load = (file: string): Promise<Float32Array> => loadWaveform(join(REAL, "corrupt", file));
    const reference = await load("ref_pcm16_44100_mono.wav");
    for (const rate of ["22050", "48000", "96000"]) {
      const other = await load(`pcm16_${rate}_mono.wav`);
      assertEquals(other.length, reference.length);
      assert(correlation(other, reference) > 0.995, rate);
    }
  },
});

for (const set of ["esc10", "instruments", "percussion", "long"]) {
  Deno.test({
    name: `all of ${set} decodes, Ogg files to the length their last page states`,
    ignore: !REAL_AUDIO,
    async fn(): Promise<void> {
      const paths = await listAudioFiles(join(REAL, set, "audio"));
      for (const path of full ? paths : paths.filter((_, i) => i % 10 === 0)) {
        const bytes = Deno.readFileSync(path);
        const { channels, sampleRate } = await decodeAudio(bytes);
        assert(sampleRate >= 8000 && channels.length <= 2, path);
        if (path.endsWith(".ogg")) {
          const last = oggPageStarts(bytes).at(-1)!;
          const position = new DataView(bytes.buffer, last).getUint32(6, true);
          assertEquals(channels[0].length, position, path);
        }
      }
    },
  });
}

function oggPageStarts(bytes: Uint8Array): number[] {
  const starts: number[] = [];
  for (let at = 0; at < bytes.length;) {
    starts.push(at);
    const segments = bytes.subarray(at + 27, at + 27 + bytes[at + 26]);
    at += 27 + segments.length + segments.reduce((sum, size) => sum + size, 0);
  }
  return starts;
}

/** A mono 16 kHz FLAC file of one uncompressed frame. */
function verbatimFlac(values: readonly number[], bits: number): Uint8Array {
  const info = new Uint8Array(34);
  info.set([0x03, 0xe8, 0x00, (bits - 1) << 4], 10); // 16000 Hz in 20 bits, 1 channel, bits - 1
  info[12] |= (bits - 1) >> 4;
  new DataView(info.buffer).setUint32(14, values.length);
  const sizeCode = { 8: 1, 16: 4, 24: 6 }[bits]!;
  const count = values.length - 1;
  const header = [0xff, 0xf8, 0x75, sizeCode << 1, 0, count >> 8, count & 255];
  const body = values.flatMap((value) =>
    Array.from({ length: bits / 8 }, (_, b) => (value >> (bits - 8 - 8 * b)) & 255)
  );
  const frame = [...header, crc(header, 8, 0x07), 0x02, ...body];
  const footer = crc(frame, 16, 0x8005);
  return concatBytes([
    new TextEncoder().encode("fLaC"),
    Uint8Array.of(0x80, 0, 0, 34),
    info,
    Uint8Array.from([...frame, footer >> 8, footer & 255]),
  ]);
}

/**
 * Wraps a native FLAC file whose frames are told apart by the splitter into Ogg, one packet per
 * page.
 */
async function oggFlac(native: Uint8Array): Promise<Uint8Array> {
  const { openFlac } = await import("../../../train/audio/flac.ts");
  const { info, frames: framesOf } = openFlac(bytesInMemory(native), 0);
  const frames = [...framesOf()].map(({ data }) => data);
  const { samples } = info;
  const first = concatBytes([
    Uint8Array.of(0x7f),
    new TextEncoder().encode("FLAC"),
    Uint8Array.of(1, 0, 0, 1),
    native.subarray(0, 42), // "fLaC", block header, STREAMINFO
  ]);
  const comment = Uint8Array.of(0x84, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0);
  const packets = [first, comment, ...frames];
  const pages = packets.map((packet, sequence) => {
    const full = Math.floor(packet.length / 255);
    const header = new Uint8Array(27 + full + 1);
    const view = new DataView(header.buffer);
    header.set(new TextEncoder().encode("OggS"));
    const last = sequence === packets.length - 1;
    header[5] = (sequence === 0 ? 2 : 0) | (last ? 4 : 0);
    view.setUint32(6, last ? samples : 0, true);
    view.setUint32(14, 99, true);
    view.setUint32(18, sequence, true);
    header[26] = full + 1;
    header.fill(255, 27, 27 + full);
    header[27 + full] = packet.length % 255;
    return withChecksum(concatBytes([header, packet]));
  });
  return concatBytes(pages);
}
