/**
 * The audio of Ogg files: Vorbis and Opus (RFC 7845) packets, cut to what the pages' granule
 * positions say.
 *
 * @module
 */
import type { ByteSource } from "./byte_source.ts";
import { type AudioBlocks, AudioError, BLOCK_SAMPLES, type LengthCheck } from "./decoded_audio.ts";
import { type OpusChannels, opusDecoder, type StreamDecoder, vorbisDecoder } from "./decoders.ts";
import { oggFlacBlocks } from "./flac.ts";
import { type OggPage, oggPages, oggStreams } from "./ogg.ts";

/** Rate of decoded Opus, Hz. */
const OPUS_RATE = 48000;
/** Samples of the longest Opus packet, 120 ms, and Vorbis block. */
const MAX_PACKET_SAMPLES = 8192;

/**
 * The streams of an Ogg file, one after the other.
 *
 * @throws AudioError when a page is damaged or missing, or a stream cannot be decoded.
 */
export async function* oggBlocks(file: ByteSource, check: LengthCheck): AudioBlocks {
  const streams = oggStreams(file);
  check(streams.reduce((sum, { seconds }) => sum + seconds, 0));
  for (const stream of streams) {
    const pages = oggPages(file, stream);
    if (stream.codec === "flac") yield* oggFlacBlocks(packetsOf(pages), check);
    else yield* stream.codec === "opus" ? opusBlocks(pages) : vorbisBlocks(pages);
  }
}

function* packetsOf(pages: Iterable<OggPage>): Generator<Uint8Array> {
  for (const { packets } of pages) yield* packets;
}

async function* opusBlocks(pages: Iterable<OggPage>): AudioBlocks {
  const trim = { preSkip: 0, cutsStart: false };
  let gain = 1;
  const start = async ([head]: readonly Uint8Array[]) => {
    const { preSkip, channels, gain: decibels } = opusHead(head);
    trim.preSkip = preSkip;
    gain = 10 ** (decibels / 20);
    return { decoder: await opusDecoder(channels), channels: channels.channels };
  };
  // Neither decoder nor RFC know what an empty packet is.
  const usable = (packet: Uint8Array) => packet.length > 0;
  for await (const channels of trimmed(pages, 2, start, usable, trim)) {
    if (gain !== 1) {
      for (const channel of channels) {
        for (let i = 0; i < channel.length; i++) channel[i] *= gain;
      }
    }
    yield { sampleRate: OPUS_RATE, channels };
  }
}

async function* vorbisBlocks(pages: Iterable<OggPage>): AudioBlocks {
  let sampleRate = 0;
  const start = async ([head, , setup]: readonly Uint8Array[]) => {
    if (head.length < 30 || head[11] === 0) throw new AudioError("Vorbis header is damaged");
    const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
    sampleRate = view.getUint32(12, true);
    if (sampleRate === 0) throw new AudioError("bad Vorbis header: sample rate 0");
    return { decoder: await vorbisDecoder(head, setup), channels: head[11] };
  };
  // The lowest bit marks a header; libvorbis passes those over too.
  const usable = (packet: Uint8Array) => packet.length > 0 && (packet[0] & 1) === 0;
  const trim = { preSkip: 0, cutsStart: true };
  for await (const channels of trimmed(pages, 3, start, usable, trim)) {
    yield { sampleRate, channels };
  }
}

/** Samples on the first page of a stream, all channels together. */
const MOST_HELD = 1 << 24;

interface Started {
  readonly decoder: Pick<StreamDecoder<Uint8Array[]>, "decode" | "finish">;
  readonly channels: number;
}

/**
 * Decodes the packets of a stream and cuts off what is not part of the sound: `preSkip` samples at
 * the start, or those before position 0 where the first page says so (`cutsStart`, Vorbis), and at
 * the end what lies behind the position of the last page. Positions count from what the first page
 * says, so that a stream that was cut out of a longer one keeps its length. What no page's end
 * confirms, in a file that was cut off, is kept.
 *
 * @param headers number of packets before the audio, which `start` gets
 */
