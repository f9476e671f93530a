/**
 * TensorBoard event files, written by hand: TFRecord framing around the few fields of the protobufs
 * `Event`, `Summary` and `SessionLog` that scalars need (tensorflow/core/util/event.proto,
 * tensorflow/core/framework/summary.proto, tensorflow/core/lib/io/record_writer.h).
 *
 * @module
 */
import { join } from "../deps/path.ts";
import { concatBytes, writeFully } from "../io/bytes.ts";
import { groupOf } from "./groups.ts";

/** Reversed polynomial of CRC-32C (Castagnoli). */
const POLYNOMIAL = 0x82f63b78;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  return crc;
});

/** CRC-32C of `bytes` (RFC 3720, appendix B.4). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 0xff];
  return ~crc >>> 0;
}

/**
 * CRC-32C as TFRecord keeps it: rotated by 15 bits and shifted by a constant, so that a CRC of CRCs
 * stays one.
 */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return ((crc >>> 15 | crc << 17) + 0xa282ead8) >>> 0;
}

/** A TFRecord: length (u64), its masked CRC, data, the data's masked CRC; little-endian. */
export function tfRecord(data: Uint8Array): Uint8Array {
  const record = new Uint8Array(12 + data.length + 4);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedCrc32c(record.subarray(0, 8)), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, maskedCrc32c(data), true);
  return record;
}

const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  // Not by bits: steps may need more than 32 of them.
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push(value % 128 + 128);
  return Uint8Array.of(...bytes, value);
}

function key(field: number, wire: number): Uint8Array {
  return varint(field * 8 + wire);
}

function varintField(field: number, value: number): Uint8Array {
  return concatBytes([key(field, WIRE.varint), varint(value)]);
}

function bytesField(field: number, value: Uint8Array | string): Uint8Array {
  const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
  return concatBytes([key(field, WIRE.bytes), varint(bytes.length), bytes]);
}

function doubleField(field: number, value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value, true);
  return concatBytes([key(field, WIRE.fixed64), bytes]);
}

function floatField(field: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return concatBytes([key(field, WIRE.fixed32), bytes]);
}

/** Numbers of the fields that are used, and of `SessionLog.START`. */
const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 } as const;
const SUMMARY_VALUE = 1;
const VALUE = { tag: 1, simpleValue: 2, tensor: 8, metadata: 9 } as const;
/** Of `TensorProto`, and of its type `DT_STRING` and its shape, a scalar's. */
const TENSOR = { dtype: 1, string: 7, shape: 2, stringVal: 8 } as const;
/** Of `SummaryMetadata` and its `PluginData`. */
const METADATA = { pluginData: 1, pluginName: 1 } as const;
const SESSION = { status: 1, start: 1 } as const;

/** What an event says. */
export type EventContent =
  | { readonly fileVersion: string }
  | { readonly sessionStart: true }
  | { readonly scalars: Readonly<Record<string, number>> }
  | { readonly tag: string; readonly text: string };

/**
 * The protobuf `Event`, fields in the order of their numbers; a step of 0 is left out, as proto3
 * has it.
 *
 * @param wallTime seconds since 1970
 * @param step updates done
 */
export function encodeEvent(wallTime: number, step: number, content: EventContent): Uint8Array {
  const head = [
    doubleField(EVENT.wallTime, wallTime),
    ...(step > 0 ? [varintField(EVENT.step, step)] : []),
  ];
  if ("fileVersion" in content) {
    return concatBytes([...head, bytesField(EVENT.fileVersion, content.fileVersion)]);
  }
  if ("sessionStart" in content) {
    const log = varintField(SESSION.status, SESSION.start);
    return concatBytes([...head, bytesField(EVENT.sessionLog, log)]);
  }
  if ("text" in content) {
    const tensor = concatBytes([
      varintField(TENSOR.dtype, TENSOR.string),
      bytesField(TENSOR.shape, ""),
      bytesField(TENSOR.stringVal, content.text),
    ]);
    const plugin = bytesField(METADATA.pluginData, bytesField(METADATA.pluginName, "text"));
    const value = concatBytes([
      bytesField(VALUE.tag, content.tag),
      bytesField(VALUE.tensor, tensor),
      bytesField(VALUE.metadata, plugin),
    ]);
    return concatBytes([...head, bytesField(EVENT.summary, bytesField(SUMMARY_VALUE, value))]);
  }
  const values = Object.entries(content.scalars).map(([tag, value]) =>
    bytesField(
      SUMMARY_VALUE,
      concatBytes([bytesField(VALUE.tag, tag), floatField(VALUE.simpleValue, value)]),
    )
  );
  return concatBytes([...head, bytesField(EVENT.summary, concatBytes([...values]))]);
}

/** Values under their names as a table of Markdown, lists and tables in them as JSON. */
export function markdownTable(values: Readonly<Record<string, unknown>>): string {
  const rows = Object.entries(values).map(([name, value]) => {
    const words = typeof value === "string" ? value : JSON.stringify(value) ?? "";
    return `| ${name} | ${words.replaceAll("|", "\\|").replaceAll("\n", " ")} |`;
  });
  return ["| option | value |", "|---|---|", ...rows].join("\n");
}

/** Instead of the host's name, which would need a permission. */
const HOST = "tessera";

/** An open event file. Each row is written whole. */
export class EventFile implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #now: () => number;

  private constructor(file: Deno.FsFile, now: () => number) {
    this.#file = file;
    this.#now = now;
  }

  /**
   * Starts a new event file in a run's directory. Rows that older files of the directory have after
   * `step` no longer count: the file says that a session starts at the step after it, and readers
   * drop theirs.
   *
   * @param step updates done so far
   * @param now milliseconds since 1970
   */
  static open(dir: string, step: number, now: () => number = Date.now): EventFile {
    // Readers take the files in the order of their names, so this one's must be the last.
    const seconds = Math.max(Math.floor(now() / 1000), ...timesOf(dir).map((it) => it + 1));
    const path = join(dir, `events.out.tfevents.${String(seconds).padStart(10, "0")}.${HOST}`);
    const events = new EventFile(Deno.openSync(path, { write: true, createNew: true }), now);
    events.#write(0, { fileVersion: "brain.Event:2" });
    // Nothing counts from before the first update, an evaluation at step 0 included.
    events.#write(step > 0 ? step + 1 : 0, { sessionStart: true });
    return events;
  }

  /** Writes a text, of Markdown, under a name. */
  writeText(step: number, tag: string, text: string): void {
    this.#write(step, { tag, text });
  }

  /** Writes the numbers of a row under their groups and names, at its step. */
  write<Row extends { readonly step: number }>({ step, ...row }: Row): void {
    const scalars: Record<string, number> = {};
    for (const [tag, value] of Object.entries(row)) {
      if (typeof value === "number") scalars[`${groupOf(tag)}/${tag}`] = value;
    }
    this.#write(step, { scalars });
  }

  /** Waits until what was written is on the disk. */
  flush(): void {
    this.#file.syncDataSync();
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }

  #write(step: number, content: EventContent): void {
    writeFully(this.#file, tfRecord(encodeEvent(this.#now() / 1000, step, content)));
  }
}

/** Times in the names of the event files of a directory. */
function timesOf(dir: string): number[] {
  return [...Deno.readDirSync(dir)].flatMap(({ name }) => {
    const time = /^events\.out\.tfevents\.(\d+)\./.exec(name);
    return time ? [Number(time[1])] : [];
  });
}
