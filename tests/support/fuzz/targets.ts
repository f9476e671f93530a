/**
 * What is fuzzed: for each kind of file the good ones that inputs are made of, and the reader.
 *
 * @module
 */
import { join } from "@std/path";
import { modelOf, openCheckpoint } from "../../../model/formats/checkpoint_file.ts";
import { writeSafetensors } from "../../../engine/formats/safetensors.ts";
import { bytesAccess } from "../../../model/formats/stored_tensor.ts";
import { ZipArchive } from "../../../model/formats/zip_read.ts";
import { waveformBlocks } from "../../../train/audio/decode.ts";
import { encodeWav } from "../../../train/audio/wav_write.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { labelledFolder } from "../../../train/data/labelled_folder.ts";
import { readCrop } from "../../../train/data/logmel_file.ts";
import { readManifest } from "../../../train/data/manifest.ts";
import { statisticsOf } from "../../../train/downstream/checkpoint_report.ts";
import { eventFolder } from "../../../train/downstream/hear/event_folder.ts";
import { loadProbe } from "../../../train/downstream/probe/probe_file.ts";
import { namingFile, openCheckpointFile } from "../../../train/io/checkpoint_file.ts";
import { encodeValues, npyHeader } from "../../../train/io/npy.ts";
import { checkpointName, loadCheckpoint } from "../../../train/run/checkpoint.ts";
import { archive, dictOf, int, raw, tensor, text } from "../pickle_bytes.ts";
import type { Corpus } from "./mutate.ts";

/** A kind of file and its reader. */
export interface FuzzTarget extends Corpus {
  /**
   * Reads an input, and does with it what the program does; what is wrong with it is thrown as an
   * error that the program expects.
   *
   * @param folder for files, empty at first; kept from one input to the next
   */
  readonly read: (bytes: Uint8Array<ArrayBuffer>, folder: string) => unknown;
}

const golden = (name: string) =>
  Deno.readFileSync(new URL(`../../golden/${name}`, import.meta.url));

/** What inspect does with a file. */
function inspected(bytes: Uint8Array): void {
  namingFile("input", () => {
    const file = openCheckpoint(bytesAccess(bytes));
    for (const it of file.tensors.values()) statisticsOf(it);
    modelOf(file);
  });
}

/** The header of safetensors with its length before it, and so many bytes behind. */
function withLength(header: Uint8Array, dataBytes: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8 + header.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  return bytes;
}

/** The header of a file of safetensors, and the bytes of its tensors. */
function headerOf(bytes: Uint8Array): { header: Uint8Array; dataBytes: number } {
  const { buffer, byteOffset } = bytes;
  const length = Number(new DataView(buffer, byteOffset, 8).getBigUint64(0, true));
  return { header: bytes.subarray(8, 8 + length), dataBytes: bytes.length - 8 - length };
}

function safetensors(): Uint8Array<ArrayBuffer> {
  return writeSafetensors([
    ["a.weight", { dtype: "F32", shape: [3, 2], data: new Float32Array([1, 2, 3, 4, 5, 6]) }],
    ["b", { dtype: "F16", shape: [5], data: new Uint16Array(5).fill(0x3c00) }],
    ["c", { dtype: "I64", shape: [], data: new BigInt64Array([7n]) }],
    ["d", { dtype: "BOOL", shape: [2, 0, 3], data: new Uint8Array(0) }],
  ], { geometry: '{"heads":2,"predictor":{"heads":1}}', system: "matpac", done: "[]" });
}

function probe(changes: Record<string, string> = {}): Uint8Array<ArrayBuffer> {
  return writeSafetensors([
    ["weight", { dtype: "F32", shape: [2, 3], data: new Float32Array([1, 2, 3, 4, 5, 6]) }],
    ["bias", { dtype: "F32", shape: [2], data: new Float32Array([0, 1]) }],
    ["mean", { dtype: "F32", shape: [3], data: new Float32Array(3) }],
    ["std", { dtype: "F32", shape: [3], data: new Float32Array(3).fill(2) }],
  ], {
    format: "tessera-probe",
    classes: '["snare","tom"]',
    multi_label: "false",
    features: '{"mode":"precise","pool":"mean","bands":"concat","seconds":2}',
    checkpoint: "0a".repeat(32),
    about: '{"dataset":"d","mean":0.5}',
    ...changes,
  });
}

