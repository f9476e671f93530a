/**
 * Event files, byte for byte; TensorBoard 2.21 read such files when this was written (see the
 * commit).
 */
import { assert, assertEquals } from "@std/assert";
import { groupOf } from "../../../train/metrics/groups.ts";
import { run as pretrainCommand } from "../../../train/commands/pretrain.ts";
import { fullOnly, test } from "../../support/tier.ts";
import {
  crc32c,
  encodeEvent,
  EventFile,
  markdownTable,
  maskedCrc32c,
  tfRecord,
} from "../../../train/metrics/tensorboard.ts";

const bytes = (...values: number[]) => Uint8Array.of(...values);
const text = (value: string) => new TextEncoder().encode(value);
const hex = (data: Uint8Array) => [...data].map((it) => it.toString(16).padStart(2, "0")).join(" ");

test("CRC-32C has the vectors of RFC 3720, B.4", () => {
  const count = (from: number, by: number) =>
    Uint8Array.from({ length: 32 }, (_, i) => from + by * i);
  assertEquals(crc32c(count(0, 0)), 0x8a9136aa);
  assertEquals(crc32c(count(0xff, 0)), 0x62a8ab43);
  assertEquals(crc32c(count(0, 1)), 0x46dd794e);
  assertEquals(crc32c(count(31, -1)), 0x113fdb5c);
  // The check value of the CRC catalogues.
  assertEquals(crc32c(text("123456789")), 0xe3069283);
  assertEquals(crc32c(bytes()), 0);
});

test("masked CRC: TensorFlow's own event files begin with these twelve bytes", () => {
  // Length 24 of the version event and its masked CRC.
  const record = tfRecord(new Uint8Array(24));
  assertEquals(hex(record.subarray(0, 12)), "18 00 00 00 00 00 00 00 a3 7f 4b 22");
  // By hand: 0xe3069283 rotated right by 15 is 0x2507c60d; plus 0xa282ead8 is 0xc78ab0e5.
  assertEquals(maskedCrc32c(text("123456789")), 0xc78ab0e5);
});

test("the version event is the record that TensorFlow writes", () => {
  // 09 f64, 1a 0d "brain.Event:2": 24 bytes.
  const expected = "09 00 00 00 00 00 00 f8 3f 1a 0d 62 72 61 69 6e 2e 45 76 65 6e 74 3a 32";
  assertEquals(hex(encodeEvent(1.5, 0, { fileVersion: "brain.Event:2" })), expected);
});

test("scalars and session starts, field by field", () => {
  // wall_time 2.0 | step 300 = ac 02 | summary, 17 bytes: value, 8 bytes: tag "a", simple_value
  // 0.5; value, 5 bytes …
  const scalars = encodeEvent(2, 300, { scalars: { a: 0.5, bc: -2 } });
  assertEquals(
    hex(scalars),
    [
      "09 00 00 00 00 00 00 00 40",
      "10 ac 02",
      "2a 15",
      "0a 08 0a 01 61 15 00 00 00 3f",
      "0a 09 0a 02 62 63 15 00 00 00 c0",
    ].join(" "),
  );
  assertEquals(
    hex(encodeEvent(2, 1, { sessionStart: true })),
    "09 00 00 00 00 00 00 00 40 10 01 3a 02 08 01",
  );
  // 2^33 + 1: five groups of seven bits.
  assertEquals(
    hex(encodeEvent(0, 2 ** 33 + 1, { sessionStart: true }).subarray(9)),
    "10 81 80 80 80 20 3a 02 08 01",
  );
});

test("a text is a string tensor of the text plugin, field by field", () => {
  // summary, 31 bytes: value, 29: tag "a"; tensor, 9: DT_STRING, scalar shape, "| b"; metadata, 8:
  // plugin data, 6: its name.
  assertEquals(
    hex(encodeEvent(0, 0, { tag: "a", text: "| b" }).subarray(9)),
    [
      "2a 1a 0a 18 0a 01 61",
      "42 09 08 07 12 00 42 03 7c 20 62",
      "4a 08 0a 06 0a 04 74 65 78 74",
    ].join(" "),
  );
  assertEquals(
    markdownTable({ lr: 1e-3, data: ["a|b"], preset: "tiny" }).split("\n").slice(2),
    ["| lr | 0.001 |", '| data | ["a\\|b"] |', "| preset | tiny |"],
  );
});

