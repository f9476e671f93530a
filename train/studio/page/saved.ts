/**
 * A run that the page itself holds.
 *
 * @module
 */
import type { SavedRun } from "../api.ts";
import type { Source } from "./client.ts";
import { seriesOf } from "./series.ts";

function floats(base64: string): Float32Array {
  const text = atob(base64);
  const bytes = Uint8Array.from({ length: text.length }, (_, i) => text.charCodeAt(i));
  return new Float32Array(bytes.buffer);
}

/** What the page holds; undefined where a server gave it out. */
export function savedRun(): SavedRun | undefined {
  const text = document.getElementById("saved")?.textContent;
  return text ? JSON.parse(text) : undefined;
}

/** A run that was saved as a source of one. */
export function savedSource({ item, details, curves }: SavedRun): Source {
  const read = new Map(
    Object.entries(curves).map(([metric, { step, seconds, y }]) => [
      metric,
      { step: floats(step), seconds: floats(seconds), y: floats(y) },
    ]),
  );
  const none = { step: [], seconds: [], y: [] };
  return {
    live: false,
    overview: () =>
      Promise.resolve({
        folder: item.name,
        runs: [item],
        ...{ checkpoint: null, collection: null, probe: null, notes: [] },
      }),
    details: () => Promise.resolve(details),
    series: ({ metric, x, runs, ...view }) => {
      const found = read.get(metric) ?? none;
      return Promise.resolve(seriesOf(runs.map(() => ({ x: found[x], y: found.y })), view));
    },
    listen: () => () => {},
  };
}