const PICKLES = [
  dictOf({ model: `}(${text("w")}${tensor()}u`, epoch: int(3) }),
  dictOf({ "a.b": tensor({ shape: [2, 2], strides: [2, 1] }), list: `](${int(1)}${text("x")}e` }),
  raw("\x80\x02ccollections\nOrderedDict\n)R(", text("w"), tensor(), "u."),
  raw(
    "\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94K\x01" +
      "\x8c\x01b]\x94(NK\x02e\x86\x94u.",
  ),
  raw("\x80\x02cargparse\nNamespace\n)\x81}", text("lr"), "G\x3f\xb9\x99\x99\x99\x99\x99\x9asb."),
];
const PICKLE_WORDS = [
  ...["(", ")", "]", "}", "e", "u", "t", "R", "b", "q\0", "h\0", "0", "1", "2", "."],
  ...["ccollections\nOrderedDict\n", "c__builtin__\nset\n", "cpathlib\nPosixPath\n", "N"],
  ...["c_codecs\nencode\n", "cnumpy\ndtype\n", "cnumpy.core.multiarray\nscalar\n", text("x")],
].map((it) => raw(it)).concat(
  [
    "\x81",
    "\x85",
    "\x86",
    "\x87",
    "\x8f",
    "\x90",
    "\x91",
    "\x93",
    "\x94",
    "\x8a\xff",
    "h\0h\0\x86q\0",
  ]
    .map((it) => raw(it)),
);

const TOML = [
  'preset = "tiny"\nsteps = 3\nlr = 2e-4\n"mask-ratio" = 0.5\ndata = ["a", "b"]\nquiet = true\n',
  '# run\nema-encoder = [0.9, 0.95]\nobjective = "matpac"\nseed = 0x1f\n[table]\na.b = """\nx"""\n',
];
const JSONC = [
  '{ "data": ["a", "b"], /* why */ "quiet": true, "steps": 7, }\n',
  '{"preset": "small", // size\n"lr": 1e-4, "warmup": 10, "variant": ["a=b"], "mask-ratio": 0.7}',
];
const utf8 = (texts: readonly string[]) => texts.map((it) => new TextEncoder().encode(it));

/** A reader of files: the input is written under a name in the folder. */
function file(name: string, read: (path: string, folder: string) => unknown): FuzzTarget["read"] {
  return (bytes, folder) => {
    const path = join(folder, name);
    Deno.writeFileSync(path, bytes);
    return read(path, folder);
  };
}

function npy(dtype: "f32" | "f16", frames: number): Uint8Array<ArrayBuffer> {
  const header = npyHeader([80, frames], dtype);
  const values = encodeValues(new Float32Array(80 * frames).fill(-3.5), dtype);
  return new Uint8Array([...header, ...values]);
}

const CHECKPOINT = golden("checkpoint_pt.safetensors");

/** Decodes a file as training does, up to a few minutes of sound. */
const sound = (ending: string) =>
  file(`x.${ending}`, async (path) => {
    for await (const block of waveformBlocks(path, { maxHours: 0.1 })) {
      if (!block.every(Number.isFinite)) throw new Error("a sample that is not finite");
    }
  });