test("every measured field of a row has a group", () => {
  const fields = "epoch samples loss loss_pred loss_cls lr teacher_temp ema_encoder ema_head " +
    "choice_temp grad_norm target_perplexity target_std prediction_std distinct_targets " +
    "head_perplexity loss_scale skipped_updates samples_per_s loader_wait exchange_wait " +
    "exchange_share slowest_rank ranks " +
    "gpu_live_bytes gpu_peak_bytes process_bytes seconds eval_accuracy eval_map";
  assertEquals(fields.split(" ").filter((it) => groupOf(it) === "other"), []);
});

/** Data of the records of a file whose CRCs are right. */
function records(file: Uint8Array): Uint8Array[] {
  const view = new DataView(file.buffer, file.byteOffset);
  const found: Uint8Array[] = [];
  for (let at = 0; at < file.length;) {
    const length = Number(view.getBigUint64(at, true));
    assertEquals(view.getUint32(at + 8, true), maskedCrc32c(file.subarray(at, at + 8)));
    const data = file.subarray(at + 12, at + 12 + length);
    assertEquals(view.getUint32(at + 12 + length, true), maskedCrc32c(data));
    found.push(data);
    at += 16 + length;
  }
  return found;
}

test("a resumed run starts a later file that says from which step it counts", () => {
  const dir = Deno.makeTempDirSync();
  try {
    const now = () => 1_700_000_000_500;
    const first = EventFile.open(dir, 0, now);
    first.write({ step: 1, loss: 0.25, note: "no number" });
    first.flush();
    first[Symbol.dispose]();
    // The same second again: the names still sort as they were opened.
    EventFile.open(dir, 7, now)[Symbol.dispose]();
    const names = [...Deno.readDirSync(dir)].map(({ name }) => name).sort();
    assertEquals(names, [
      "events.out.tfevents.1700000000.tessera",
      "events.out.tfevents.1700000001.tessera",
    ]);
    const [one, two] = names.map((name) => records(Deno.readFileSync(`${dir}/${name}`)));
    const time = now() / 1000;
    assertEquals(one, [
      encodeEvent(time, 0, { fileVersion: "brain.Event:2" }),
      encodeEvent(time, 0, { sessionStart: true }),
      encodeEvent(time, 1, { scalars: { "loss/loss": 0.25 } }),
    ]);
    assertEquals(two.slice(1), [encodeEvent(time, 8, { sessionStart: true })]);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
});

fullOnly("a run's event files hold the numbers of its metrics.jsonl", async () => {
  const dir = Deno.makeTempDirSync();
  try {
    const out = `${dir}/run`;
    const words = `--batch 2 --crop-frames 48 --log-every 1 --quiet --out ${out}`.split(" ");
    const run = (...more: string[]) =>
      pretrainCommand([...words, ...more], new AbortController().signal);
    assertEquals(await run("--steps", "2"), 0);
    assertEquals(await run("--resume", "--steps", "3"), 0);
    // What follows the nine bytes of the time.
    const untimed = (event: Uint8Array) => hex(event.subarray(9));
    const rows = Deno.readTextFileSync(`${out}/metrics.jsonl`).trim().split("\n").map((line) => {
      const { step, ...scalars } = JSON.parse(line);
      const grouped = Object.entries(scalars).map(([it, value]) => [`${groupOf(it)}/${it}`, value]);
      return untimed(encodeEvent(0, step, { scalars: Object.fromEntries(grouped) }));
    });
    const start = (step: number) => untimed(encodeEvent(0, step, { sessionStart: true }));
    const version = untimed(encodeEvent(0, 0, { fileVersion: "brain.Event:2" }));
    const files = [...Deno.readDirSync(out)].map(({ name }) => name).sort()
      .filter((name) => name.startsWith("events.out.tfevents."))
      .map((name) => records(Deno.readFileSync(`${out}/${name}`)).map(untimed));
    const [[, , first], [, , second]] = files;
    for (const it of [first, second]) assert(it.includes(hex(text("| crop-frames | 48 |"))));
    assertEquals(files, [
      [version, start(0), first, rows[0], rows[1]],
      [version, start(3), second, rows[2]],
    ]);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
});
