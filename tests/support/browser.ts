/**
 * Chromium without a window, for tests, and files that its pages load. It is driven over a pair of
 * pipes in the protocol of its developer tools: it ends when this process does, however that ends,
 * and the shell that started it removes its folder then.
 *
 * @module
 */

/** Where systems put it. */
const PROGRAMS = ["chromium", "chromium-browser", "google-chrome"].map((it) => `/usr/bin/${it}`);

/** Nothing reaches out of the machine; WebGPU computes on the processor, in SwiftShader. */
const ARGUMENTS: readonly string[] = [
  "--headless",
  "--no-sandbox",
  "--no-first-run",
  "--disable-quic",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  // A microphone that beeps, and leave to use it.
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  "--remote-debugging-pipe",
];

/** Runs its arguments with a new folder, which goes when they have ended; SIGTERM kills them. */
const SCRIPT = String.raw`folder=$(mktemp -d) || exit
exec 3<&0 4>&1
HOME=$folder TMPDIR=$folder XDG_CONFIG_HOME=$folder XDG_CACHE_HOME=$folder \
  "$@" --user-data-dir="$folder/data" </dev/null >/dev/null 2>&1 &
trap : INT HUP
trap 'kill -KILL $!' TERM
while kill -0 $! 2>/dev/null; do wait $!; done
rm -rf "$folder"`;

/** How long it may take to end before it is killed. */
const END_MS = 10_000;

/** The installed Chromium; undefined where there is none. */
export function findChromium(): string | undefined {
  return PROGRAMS.find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
}

interface Answer {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  // deno-lint-ignore no-explicit-any -- the protocol's own
  readonly result?: any;
  readonly error?: { readonly message: string };
}

/** A running Chromium with one page. */
export class Chromium implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #waiting = new Map<number, PromiseWithResolvers<Answer>>();
  #count = 0;
  #session: string | undefined;
  #ended: Error | undefined;
  /** What pages reported: errors, warnings and exceptions that nothing caught. */
  readonly complaints: string[] = [];

  private constructor(program: string) {
    this.#process = new Deno.Command("/bin/sh", {
      args: ["-c", SCRIPT, "sh", program, ...ARGUMENTS],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#read();
  }

  /** Starts it with an empty page. */
  static async start(program: string): Promise<Chromium> {
    const browser = new Chromium(program);
    const { targetId } = await browser.#send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await browser.#send("Target.attachToTarget", { targetId, flatten: true });
    browser.#session = sessionId;
    for (const domain of ["Page", "Runtime", "Log"]) await browser.#send(`${domain}.enable`);
    return browser;
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    let text = "";
    for await (const bytes of this.#process.stdout) {
      text += decoder.decode(bytes, { stream: true });
      const messages = text.split("\0");
      text = messages.pop()!;
      for (const message of messages) this.#take(JSON.parse(message));
    }
    this.#ended = new Error("the browser has ended");
    for (const { reject } of this.#waiting.values()) reject(this.#ended);
  }

  #take(answer: Answer): void {
    if (answer.id !== undefined) {
      this.#waiting.get(answer.id)?.resolve(answer);
      this.#waiting.delete(answer.id);
      return;
    }
    if (!/exceptionThrown|consoleAPICalled|entryAdded/.test(answer.method ?? "")) return;
    const text = JSON.stringify(answer.params);
    if (/"(type|level)":"(error|warning)"|exceptionDetails/.test(text)) this.complaints.push(text);
  }

  /** Sends a command and waits for what it gives. */
  async #send(method: string, params: Readonly<Record<string, unknown>> = {}) {
    if (this.#ended) throw this.#ended;
    const id = ++this.#count;
    const waiting = Promise.withResolvers<Answer>();
    this.#waiting.set(id, waiting);
    const text = JSON.stringify({ id, method, params, sessionId: this.#session });
    await this.#writer.write(new TextEncoder().encode(text + "\0"));
    const { result, error } = await waiting.promise;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  /** Opens an address; returns when its document and modules have run. */
  async open(address: string): Promise<void> {
    const { errorText } = await this.#send("Page.navigate", { url: address });
    if (errorText) throw new Error(`${address}: ${errorText}`);
    await this.evaluate(
      "new Promise((done) => document.readyState === 'complete' ? done() : " +
        "addEventListener('load', () => done()))",
    );
  }

  /**
   * What an expression in the page comes to, waited for.
   *
   * @throws {Error} with the page's stack if it throws.
   */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.#send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) {
      throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    }
    return result.value;
  }

  /** Waits until an expression in the page is true. @throws {Error} with the page's text */
  async until(expression: string, limit = 120_000): Promise<void> {
    const end = performance.now() + limit;
    while (!await this.evaluate<boolean>(`!!(${expression})`)) {
      if (performance.now() > end) {
        const text = await this.evaluate<string>("document.body.innerText");
        throw new Error(`never ${expression}:\n${text}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Waits until the page shows a text. */
  async says(words: string): Promise<void> {
    await this.until(`document.body.innerText.includes(${JSON.stringify(words)})`);
  }

  /** Clicks the button, link or label with a text, once it is there. */
  async click(words: string): Promise<void> {
    const button = `[...document.querySelectorAll("button, a, label")]
      .find((it) => it.textContent.trim() === ${JSON.stringify(words)})`;
    await this.until(button);
    await this.evaluate(`${button}.click()`);
  }

  /** Presses a key where the element that a selector finds has the focus. */
  async press(selector: string, key: string): Promise<void> {
    await this.evaluate(`document.querySelector(${JSON.stringify(selector)}).dispatchEvent(
      new KeyboardEvent("keydown", { key: ${JSON.stringify(key)}, bubbles: true }))`);
  }

  /** Gives a file to the page's first input of files. @param source of its bytes, in JavaScript */
  async choose(source: string, name: string): Promise<void> {
    await this.evaluate(`(async () => {
      const data = new DataTransfer();
      data.items.add(new File([await ${source}], ${JSON.stringify(name)}));
      const input = document.querySelector("input[type=file]");
      input.files = data.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    })()`);
  }

  /** Makes the window as large as so many pixels. */
  async resize(width: number, height: number): Promise<void> {
    const metrics = { width, height, deviceScaleFactor: 1, mobile: false };
    await this.#send("Emulation.setDeviceMetricsOverride", metrics);
  }

  /** Ends it; its folder is gone then. One that does not end is killed. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    const timer = setTimeout(() => this.#process.kill("SIGTERM"), END_MS);
    await this.#process.status;
    clearTimeout(timer);
  }
}

/** Files by path, on 127.0.0.1 at a free port. */
export class FileServer implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  /** Begin of addresses, with a slash at its end. */
  readonly address: string;

  /** @param files contents by path without a slash */
  constructor(files: Readonly<Record<string, string | Uint8Array>>) {
    const types: Readonly<Record<string, string>> = { html: "text/html", js: "text/javascript" };
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
      const path = new URL(url).pathname.slice(1);
      if (!Object.hasOwn(files, path)) {
        return new Response("there is no such file", { status: 404 });
      }
      const type = types[path.split(".").at(-1)!] ?? "application/octet-stream";
      return new Response(files[path] as BodyInit, { headers: { "content-type": type } });
    });
    this.address = `http://127.0.0.1:${this.#server.addr.port}/`;
  }

  /** Stops serving. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}
