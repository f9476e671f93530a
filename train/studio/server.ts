/**
 * The server of `deno task studio`: it reads what was named, and answers the page that it gave out.
 *
 * @module
 */
import { INDEX, modules, savedPage, STYLE } from "./assets.ts";
import type { Overview, SavedRun, SeriesQuery, StudioEvent } from "./api.ts";
import { admitted, answer, json, randomToken, RequestError } from "./guard.ts";
import { Library } from "./library.ts";
import { isFolder } from "../io/folders.ts";
import { seriesOf } from "./page/series.ts";
import type { Series } from "./page/series.ts";

/** What is shown. */
export interface StudioOptions {
  /** A run, or a folder with runs below it. */
  readonly folder: string;
  /** Port; default a free one. */
  readonly port?: number;
  /** What else can be asked for; without it there are runs alone. */
  readonly sounds?: SoundAnswers;
}

/** Answers that need a model or a folder of sounds. */
export interface SoundAnswers {
  /** What was named on the command line. */
  readonly named: Pick<Overview, "checkpoint" | "collection" | "probe">;
  /** Paths that take a body. */
  readonly posts: ReadonlySet<string>;
  /** An answer; undefined for a path that is not known. */
  answer(path: string, request: Request, library: Library): Promise<Response | undefined>;
}

/** A server that is up. */
export interface Studio {
  /** Where it is, with the token. */
  readonly address: string;
  /** Ends it, open connections included. */
  close(): Promise<void>;
}

/** Milliseconds after which a connection of events says that it is alive. */
const HEARTBEAT = 15_000;
/** Columns of pixels that are asked for at most, and points of a saved curve. */
const [MOST_COLUMNS, SAVED_COLUMNS] = [8_192, 1_500];
const MOST_RUNS = 1_000;
const NONE = { checkpoint: null, collection: null, probe: null } as const;

/** Starts the server on 127.0.0.1. */
export async function openStudio({ folder, port = 0, sounds }: StudioOptions): Promise<Studio> {
  const token = randomToken();
  const library = new Library(folder);
  const streams = new Set<() => void>();
  await library.watch();
  const overview = async (): Promise<Overview> => ({
    ...NONE,
    ...sounds?.named,
    folder,
    runs: library.items,
    notes: await isFolder(folder) ? [] : [`${folder}: no such folder`],
  });

  const respond = async (request: Request): Promise<Response> => {
    const path = admitted(request, server.addr.port, token, sounds?.posts ?? new Set());
    const { searchParams: query } = new URL(request.url);
    switch (path) {
      case "":
        return answer(INDEX, "text/html; charset=utf-8");
      case "style.css":
        return answer(STYLE, "text/css; charset=utf-8");
      case "api/overview":
        return json(await overview());
      case "api/events":
        return eventStream(library, streams);
      case "api/series":
        return answer(packed(library.series(seriesQuery(query))), "application/octet-stream");
      case "api/run":
        return json(known(library.details(query.get("run") ?? "")));
      case "api/saved":
        return await savedRun(library, query.get("run") ?? "");
    }
    const module = path.startsWith("modules/") && modules().get(path.slice("modules/".length));
    if (module) return answer(module, "text/javascript; charset=utf-8");
    return await sounds?.answer(path, request, library) ??
      json({ error: `${path}: there is nothing by this name` }, 404);
  };

  const server = Deno.serve({
    hostname: "127.0.0.1",
    port,
    onListen: () => {},
    onError: (error) => json({ error: String(error) }, 500),
  }, async (request) => {
    try {
      const response = await respond(request);
      if (request.method !== "HEAD") return response;
      await response.body?.cancel();
      return new Response(null, { status: response.status, headers: response.headers });
    } catch (error) {
      if (error instanceof RequestError) return json({ error: error.message }, error.status);
      const { message } = error as Error;
      return json({ error: message }, 500);
    }
  });

  return {
    address: `http://127.0.0.1:${server.addr.port}/${token}/`,
    async close(): Promise<void> {
      library[Symbol.dispose]();
      for (const end of streams) end();
      await Promise.race([
        server.shutdown(),
        // An answer that is being computed is not waited for.
        new Promise((resolve) => setTimeout(resolve, 500)),
      ]);
    },
  };
}

