/** WAV of every sample format, written and read, damaged and huge. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { AudioError } from "../../../train/audio/decoded_audio.ts";
import { concatBytes } from "../../../train/io/bytes.ts";
import { isWav, readWav } from "../../../train/audio/wav.ts";

const PCM = 1, FLOAT = 3;

interface WavOptions {
  readonly tag?: number;
  readonly bits?: number;
  readonly channels?: number;
  readonly sampleRate?: number;
  readonly extensible?: boolean;
  readonly dataSize?: number;
  readonly riffSize?: number;
  /** Whole chunks before and after the data chunk. */
  readonly before?: Uint8Array;
  readonly after?: Uint8Array;
}

function chunk(id: string, body: Uint8Array, size = body.length): Uint8Array {
  const output = new Uint8Array(8 + body.length + (body.length & 1));
  output.set(new TextEncoder().encode(id));
  new DataView(output.buffer).setUint32(4, size >>> 0, true);
  output.set(body, 8);
  return output;
}

function wav(data: Uint8Array, options: WavOptions = {}): Uint8Array {
  const { tag = PCM, bits = 16, channels = 1, sampleRate = 16000 } = options;
  const format = new Uint8Array(options.extensible ? 40 : 16);
  const view = new DataView(format.buffer);
  const frame = channels * Math.ceil(bits / 8);
  view.setUint16(0, options.extensible ? 0xfffe : tag, true);
  view.setUint16(2, channels, true);
  view.setUint32(4, sampleRate, true);
  view.setUint32(8, sampleRate * frame, true);
  view.setUint16(12, frame, true);
  view.setUint16(14, bits, true);
  if (options.extensible) {
    view.setUint16(16, 22, true);
    view.setUint16(18, bits, true);
    view.setUint16(24, tag, true);
    format.set([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71], 26);
  }
  const body = concatBytes([
    new TextEncoder().encode("WAVE"),
    chunk("fmt ", format),
    options.before ?? new Uint8Array(),
    chunk("data", data, options.dataSize),
    options.after ?? new Uint8Array(),
  ]);
  return chunk("RIFF", body, options.riffSize);
}

/** Interleaved integers of `bits` bits, little-endian; 8 bits are offset binary. */
function encodeIntegers(values: readonly number[], bits: number): Uint8Array {
  const bytes = bits / 8;
  const output = new Uint8Array(values.length * bytes);
  values.forEach((value, i) => {
    const stored = bits === 8 ? value + 128 : value;
    for (let b = 0; b < bytes; b++) output[i * bytes + b] = stored >> (8 * b);
  });
  return output;
}

function int16(values: readonly number[]): Uint8Array {
  return encodeIntegers(values, 16);
}

Deno.test("integer PCM of every width and channel count reads back exactly", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(8, 16, 24, 32),
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 1, max: 768000 }),
      fc.boolean(),
      fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { maxLength: 90 }),
      (bits, channels, sampleRate, extensible, signal) => {
        const full = 2 ** (bits - 1);
        const values = signal
          .slice(0, signal.length - signal.length % channels)
          .map((x) => Math.min(full - 1, Math.round(x * full)));
        const data = encodeIntegers(values, bits);
        const audio = readWav(
          wav(data, { bits, channels, sampleRate, extensible }),
        );
        assertEquals(audio.sampleRate, sampleRate);
        assertEquals(audio.channels.length, channels);
        values.forEach((value, i) => {
          const got = audio.channels[i % channels][Math.floor(i / channels)];
          assertEquals(got, Math.fround(value / full));
        });
      },
    ),
    { numRuns: 200 },
  );
});

Deno.test("32- and 64-bit float read back as float32", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(32, 64),
      fc.boolean(),
      fc.array(fc.float({ noNaN: true }), { minLength: 1, maxLength: 50 }),
      (bits, extensible, values) => {
        const data = bits === 32 ? Float32Array.from(values) : Float64Array.from(values);
        const bytes = new Uint8Array(data.buffer);
        const audio = readWav(wav(bytes, { tag: FLOAT, bits, extensible }));
        assertEquals(audio.channels, [Float32Array.from(values)]);
      },
    ),
    { numRuns: 100 },
  );
});

Deno.test("mu-law and A-law give the values tabulated in G.711", () => {
  // Codes of positive full scale, smallest step, and their negatives.
  const muLaw = readWav(
    wav(Uint8Array.of(0x80, 0xff, 0x00, 0x7f, 0xfe, 0x90), { tag: 7, bits: 8 }),
  );
  assertEquals(
    [...muLaw.channels[0]].map((x) => x * 32768),
    [32124, 0, -32124, -0, 8, 15996],
  );
  const aLaw = readWav(
    wav(Uint8Array.of(0xaa, 0xd5, 0x2a, 0x55, 0xd4, 0xba), { tag: 6, bits: 8 }),
  );
  assertEquals(
    [...aLaw.channels[0]].map((x) => x * 32768),
    [32256, 8, -32256, -8, 24, 16128],
  );
});

Deno.test("12-bit samples are left-justified in 16", () => {
  const { channels } = readWav(wav(int16([0x4000, -0x8000]), { bits: 12 }));
  assertEquals([...channels[0]], [0.5, -1]);
});

