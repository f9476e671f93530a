/**
 * Sound as WAV.
 *
 * @module
 */
import { SAMPLE_RATE } from "../../model/frontend/tables.ts";

const HEADER = 44;
const BYTES = 2;

/** Mono 16 kHz as 16-bit WAV; made quieter as a whole where it would be clipped. */
export function encodeWav(samples: Float32Array): Uint8Array<ArrayBuffer> {
  const loudest = samples.reduce((most, it) => Math.max(most, Math.abs(it)), 0);
  const gain = 32767 / Math.max(1, loudest);
  const bytes = new Uint8Array(HEADER + BYTES * samples.length);
  const view = new DataView(bytes.buffer);
  const words = (at: number, text: string) => bytes.set(new TextEncoder().encode(text), at);
  words(0, "RIFF");
  view.setUint32(4, bytes.length - 8, true);
  words(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, SAMPLE_RATE, true);
  view.setUint32(28, SAMPLE_RATE * BYTES, true);
  view.setUint16(32, BYTES, true);
  view.setUint16(34, 8 * BYTES, true);
  words(36, "data");
  view.setUint32(40, BYTES * samples.length, true);
  samples.forEach((it, i) => view.setInt16(HEADER + BYTES * i, Math.round(it * gain), true));
  return bytes;
}