/** All targets by name; `task fuzz` and tests choose among them. */
export const FUZZ_TARGETS: Readonly<Record<string, () => FuzzTarget>> = {
  pt: () => ({
    seeds: [
      ...PICKLES.slice(0, 3).map((it) => archive(it)),
      golden("torch/odds.pt"),
      golden("torch/odds_v4.pt"),
      golden("matpac_enconly_fp16.pt"),
    ],
    words: ["PK\x01\x02", "PK\x03\x04", "PK\x05\x06", "PK\x06\x06", "PK\x06\x07"],
    read: inspected,
  }),
  // Within an archive whose checksums fit.
  pickle: () => ({
    seeds: PICKLES,
    words: PICKLE_WORDS,
    read: (bytes) => inspected(archive(bytes)),
  }),
  zip: () => ({
    seeds: [archive(PICKLES[0]), archive(PICKLES[1], {})],
    words: ["PK\x01\x02", "PK\x03\x04", "PK\x05\x06", "PK\x06\x06", "PK\x06\x07", "\x08\0"],
    read: (bytes) =>
      namingFile("input", () => {
        const zip = new ZipArchive(bytesAccess(bytes));
        for (const it of zip.entries.values()) zip.read(it, 1 << 20);
      }),
  }),
  safetensors: () => ({
    seeds: [safetensors(), probe(), CHECKPOINT.slice(0, 1 << 16)],
    read: inspected,
  }),
  safetensors_header: () => {
    const { header, dataBytes } = headerOf(safetensors());
    return {
      seeds: [header],
      words: ['"shape":', '"dtype":', '"data_offsets":', '"__metadata__":', '"F32"', "[0,0]"],
      read: (bytes) => inspected(withLength(bytes, dataBytes)),
    };
  },
  probe: () => {
    const { header, dataBytes } = headerOf(probe());
    return {
      seeds: [header, headerOf(probe({ multi_label: "true" })).header],
      words: ['\\"mode\\":', "null", '\\"precise\\"', "\\u001b[2J", '\\"\\"'],
      read: (bytes, folder) =>
        file("probe.safetensors", (path) => loadProbe(path).predict([1, 2, 3], 2))(
          withLength(bytes, dataBytes),
          folder,
        ),
    };
  },
  // A run's checkpoints: a good one, and one that is damaged.
  checkpoints: () => ({
    seeds: [CHECKPOINT.slice(0, 1 << 16), safetensors(), utf8(["step-00000001.safetensors\n"])[0]],
    read: async (bytes, folder) => {
      const within = join(folder, "checkpoints");
      await Deno.mkdir(within, { recursive: true });
      await Deno.writeFile(join(within, checkpointName(2)), bytes);
      await Deno.writeFile(join(within, "latest"), bytes);
      await loadCheckpoint(folder);
      using _opened = openCheckpointFile(join(within, checkpointName(2)));
    },
  }),
  npy: () => ({
    seeds: [npy("f32", 7), npy("f16", 5)],
    words: ["'descr'", "'<f4'", "'fortran_order': True", "(80, 9)", "\x93NUMPY"],
    read: file(
      "x.npy",
      (path) => readCrop({ path, frames: 9, position: 0.5, mean: -7, std: 4 }),
    ),
  }),
  wav: () => ({
    seeds: [
      encodeWav(Float32Array.from({ length: 999 }, (_, i) => Math.sin(i / 9))),
      golden("audio/mulaw_8000.wav"),
    ],
    words: ["RIFF", "RF64", "ds64", "fmt ", "data", "LIST", "\xff\xff\xff\xff"],
    read: sound("wav"),
  }),
  flac: () => ({ seeds: [golden("audio/flac_16bit_mono.flac")], read: sound("flac") }),
  vorbis: () => ({
    seeds: [golden("audio/ogg_vorbis.ogg")],
    words: ["OggS", "\x01vorbis"],
    read: sound("ogg"),
  }),
  opus: () => ({
    seeds: [golden("audio/ogg_opus.opus")],
    words: ["OggS", "OpusHead", "OpusTags"],
    read: sound("opus"),
  }),
  mp3: () => ({
    seeds: [golden("audio/mp3_vbr.mp3"), golden("audio/mp3_truncated.mp3")],
    words: ["ID3", "Xing", "LAME", "\xff\xfb"],
    read: sound("mp3"),
  }),
  toml: () => ({
    seeds: utf8(TOML),
    words: ["[[a]]\n", "a.b.c = 1\n", '"""', "'''", "1979-05-27T07:32:00Z", "{a = 1}", "inf"],
    read: file("run.toml", (path) => resolveConfig(["--config", path])),
  }),
  jsonc: () => ({
    seeds: utf8(JSONC),
    words: ["/*", "*/", "//", ",", '"steps": 3', '{"a":', "[1,"],
    read: file("run.jsonc", (path) => resolveConfig(["--config", path])),
  }),
  manifest: () => ({
    seeds: utf8(["/data/clips\na.wav\t16000\nb/c.flac\t32000\n", "\ufeff.\nx.npy\t7\n"]),
    words: ["\t\t", "\t-1\n", "../", "\n\n", "\r"],
    read: file("manifest.tsv", (path) => readManifest(path)),
  }),
  meta: () => ({
    seeds: utf8([
      "filename,fold,category\na.wav,1,dog\nb.wav,2,cat\nc.wav,1,cat\nd.wav,2,dog\n",
      'filename,split,label\na.wav,train,"x;y"\nb.wav,test,y\n',
    ]),
    words: ["filename", "label", "fold", "split", '"', ";", ",,"],
    read: file("meta.csv", (_, folder) => labelledFolder(folder)),
  }),
  events: () => ({
    seeds: utf8([
      "filename,onset_ms,offset_ms,label\na.wav,0,120.5,c4\na.wav,100,300,e4\nb.wav,5,9,c4\n",
    ]),
    words: ["onset_ms", "NaN", "-5", "1e308", '"', ",,"],
    read: (bytes, folder) => {
      const meta = "filename,fold\na.wav,1\nb.wav,2\n";
      Deno.writeTextFileSync(join(folder, "meta.csv"), meta);
      return file("events.csv", (_, folder) => eventFolder(folder))(bytes, folder);
    },
  }),
};
