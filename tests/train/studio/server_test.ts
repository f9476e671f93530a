/** The server of `deno task studio`: who is answered, what is served, what is told as it comes. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { resolveConfig, wantsStudio } from "../../../train/config/config.ts";
import { studioThread } from "../../../train/studio/thread.ts";
import { modules, savedPage } from "../../../train/studio/assets.ts";
import { openStudio, type Studio } from "../../../train/studio/server.ts";
import type { RunItem, StudioEvent } from "../../../train/studio/api.ts";
import { inTempDir } from "../../support/audio_files.ts";
import { runWords } from "../../support/tasks.ts";

const CONFIG = {
  ...{ objective: "matpac", preset: "tiny", length: { steps: 9 } },
  options: { lr: 0.001, data: ["a"] },
};
const row = (step: number, more = {}) =>
  `${JSON.stringify({ step, seconds: step, samples: 4 * step, loss: 1 / step, ...more })}\n`;

function makeRun(dir: string, rows: string, config: unknown = CONFIG): void {
  Deno.mkdirSync(dir, { recursive: true });
  Deno.writeTextFileSync(join(dir, "metrics.jsonl"), rows);
  Deno.writeTextFileSync(join(dir, "config.json"), JSON.stringify(config));
}

/** Runs `body` with a server for `runs/` in a folder that is removed afterwards. */
async function serving(body: (studio: Studio, dir: string, runs: string) => Promise<void>) {
  await inTempDir(async (dir) => {
    const runs = join(dir, "runs");
    makeRun(join(runs, "a"), row(1) + row(2, { eval_accuracy: 0.5 }));
    makeRun(join(runs, "sub", "b"), row(1));
    const studio = await openStudio({ folder: runs });
    try {
      await body(studio, dir, runs);
    } finally {
      await studio.close();
    }
  });
}

/** A request as it goes over the wire, which `fetch` would mend. */
async function raw(studio: Studio, head: string): Promise<{ status: number; text: string }> {
  const { hostname, port } = new URL(studio.address);
  using connection = await Deno.connect({ hostname, port: Number(port) });
  await connection.write(new TextEncoder().encode(`${head}\r\nConnection: close\r\n\r\n`));
  const text = await new Response(connection.readable).text();
  return { status: Number(/^HTTP\/1.1 (\d+)/.exec(text)?.[1]), text };
}

/** Waits until something is so, however slow the machine is. */
async function until(isSo: () => boolean | Promise<boolean>, what = `${isSo}`): Promise<void> {
  const end = performance.now() + 60_000;
  while (!await isSo()) {
    assert(performance.now() < end, `never ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

const json = async (studio: Studio, path: string) =>
  await (await fetch(studio.address + path)).json();

Deno.test("studio: only the page with the token is answered, by its own host, to read", () =>
  serving(async (studio) => {
    const { host, pathname } = new URL(studio.address);
    assertMatch(studio.address, /^http:\/\/127\.0\.0\.1:\d+\/[0-9a-f]{32}\/$/);
    const get = (path: string, headers = `Host: ${host}`, method = "GET") =>
      raw(studio, `${method} ${path} HTTP/1.1\r\n${headers}`);
    const cases: [number, ReturnType<typeof get>][] = [
      [200, get(pathname)],
      [200, get(pathname, `Host: ${host.replace("127.0.0.1", "localhost")}`)],
      [200, get(pathname, undefined, "HEAD")],
      [421, get(pathname, "Host: evil.example")],
      [421, get(pathname, `Host: evil.example:${host.split(":")[1]}`)],
      [403, get("/")],
      [403, get("/api/overview")],
      [403, get(`/${"0".repeat(32)}/`)],
      [403, get(pathname.slice(0, -2) + "/")],
      [403, get(pathname, `Host: ${host}\r\nOrigin: http://evil.example`)],
      [200, get(pathname, `Host: ${host}\r\nOrigin: http://${host}`)],
      ...["POST", "PUT", "DELETE", "PATCH", "OPTIONS"].map((
        method,
      ): [number, ReturnType<typeof get>] => [
        405,
        get(`${pathname}api/overview`, `Host: ${host}\r\nContent-Length: 0`, method),
      ]),
    ];
    for (const [status, answer] of cases) assertEquals((await answer).status, status);
    const { text } = await get(pathname);
    for (const header of ["default-src 'none'", "no-referrer", "nosniff", "no-store"]) {
      assertStringIncludes(text, header);
    }
    assert(!text.toLowerCase().includes("access-control-allow-origin"));
  }));

