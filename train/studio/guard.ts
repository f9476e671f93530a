/**
 * Who is answered: only a page that this server gave out, on this machine.
 *
 * @module
 */

/** Headers of every answer: nothing is loaded from elsewhere, kept, or shown in other pages. */
const HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; " +
    "style-src-attr 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; " +
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
};

/** What is wrong with a request; the message is for people. */
export class RequestError extends Error {
  /** The class name, as printed. */
  override readonly name = "RequestError";

  /** @param status of HTTP */
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** A secret of 128 bits that can stand in an address. */
export function randomToken(): string {
  return crypto.getRandomValues(new Uint8Array(16)).toHex();
}

/** Whether two texts are equal, in a time that does not depend on where they differ. */
function sameText(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return difference === 0;
}

/**
 * The path of a request behind the token.
 *
 * @param port that the server listens at
 * @param posts paths that take a body; others are only read
 * @throws {RequestError} for another host (a name that was made to lead here), another token,
 * another site's page, or a method that changes something.
 */
export function admitted(
  request: Request,
  port: number,
  token: string,
  posts: ReadonlySet<string>,
): string {
  const hosts = [`127.0.0.1:${port}`, `localhost:${port}`];
  if (!hosts.includes(request.headers.get("host") ?? "")) {
    throw new RequestError(421, "this server answers at 127.0.0.1 alone");
  }
  const { pathname } = new URL(request.url);
  const [, given, ...rest] = pathname.split("/");
  if (!sameText(given ?? "", token)) {
    throw new RequestError(403, "the address lacks the token that the command printed");
  }
  const origin = request.headers.get("origin");
  if (origin !== null && !hosts.some((it) => origin === `http://${it}`)) {
    throw new RequestError(403, "asked for by a page of another site");
  }
  const path = rest.join("/");
  const { method } = request;
  if (method !== "GET" && method !== "HEAD" && !(method === "POST" && posts.has(path))) {
    throw new RequestError(405, `${method}: nothing can be changed here`);
  }
  return path;
}

/**
 * What a request sends, which need not say how long it is.
 *
 * @param most bytes that are read
 * @param what it is, in words
 * @throws {RequestError} if it is longer: the rest is not read.
 */
export async function bodyOf(
  request: Request,
  most: number,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const tooLong = () => new RequestError(413, `${what} is above ${most >> 20} MB`);
  if (Number(request.headers.get("content-length") ?? 0) > most) throw tooLong();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for await (const part of request.body ?? []) {
    length += part.length;
    if (length > most) throw tooLong();
    parts.push(part);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** An answer with the headers of all answers. */
export function answer(
  body: BodyInit | null,
  type: string,
  init: { readonly status?: number; readonly headers?: Readonly<Record<string, string>> } = {},
): Response {
  return new Response(body, {
    status: init.status ?? 200,
    headers: { ...HEADERS, "content-type": type, ...init.headers },
  });
}

/** An answer of JSON. */
export function json(value: unknown, status = 200): Response {
  return answer(JSON.stringify(value), "application/json", { status });
}
