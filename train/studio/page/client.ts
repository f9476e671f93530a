/**
 * Where the page has its data from: the server, or the page itself where it was saved.
 *
 * @module
 */
import type { Overview, RunDetails, SeriesQuery, StudioEvent } from "../api.ts";
import type { Series } from "./series.ts";

/** Header of what tells a model from others, and from what its file held before. */
export const MODEL_KEY = "x-model-key";
/** Header of the attention heads that the command was told. */
export const MODEL_HEADS = "x-model-heads";

/** Where data come from. */
export interface Source {
  /** Whether there is a server. */
  readonly live: boolean;
  overview(): Promise<Overview>;
  series(query: SeriesQuery): Promise<Series>;
  details(id: string): Promise<RunDetails>;
  /** Calls back with what happens, and with whether the server is there, until the end. */
  listen(hear: (event: StudioEvent) => void, up: (isUp: boolean) => void): () => void;
}

/** An address of the server with parameters. */
export function address(path: string, query: Readonly<Record<string, unknown>> = {}): string {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const it of Array.isArray(value) ? value : [value]) {
      if (it !== undefined) words.append(name, String(it));
    }
  }
  const text = words.toString();
  return text === "" ? path : `${path}?${text}`;
}

/** What the server says is wrong. */
export class AnswerError extends Error {
  /** Of HTTP. */
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** An answer of the server. @throws {Error} with what it says is wrong, where it answers */
export async function ask(path: string, init?: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new Error("the server does not answer; was it ended?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const { status } = response;
  throw new AnswerError(status, typeof said.error === "string" ? said.error : `status ${status}`);
}

/** JSON of the server. */
export async function askJson<Value>(path: string, init?: RequestInit): Promise<Value> {
  return await (await ask(path, init)).json();
}

/** The server that gave the page out. */
export const SERVER: Source = {
  live: true,
  overview: () => askJson("api/overview"),
  details: (run) => askJson(address("api/run", { run })),
  async series({ runs, log, ...query }) {
    const path = address("api/series", { ...query, run: runs, log: Number(log) });
    const bytes = await (await ask(path)).arrayBuffer();
    const [places, curves] = new Uint32Array(bytes, 0, 2);
    const first = 8 + 8 * places;
    return {
      x: new Float64Array(bytes, 8, places),
      y: Array.from(
        { length: curves },
        (_, i) => new Float32Array(bytes, first + 4 * places * i, places),
      ),
    };
  },
  listen(hear, up) {
    const events = new EventSource("api/events");
    events.onopen = () => up(true);
    events.onerror = () => up(false);
    events.onmessage = ({ data }) => hear(JSON.parse(data));
    return () => events.close();
  },
};
