/**
 * Sounds of a microphone, and of files that the server cannot decode but the browser can.
 *
 * @module
 */

/** A mono waveform as a WAV file of 16 bits. */
export function wavOf(samples: Float32Array, rate: number): Blob {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at: number, words: string): void =>
    [...words].forEach((it, i) => view.setUint8(at + i, it.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((it, i) =>
    view.setInt16(44 + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, it))), true)
  );
  return new Blob([view], { type: "audio/wav" });
}

/** What the browser decodes of a file, as mono WAV. */
export async function asWav(file: Blob): Promise<Blob> {
  const context = new AudioContext();
  try {
    const decoded = await context.decodeAudioData(await file.arrayBuffer());
    const { numberOfChannels: channels, length, sampleRate } = decoded;
    const mono = new Float32Array(length);
    for (let channel = 0; channel < channels; channel++) {
      decoded.getChannelData(channel).forEach((it, i) => mono[i] += it / channels);
    }
    return wavOf(mono, sampleRate);
  } finally {
    await context.close();
  }
}

/** A recording under way. */
export interface Recording {
  /** Ends it and gives the sound as WAV. */
  end(): Promise<Blob>;
}

/** Starts to record; the browser asks whether it may. */
export async function record(): Promise<Recording> {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const recorder = new MediaRecorder(stream);
  const parts: Blob[] = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.start();
  return {
    end: () =>
      new Promise((resolve, reject) => {
        recorder.onstop = () => {
          for (const it of stream.getTracks()) it.stop();
          asWav(new Blob(parts, { type: recorder.mimeType })).then(resolve, reject);
        };
        recorder.stop();
      }),
  };
}