Deno.test("unknown and odd-sized chunks around the data are skipped with their pad byte", () => {
  const junk = concatBytes([
    chunk("LIST", new Uint8Array(26)),
    chunk("junk", Uint8Array.of(1, 2, 3)),
  ]);
  const values = [100, -200, 300];
  const bytes = wav(int16(values), { before: junk, after: junk });
  assertEquals(
    readWav(bytes).channels,
    [Float32Array.from(values, (x) => x / 32768)],
  );
});

Deno.test("an odd-sized data chunk is not read past its end", () => {
  const bytes = wav(Uint8Array.of(0, 64, 128), {
    bits: 8,
    after: chunk("LIST", new Uint8Array(4).fill(255)),
  });
  assertEquals([...readWav(bytes).channels[0]], [-1, -0.5, 0]);
});

Deno.test("sizes of 0, 0xffffffff or beyond the file give the samples that are there", () => {
  const values = Array.from({ length: 100 }, (_, i) => i - 50);
  const expected = [Float32Array.from(values, (x) => x / 32768)];
  const data = int16(values);
  for (const dataSize of [0, 0xffffffff, 2 ** 31, data.length + 1]) {
    assertEquals(readWav(wav(data, { dataSize })).channels, expected);
  }
  for (const riffSize of [0, 0xffffffff, 4]) {
    assertEquals(readWav(wav(data, { riffSize })).channels, expected);
  }
});

Deno.test("an empty data chunk followed by other chunks holds no samples", () => {
  const after = chunk("LIST", new Uint8Array(10));
  const { channels } = readWav(wav(new Uint8Array(), { after }));
  assertEquals(channels, [new Float32Array()]);
});

Deno.test("a file cut anywhere gives whole frames or an AudioError", () => {
  const values = Array.from({ length: 40 }, (_, i) => 7 * i);
  const whole = wav(int16(values), { channels: 2 });
  const header = whole.length - 80;
  for (let length = 0; length < whole.length; length++) {
    const cut = whole.subarray(0, length);
    if (length < header) {
      assertThrows(() => readWav(cut), AudioError);
    } else {
      const frames = Math.floor((length - header) / 4);
      assertEquals(readWav(cut).channels.map((c) => c.length), [frames, frames]);
    }
  }
});

Deno.test("a file inside a larger buffer is read at its own offset", () => {
  const bytes = wav(int16([1, 2, 3]));
  const padded = concatBytes([new Uint8Array(5).fill(255), bytes]);
  assertEquals(readWav(padded.subarray(5)), readWav(bytes));
  assert(isWav(padded.subarray(5)) && !isWav(padded));
});

Deno.test("headers that cannot be right are refused with what is wrong", () => {
  const data = int16([1, 2]);
  const cases: readonly (readonly [Uint8Array, string])[] = [
    [new TextEncoder().encode("hello"), "not a WAV file"],
    [wav(data, { channels: 0 }), "0 channels"],
    [wav(data, { sampleRate: 0 }), "sample rate 0"],
    [wav(data, { tag: 0x4242 }), "unsupported WAV codec 0x4242"],
    [wav(data, { tag: 0x55 }), "MP3"],
    [wav(data, { bits: 0 }), "0 bits"],
    [wav(data, { bits: 64 }), "64 bits"],
    [wav(data, { tag: FLOAT, bits: 16 }), "16 bits"],
    [wav(data, { tag: FLOAT, bits: 32 }).fill(3, 32, 34), "do not fit"],
    [wav(data, { extensible: true }).fill(1, 46, 47), "sub-format"],
    [chunk("RIFF", new TextEncoder().encode("WAVE")), "no fmt chunk"],
  ];
  for (const [bytes, message] of cases) {
    assertThrows(() => readWav(bytes), AudioError, message);
  }
});

Deno.test("no mutation of a header crashes, hangs or allocates beyond the file", () => {
  const base = wav(int16(Array.from({ length: 64 }, (_, i) => i)), {
    channels: 2,
    extensible: true,
  });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(base.length - 1), fc.nat(255)), {
        minLength: 1,
        maxLength: 8,
      }),
      (edits) => {
        const bytes = base.slice();
        for (const [at, value] of edits) bytes[at] = value;
        try {
          const { channels } = readWav(bytes);
          const samples = channels.reduce((sum, c) => sum + c.length, 0);
          assert(samples <= bytes.length);
        } catch (error) {
          assert(error instanceof AudioError, String(error));
        }
      },
    ),
    { numRuns: 500 },
  );
});

Deno.test("24-bit samples keep their sign and scale", () => {
  const { channels } = readWav(
    wav(encodeIntegers([1, -1, 2 ** 23 - 1, -(2 ** 23)], 24), { bits: 24 }),
  );
  assertAlmostEquals(channels[0][0], 2 ** -23, 1e-12);
  assertAlmostEquals(channels[0][1], -(2 ** -23), 1e-12);
  assertAlmostEquals(channels[0][2], 1, 1e-6);
  assertEquals(channels[0][3], -1);
});