Deno.test("studio: nothing outside the folder is served, by whatever path or link", () =>
  serving(async (studio, dir, runs) => {
    const { host, pathname } = new URL(studio.address);
    const secret = "SECRET-OF-ANOTHER-FOLDER";
    Deno.writeTextFileSync(join(dir, "secret.txt"), secret);
    makeRun(join(dir, "outside"), row(1, { secret: 1 }), { ...CONFIG, options: { name: secret } });
    // A run that is a link, and one whose files are.
    Deno.symlinkSync(join(dir, "outside"), join(runs, "link"));
    makeRun(join(runs, "c"), "");
    Deno.removeSync(join(runs, "c", "config.json"));
    Deno.symlinkSync(join(dir, "outside", "config.json"), join(runs, "c", "config.json"));
    makeRun(join(runs, "d"), "");
    Deno.symlinkSync(join(dir, "secret.txt"), join(runs, "d", "skipped.jsonl"));
    const up = ["../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "%2e%2e%2fsecret.txt"];
    const paths = [
      ...up,
      ...up.map((it) => `modules/${it}`),
      ...up.map((it) => `modules/studio/page/../../../${it}`),
      ...["..", "../outside", "/etc/passwd", "link", "c", "d", "..%2foutside", "%00"].flatMap((
        it,
      ) => [
        `api/run?run=${it}`,
        `api/saved?run=${it}`,
        `api/series?run=${it}&metric=secret`,
      ]),
      "modules/studio/server.ts",
      "deno.json",
      "api/overview",
    ];
    const items = async (): Promise<RunItem[]> => (await json(studio, "api/overview")).runs;
    await until(async () => (await items()).some(({ id }) => id === "link"));
    for (const path of paths) {
      const { text } = await raw(studio, `GET ${pathname}${path} HTTP/1.1\r\nHost: ${host}`);
      assert(!text.includes(secret), path);
      assert(!/root:x:/.test(text), path);
    }
    const said = new Map((await items()).map(({ id, message }) => [id, message]));
    assertEquals(said.get("link"), "config.json is a link out of the folder and is not read");
    assertEquals(said.get("d"), "skipped.jsonl is a link out of the folder and is not read");
    assertEquals(said.get("a"), undefined);
    assertEquals((await json(studio, "api/run?run=link")).options, null);
  }));

Deno.test("studio: rows, new runs and lost ones are told as they come; one's fault is its own", () =>
  serving(async (studio, _, runs) => {
    const events: StudioEvent[] = [];
    const ended = new AbortController();
    const stream = await fetch(`${studio.address}api/events`, { signal: ended.signal });
    assertEquals(stream.headers.get("content-type"), "text/event-stream");
    const reading = (async () => {
      let text = "";
      for await (const part of stream.body!.pipeThrough(new TextDecoderStream())) {
        const parts = (text + part).split("\n\n");
        text = parts.pop()!;
        for (const it of parts) if (it.startsWith("data: ")) events.push(JSON.parse(it.slice(6)));
      }
    })().catch(() => {});
    const told = async (what: (event: StudioEvent) => boolean): Promise<void> => {
      await until(() => events.some(what), `told: ${what}`);
      events.length = 0;
    };
    const names = (event: StudioEvent) =>
      event.kind === "runs" ? event.runs.map(({ id }) => id).join() : "";
    await told((it) => names(it) === "a,sub/b");
    const losses = async () => {
      const answer = await fetch(`${studio.address}api/series?run=a&run=gone&metric=loss`);
      const bytes = await answer.arrayBuffer();
      const [places, curves] = new Uint32Array(bytes, 0, 2);
      assertEquals(curves, 2);
      return [
        [...new Float64Array(bytes, 8, places)],
        [...new Float32Array(bytes, 8 + 8 * places, places)],
      ];
    };
    assertEquals(await losses(), [[1, 2], [1, 0.5]]);
    // A line that was cut comes when it is whole.
    const [start, rest] = [row(4).slice(0, 20), row(4).slice(20)];
    const metrics = join(runs, "a", "metrics.jsonl");
    Deno.writeTextFileSync(metrics, start, { append: true });
    await told((it) => it.kind === "rows" && it.runs.includes("a"));
    assertEquals(await losses(), [[1, 2], [1, 0.5]]);
    Deno.writeTextFileSync(metrics, rest, { append: true });
    await told((it) => it.kind === "rows" && it.runs.includes("a"));
    assertEquals(await losses(), [[1, 2, 4], [1, 0.5, 0.25]]);
    makeRun(join(runs, "new"), row(1));
    Deno.mkdirSync(join(runs, "no-run"));
    Deno.writeTextFileSync(join(runs, "no-run", "config.json"), "{}");
    await told((it) => names(it) === "a,new,sub/b");
    Deno.removeSync(join(runs, "sub"), { recursive: true });
    Deno.writeTextFileSync(join(runs, "new", "config.json"), "{");
    await told((it) =>
      names(it) === "a,new" && it.kind === "runs" && it.runs[1].state === "damaged" &&
      it.runs[1].message === "config.json cannot be read"
    );
    const gone = await fetch(`${studio.address}api/run?run=sub/b`);
    assertEquals([gone.status, await gone.json()], [404, {
      error: "this run is not there any more",
    }]);
    assertEquals((await json(studio, "api/run?run=a")).evaluations, [{ step: 2, score: 0.5 }]);
    // The stream ends with the server.
    await studio.close();
    await reading;
    ended.abort();
  }));

Deno.test("studio: pretrain --studio has one in a thread, which ends with the run", () =>
  inTempDir(async (dir) => {
    assert(wantsStudio(["--studio"]) && !wantsStudio([]));
    assertEquals(resolveConfig(["--studio", "--steps", "1"]).options.studio, undefined);
    let address: string;
    {
      using studio = await studioThread({ folder: dir, adapter: "auto" });
      address = studio.address;
      const overview = await (await fetch(`${address}api/overview`)).json();
      assertEquals([overview.folder, overview.runs], [dir, []]);
    }
    await assertRejects(() => fetch(`${address}api/overview`), TypeError);
  }));

Deno.test("studio: wrong requests say what is wrong", () =>
  serving(async (studio) => {
    for (
      const [path, status, words] of [
        ["api/series?run=a&metric=loss&columns=0", 400, "columns: must be 1 to 8192"],
        ["api/series?run=a&metric=loss&from=x", 400, "from: must be a number"],
        ["api/run", 404, "not there any more"],
        ["api/nothing", 404, "there is nothing by this name"],
      ] as const
    ) {
      const answer = await fetch(studio.address + path);
      assertEquals(answer.status, status, path);
      assertStringIncludes((await answer.json()).error, words);
    }
  }));

Deno.test("studio: modules have no types and import what is there; a saved page needs nothing", async () => {
  const all = modules();
  const imports = (text: string) =>
    [...text.matchAll(/(?:\bfrom\s*|\bimport\s*)"([^"]+)"/g)].map(([, name]) => name);
  for (const [path, text] of all) {
    for (const name of imports(text)) {
      const target = new URL(name, `http://x/${path}`).pathname.slice(1);
      assert(all.has(target), `${path}: ${name}`);
    }
  }
  await serving(async (studio) => {
    const answer = await fetch(`${studio.address}api/saved?run=a`);
    assertEquals(answer.headers.get("content-disposition"), 'attachment; filename="a.html"');
    const page = await answer.text();
    assert(!/(?:src|href)="/.test(page), "loads something");
    const [, map] = /<script type="importmap">(.*?)<\/script>/s.exec(page)!;
    const modules: Record<string, string> = JSON.parse(map).imports;
    for (const it of Object.values(modules)) {
      const text = new TextDecoder().decode(Uint8Array.fromBase64(it.split(",")[1]));
      for (const name of imports(text)) assert(name in modules, name);
    }
    const [, data] = /<script type="application\/json" id="saved">(.*?)<\/script>/s.exec(page)!;
    const { item, curves, details } = JSON.parse(data);
    assertEquals([item.id, details.options.lr], ["a", 0.001]);
    const floats = (it: string) => [...new Float32Array(Uint8Array.fromBase64(it).buffer)];
    assertEquals([curves.loss.step, curves.loss.y].map(floats), [[1, 2], [1, 0.5]]);
  });
  assertStringIncludes(savedPage("</title><b>", { a: "</script>" }), "\\u003c/script>");
});

Deno.test("studio: the command prints its address first and ends by itself after SIGINT", async () => {
  await inTempDir(async (dir) => {
    const words = runWords("studio");
    assertEquals(words, "run --no-prompt -R -N=127.0.0.1:0 train/main.ts studio".split(" "));
    const child = new Deno.Command(Deno.execPath(), {
      args: [...words, dir],
      cwd: fromFileUrl(new URL("../../..", import.meta.url)),
      env: { NO_COLOR: "1" },
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    while (!text.includes("\n")) text += (await reader.read()).value ?? "\n";
    const address = text.split("\n")[0];
    const overview = await (await fetch(`${address}api/overview`)).json();
    assertEquals([overview.folder, overview.runs], [dir, []]);
    // A page that listens does not hold it up.
    const events = await fetch(`${address}api/events`);
    child.kill("SIGINT");
    const { code } = await child.status;
    assertEquals(code, 130);
    await events.body?.cancel().catch(() => {});
    while (!(await reader.read()).done);
    // Else it would have been ended after 8.5 s, and say so.
    assert(!(await new Response(child.stderr).text()).includes("in time"));
  });
});
