/**
 * The WebAssembly decoders, each for one stream, its packets or frames in pieces.
 *
 * A damaged stream can leave a decoder in any state, so that nothing of it is used after an error:
 * each stream has an instance of its own (about 0.3 ms), which is dropped as it is.
 *
 * @module
 */
import { FLACDecoder } from "../deps/flac.ts";
import { OggVorbisDecoder } from "../deps/ogg_vorbis.ts";
import { MPEGDecoder } from "../deps/mpg123.ts";
import { OpusDecoder } from "../deps/opus.ts";
import { AudioError } from "./decoded_audio.ts";

/** A decoder with the state of one stream. */
export interface StreamDecoder<Input> {
  /**
   * The samples that the input gives, one array per channel.
   *
   * @throws AudioError at the first error; nothing may be decoded after it.
   */
  decode(input: Input): Float32Array[];
  /**
   * Frees the decoder after the last input. One that is left after an error or before its end is
   * the garbage collector's.
   *
   * @throws AudioError when that shows that its memory is damaged.
   */
  finish(): void;
}

interface Result {
  readonly channelData: Float32Array[];
  readonly errors: readonly { readonly message: string }[];
}

/** What is needed of the decoder inside OggVorbisDecoder, which takes packets. */
interface VorbisPackets {
  sendSetupHeader(header: Uint8Array): void;
  initDsp(): void;
  decodePackets(packets: readonly Uint8Array[]): Result;
}

/** A decoder of whole FLAC frames. */
export function flacDecoder(): Promise<StreamDecoder<Uint8Array[]>> {
  return ready("FLAC", () => new FLACDecoder(), (decoder) => {
    const { _decoder } = decoder as unknown as {
      _decoder: { decodeFrames(frames: Uint8Array[]): Result };
    };
    return (frames) => _decoder.decodeFrames(frames);
  });
}

/** A decoder of MPEG audio frames of one rate, two channels always, equal ones where mono. */
export function mpegDecoder(): Promise<StreamDecoder<Uint8Array>> {
  return ready("MP3", () => new MPEGDecoder(), (decoder) => (data) => decoder.decode(data));
}

/** How an Opus stream's channels are coded (RFC 7845, 5.1.1). */
export interface OpusChannels {
  /** Of the output. */
  readonly channels: number;
  /** Opus streams in a packet. */
  readonly streamCount: number;
  /** Those of them that have two channels. */
  readonly coupledStreamCount: number;
  /** For each channel, which decoded one it is. */
  readonly channelMappingTable: number[];
}

/** A decoder of Opus packets, at 48 kHz, nothing skipped. */
export function opusDecoder(channels: OpusChannels): Promise<StreamDecoder<Uint8Array[]>> {
  const make = () => new OpusDecoder({ ...channels, preSkip: 0, sampleRate: 48000 });
  return ready("Opus", make, (decoder) => (packets) => decoder.decodeFrames(packets));
}

/**
 * A decoder of Vorbis packets.
 *
 * @param identification the stream's first packet
 * @param setup the stream's third packet
 */
export function vorbisDecoder(
  identification: Uint8Array,
  setup: Uint8Array,
): Promise<StreamDecoder<readonly Uint8Array[]>> {
  return ready("Vorbis", () => new OggVorbisDecoder(), (decoder) => {
    const { _decoder } = decoder as unknown as { _decoder: VorbisPackets };
    _decoder.sendSetupHeader(identification);
    _decoder.sendSetupHeader(setup);
    _decoder.initDsp();
    return (packets) => _decoder.decodePackets(packets);
  });
}

/** A decoder that is made, started and asked without a word on the console. */
async function ready<D extends { readonly ready: Promise<void>; free(): void }, Input>(
  codec: string,
  make: () => D,
  start: (decoder: D) => (input: Input) => Result,
): Promise<StreamDecoder<Input>> {
  const damaged = (error: unknown) =>
    new AudioError(`${codec} data is damaged: ${messageOf(error)}`);
  const attempt = <T>(work: () => T): T => {
    try {
      return quietly(work);
    } catch (error) {
      throw damaged(error);
    }
  };
  const decoder = attempt(make);
  await decoder.ready.catch((error) => {
    throw damaged(error);
  });
  const run = attempt(() => start(decoder));
  return {
    decode(input) {
      const { channelData, errors } = attempt(() => run(input));
      if (errors.length > 0) throw damaged(errors[0].message);
      return channelData;
    },
    finish: () => attempt(() => decoder.free()),
  };
}

/** Runs work during which the libraries' own messages, one for each broken packet, are dropped. */
function quietly<T>(work: () => T): T {
  const { error, warn, log } = console;
  console.error = console.warn = console.log = () => {};
  try {
    return work();
  } finally {
    Object.assign(console, { error, warn, log });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
