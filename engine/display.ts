/**
 * How a tensor shows itself: one line in consoles and messages, a table or a picture in notebooks.
 *
 * @module
 */
import type { HostArray } from "./dtype.ts";
import { show } from "./shape.ts";
import type { Storage, Tensor } from "./tensor.ts";

/** Values kept of what was written or read last. */
const KEPT = 64;
/** Entries shown along each axis of a tensor by its rank, in one line. */
const SHOWN = [1, 8, 6, 3, 2];
/** Rows and columns shown of a table. */
const CELLS = 12;
/** Sizes from which, and up to which, a matrix is shown as a picture. */
const PICTURE = { least: 16, most: 256 };

interface Known {
  readonly version: number;
  /** First element within the buffer. */
  readonly offset: number;
  readonly values: HostArray;
}

const known = new WeakMap<Storage, Known>();

/** Keeps the first values of a dense tensor, as they are while its memory has that version. */
export function noteValues(
  { storage, offset, device }: Tensor,
  values: HostArray,
  version: number,
): void {
  // What a plan is recorded with is not what its replays compute.
  if (device.capturing) return;
  known.set(storage, { version, offset, values: values.slice(0, KEPT) });
}

const asText = (value: number): string => String(Number(value.toPrecision(6)));

/** The values that are at hand, nested; undefined if there are none. */
function valuesOf({ storage, shape, strides, offset }: Tensor): string | undefined {
  const kept = known.get(storage);
  if (kept?.version !== storage.buffer.version) return undefined;
  const shown = SHOWN[Math.min(shape.length, SHOWN.length - 1)];
  const nested = (at: number, axis: number): string | undefined => {
    if (axis === shape.length) {
      const value = kept.values[at - kept.offset];
      return value === undefined ? undefined : asText(value);
    }
    const parts: string[] = [];
    while (parts.length < Math.min(shape[axis], shown)) {
      const part = nested(at + parts.length * strides[axis], axis + 1);
      if (part === undefined) break;
      parts.push(part);
    }
    if (parts.length === 0 && shape[axis] > 0) return undefined;
    return `[${[...parts, ...parts.length < shape[axis] ? ["…"] : []].join(", ")}]`;
  };
  return nested(offset, 0);
}

/** `Tensor [2, 3] f32 on llvmpipe: [[1, 2, 3], [4, 5, 6]]`, with values if the host knows them. */
export function describe(tensor: Tensor): string {
  const { device, dtype, shape, requiresGrad, disposed } = tensor;
  const { info } = device;
  const words = [
    `Tensor ${show(shape)} ${dtype} on ${info.description || info.device || "a GPU"}`,
    ...requiresGrad ? ["trainable"] : [],
    ...disposed ? ["disposed"] : [],
  ].join(", ");
  const values = disposed ? undefined : valuesOf(tensor);
  return values === undefined ? words : `${words}: ${values}`;
}

const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** A part of the last matrix axes: [rows, columns] at most, every `step` of them. */
function sample(tensor: Tensor, most: number, step: readonly [number, number]): Tensor {
  const { shape, strides, offset } = tensor;
  const [rows, columns] = [1, ...shape].slice(-2);
  const [down, right] = [0, ...strides].slice(-2);
  const count = (size: number, by: number) => Math.min(Math.ceil(size / by), most);
  return tensor.view(
    shape.length === 0 ? [1, 1] : [count(rows, step[0]), count(columns, step[1])],
    shape.length === 0 ? [1, 1] : [down * step[0], right * step[1]],
    offset,
  );
}

/** A picture of a matrix, smallest value black and largest white, as the bytes of a BMP file. */
export function bitmap(values: ArrayLike<number>, rows: number, columns: number): Uint8Array {
  const finite = Array.from(values).filter(Number.isFinite);
  const low = finite.reduce((a, b) => Math.min(a, b), Infinity);
  const high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
  const line = Math.ceil(columns * 3 / 4) * 4;
  const bytes = new Uint8Array(54 + rows * line);
  const header = new DataView(bytes.buffer);
  bytes.set([0x42, 0x4d]);
  // Size of the file, start of the pixels, size of the header; width, minus the height (from the
  // top); one plane of 24 bits.
  [[2, bytes.length], [10, 54], [14, 40], [18, columns], [22, -rows]].forEach(([at, value]) =>
    header.setInt32(at, value, true)
  );
  header.setInt32(26, 1 | 24 << 16, true);
  for (let i = 0; i < rows * columns; i++) {
    const at = 54 + Math.floor(i / columns) * line + i % columns * 3;
    const grey = high > low ? 255 * (values[i] - low) / (high - low) : 128;
    // What is no number is red, which stands last.
    bytes.set(Number.isFinite(values[i]) ? [grey, grey, grey] : [0, 0, 255], at);
  }
  return bytes;
}

function table(values: ArrayLike<number>, [rows, columns]: readonly number[], more: boolean[]) {
  const cells = Array.from({ length: rows }, (_, row) => {
    const texts = Array.from({ length: columns }, (_, i) => asText(values[row * columns + i]));
    return [...texts, ...more[1] ? ["…"] : []];
  });
  if (more[0]) cells.push(Array(columns + Number(more[1])).fill("…"));
  const html = cells.map((row) => `<tr>${row.map((it) => `<td>${it}</td>`).join("")}</tr>`);
  return `<table>${html.join("")}</table>`;
}

/**
 * What a notebook shows of a tensor, by MIME type: matrices from 16 x 16 on as a picture, other
 * tensors as a table; of more than two axes the first matrix. Reads values. Deno's alone asks.
 */
export const notebookView = async (tensor: Tensor): Promise<Record<string, string>> =>
  (globalThis as { readonly Deno?: unknown }).Deno
    ? await drawn(tensor)
    : { "text/plain": describe(tensor) };

async function drawn(tensor: Tensor): Promise<Record<string, string>> {
  if (tensor.disposed || tensor.size === 0 || tensor.device.capturing) {
    return { "text/plain": describe(tensor) };
  }
  const [rows, columns] = [1, 1, ...tensor.shape].slice(-2);
  const isPicture = Math.min(rows, columns) >= PICTURE.least;
  const most = isPicture ? PICTURE.most : CELLS;
  const step = (size: number) => isPicture ? Math.ceil(size / most) : 1;
  const part = sample(tensor, most, [step(rows), step(columns)]);
  const { shape } = part;
  const reading = tensor.device.read([part]);
  part.dispose();
  const [values] = await reading;
  const text = describe(tensor);
  const first = tensor.shape.length > 2 ? `, first of ${show(tensor.shape.slice(0, -2))}` : "";
  const body = isPicture
    ? `<img style="image-rendering: pixelated; width: ${shape[1] * Math.ceil(256 / shape[1])}px" ` +
      `alt="" src="data:image/bmp;base64,${
        btoa(
          Array.from(bitmap(values, shape[0], shape[1]), (it) => String.fromCharCode(it))
            .join(""),
        )
      }">`
    : table(values, shape, [rows > shape[0], columns > shape[1]]);
  return {
    "text/plain": text,
    "text/html": `<figure>${body}<figcaption>${escaped(text.split(": ")[0] + first)}` +
      "</figcaption></figure>",
  };
}