async function* trimmed(
  pages: Iterable<OggPage>,
  headers: number,
  start: (headers: readonly Uint8Array[]) => Promise<Started>,
  usable: (packet: Uint8Array) => boolean,
  trim: { readonly preSkip: number; readonly cutsStart: boolean },
): AsyncGenerator<Float32Array[]> {
  const head: Uint8Array[] = [];
  let started: Started | undefined;
  /** Position of the first decoded sample, once a page said one. */
  let origin: number | undefined;
  let decoded = 0;
  let given = 0;
  let end = Infinity;
  const cut = (block: Float32Array[]) => {
    const skipped = trim.cutsStart ? Math.max(0, -(origin ?? 0)) : trim.preSkip;
    const { length } = block[0];
    const first = Math.min(length, Math.max(0, skipped - given));
    const last = Math.max(first, Math.min(length, end - given));
    given += length;
    return block.map((channel) => channel.subarray(first, last));
  };
  let held: Float32Array[][] = [];
  for (const { packets, granule, last } of pages) {
    while (head.length < headers && packets.length > 0) head.push(packets.shift()!);
    if (head.length < headers) continue;
    const { decoder, channels } = started ??= await start(head);
    if (last && granule !== undefined) end = granule - (origin ??= 0);
    const most = Math.max(1, Math.floor(BLOCK_SAMPLES / (channels * MAX_PACKET_SAMPLES)));
    const audio = packets.filter(usable);
    for (let i = 0; i < audio.length; i += most) {
      const block = decoder.decode(audio.slice(i, i + most));
      // Vorbis gives nothing for the first packet, the number of channels neither.
      if (!block[0]?.length) continue;
      if (block.length !== channels) throw new AudioError("the number of channels is damaged");
      decoded += block[0].length;
      if (trim.cutsStart && origin === undefined) {
        held.push(block);
        if (decoded * channels > MOST_HELD) throw new AudioError("no position on the first pages");
      } else yield cut(block);
    }
    if (granule === undefined || decoded === 0) continue;
    origin ??= granule - decoded;
    for (const block of held) yield cut(block);
    held = [];
  }
  for (const block of held) yield cut(block);
  started?.decoder.finish();
}

/** An Opus stream's first packet (RFC 7845, 5.1). */
function opusHead(
  head: Uint8Array,
): { preSkip: number; gain: number; channels: OpusChannels } {
  const fail = (what: string): never => {
    throw new AudioError(`Opus header is damaged: ${what}`);
  };
  if (head.length < 19) fail("it is cut off");
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (head[8] >> 4 !== 0) fail(`version ${head[8]}`);
  const channels = head[9];
  const family = head[18];
  if (channels === 0) fail("0 channels");
  const common = { preSkip: view.getUint16(10, true), gain: view.getInt16(16, true) / 256 };
  if (family === 0) {
    if (channels > 2) fail(`${channels} channels in family 0`);
    return {
      ...common,
      channels: {
        channels,
        streamCount: 1,
        coupledStreamCount: channels - 1,
        channelMappingTable: channels === 2 ? [0, 1] : [0],
      },
    };
  }
  if (family === 3) {
    throw new AudioError("Opus of projected ambisonics (mapping family 3) is not supported");
  }
  if (head.length < 21 + channels) fail("its table of channels is cut off");
  const [streamCount, coupledStreamCount] = [head[19], head[20]];
  const channelMappingTable = [...head.subarray(21, 21 + channels)];
  const sources = streamCount + coupledStreamCount;
  if (
    streamCount === 0 || coupledStreamCount > streamCount || sources > 255 ||
    channelMappingTable.some((it) => it !== 255 && it >= sources)
  ) fail("its table of channels makes no sense");
  return {
    ...common,
    channels: { channels, streamCount, coupledStreamCount, channelMappingTable },
  };
}
