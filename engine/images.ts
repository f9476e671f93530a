/**
 * Textures through which kernels read matrices. Software adapters fetch a texel in a few vector
 * instructions, an element of a buffer in a loop over the lanes (kernels/README.md, lavapipe), so
 * that a copy into a texture pays where each element is read many times.
 *
 * @module
 */
import { TEXTURE_USAGE } from "./gpu_flags.ts";
import type { BufferWindow } from "./recorder.ts";

/** How a window of a buffer becomes a texture: rows of four f32 per texel. */
export interface ImageLayout {
  /** Texels of a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
  /** From one row to the next in the buffer, a multiple of {@link ROW_BYTES}. */
  readonly bytesPerRow: number;
}

/** What WebGPU demands of the distance of rows in a copy. */
export const ROW_BYTES = 256;
/** Texels hold four f32. */
export const TEXEL_BYTES = 16;
/**
 * Rows of textures come in multiples, so that batches of nearly one size share them. Not of a power
 * of two: lavapipe compiles a kernel anew where width or height of a texture is one and was not.
 */
const ROWS = 96;

/**
 * Texels of a cache line. Rows are an odd number of lines apart, more than one, so that what
 * neighbouring lanes read of many rows falls into different sets of the cache.
 */
const LINE_TEXELS = 4;

/** A texture that kernels read. */
export interface Image {
  /** Number unique within the device; part of bind-group keys. */
  readonly id: number;
  /** What is copied into. */
  readonly texture: GPUTexture;
  /** What is bound. */
  readonly view: GPUTextureView;
  /** Size. */
  readonly bytes: number;
  /** Plans that read it; what none reads can be given back. */
  plans: number;
}

/** Size of the texture of a layout, and by what it is known among those of a binding. */
function sizeOf({ width, height }: ImageLayout) {
  const rows = Math.ceil(height / ROWS) * ROWS;
  const lines = Math.ceil(width / LINE_TEXELS);
  const columns = Math.max(3, lines + 1 - lines % 2) * LINE_TEXELS;
  return { rows, columns, bytes: columns * rows * TEXEL_BYTES, key: `${width},${rows}` };
}

/** Bytes of the textures that dispatches need, each of which has windows by binding. */
export function imageBytes(
  dispatches: Iterable<{ readonly windows: readonly BufferWindow[] }>,
): number {
  const sizes = new Map<string, number>();
  for (const { windows } of dispatches) {
    windows.forEach(({ image }, binding) => {
      if (!image) return;
      const { key, bytes } = sizeOf(image);
      sizes.set(`${binding},${key}`, bytes);
    });
  }
  return [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
}

/** The textures of a device, one for each binding and size; each holds what was copied last. */
export class Images {
  readonly #images = new Map<string, Image>();
  #made = 0;

  /**
   * None yet.
   *
   * @param counters where their bytes are counted
   * @param pay whether kernels can read them, and gain by it
   */
  constructor(
    private readonly gpu: GPUDevice,
    private readonly counters: { textureBytes: number; readonly limitBytes: number },
    private readonly pay: boolean,
  ) {}

  /**
   * Whether operands may be copied into some. Textures are no tensors: who limits the memory of
   * these must not find more taken.
   */
  get usable(): boolean {
    return this.pay && this.counters.limitBytes === Infinity;
  }

  /** Whether the texture of a layout, which is larger, is within the adapter's limit. */
  fits(layout: ImageLayout): boolean {
    const { rows, columns } = sizeOf(layout);
    return Math.max(rows, columns) <= this.gpu.limits.maxTextureDimension2D;
  }

  /** The texture that a layout is copied into for a kernel's binding. */
  at(binding: number, layout: ImageLayout): Image {
    const { rows, columns, bytes, key: size } = sizeOf(layout);
    const key = `${binding},${size}`;
    let image = this.#images.get(key);
    if (!image) {
      const texture = this.gpu.createTexture({
        size: [columns, rows],
        format: "rgba32float",
        usage: TEXTURE_USAGE.STORAGE_BINDING | TEXTURE_USAGE.COPY_DST,
      });
      image = { id: ++this.#made, texture, view: texture.createView(), bytes, plans: 0 };
      this.counters.textureBytes += bytes;
      this.#images.set(key, image);
    }
    return image;
  }

  /**
   * Destroys those that no plan reads, once what is recorded is submitted.
   *
   * @param before called first if there are any
   */
  trim(before: () => void): void {
    const idle = [...this.#images].filter(([, { plans }]) => plans === 0);
    if (idle.length === 0) return;
    before();
    for (const [key, { texture, bytes }] of idle) {
      texture.destroy();
      this.counters.textureBytes -= bytes;
      this.#images.delete(key);
    }
  }

  /** Copies a window into its texture. */
  copy(encoder: GPUCommandEncoder, { buffer, offset, image }: BufferWindow, to: Image): void {
    const { width, height, bytesPerRow } = image!;
    const from = { buffer: buffer.gpu, offset, bytesPerRow };
    encoder.copyBufferToTexture(from, { texture: to.texture }, [width, height]);
  }
}