function known<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new RequestError(404, "this run is not there any more");
  return value;
}

function eventStream(library: Library, streams: Set<() => void>): Response {
  let stop = (): void => {};
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const encoder = new TextEncoder();
      const say = (text: string): void => controller.enqueue(encoder.encode(text));
      const send = (event: StudioEvent): void => say(`data: ${JSON.stringify(event)}\n\n`);
      const silence = library.listen(send);
      const timer = setInterval(() => say(": alive\n\n"), HEARTBEAT);
      const end = (): void => {
        stop();
        controller.close();
      };
      stop = () => {
        silence();
        clearInterval(timer);
        streams.delete(end);
      };
      streams.add(end);
      send({ kind: "runs", runs: library.items });
    },
    cancel() {
      stop();
    },
  });
  return answer(body, "text/event-stream");
}

function number(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  const value = Number(text);
  if (Number.isFinite(value)) return value;
  throw new RequestError(400, `${name}: must be a number`);
}

function seriesQuery(query: URLSearchParams): SeriesQuery {
  const runs = query.getAll("run");
  if (runs.length > MOST_RUNS) throw new RequestError(400, `run: at most ${MOST_RUNS}`);
  const columns = Math.round(number(query, "columns") ?? 800);
  if (columns < 1 || columns > MOST_COLUMNS) {
    throw new RequestError(400, `columns: must be 1 to ${MOST_COLUMNS}`);
  }
  const [from, to] = [number(query, "from"), number(query, "to")];
  return {
    runs,
    metric: query.get("metric") ?? "loss",
    x: query.get("x") === "seconds" ? "seconds" : "step",
    ...(from !== undefined && { from }),
    ...(to !== undefined && { to }),
    columns,
    log: query.get("log") === "1",
    smooth: number(query, "smooth") ?? 1,
  };
}

/** Number of places and curves as u32, places as f64, then each curve's values as f32. */
function packed({ x, y }: Series): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8 + 8 * x.length + 4 * x.length * y.length);
  new Uint32Array(bytes.buffer, 0, 2).set([x.length, y.length]);
  new Float64Array(bytes.buffer, 8, x.length).set(x);
  y.forEach((it, i) =>
    new Float32Array(bytes.buffer, 8 + 8 * x.length + 4 * x.length * i, x.length).set(it)
  );
  return bytes;
}

async function savedRun(library: Library, id: string): Promise<Response> {
  await library.readAll(id);
  await library.scan();
  const item = known(library.items.find((it) => it.id === id));
  const details = known(library.details(id));
  const base64 = (values: ArrayLike<number>): string =>
    new Uint8Array(Float32Array.from(values).buffer).toBase64();
  const curves: Record<string, { step: string; seconds: string; y: string }> = {};
  for (const metric of item.metrics) {
    const rows = library.rowsOf(id)!;
    const { x, y: [y] } = seriesOf([{ x: rows.steps, y: rows.column(metric)! }], {
      columns: SAVED_COLUMNS,
    });
    const kept = Array.from(x, (_, i) => i).filter((i) => Number.isFinite(y[i]));
    const steps = kept.map((i) => x[i]);
    curves[metric] = {
      step: base64(steps),
      seconds: base64(interpolated(rows.steps, rows.seconds, steps)),
      y: base64(kept.map((i) => y[i])),
    };
  }
  const saved: SavedRun = { item, details, curves, date: new Date().toISOString() };
  const page = savedPage(`${id} - Tessera`, saved);
  const file = `${id.replace(/[^\w.-]+/g, "-")}.html`;
  return answer(page, "text/html; charset=utf-8", {
    headers: { "content-disposition": `attachment; filename="${file}"` },
  });
}

/** Values between rows, at ascending places. */
function interpolated(x: Float64Array, y: Float64Array, places: readonly number[]): number[] {
  let i = 0;
  return places.map((place) => {
    while (i + 1 < x.length - 1 && x[i + 1] < place) i++;
    if (x.length < 2 || place <= x[0]) return y[0];
    const share = Math.min(1, (place - x[i]) / (x[i + 1] - x[i]));
    return y[i] + share * (y[i + 1] - y[i]);
  });
}
