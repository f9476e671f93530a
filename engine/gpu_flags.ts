/**
 * Flags of WebGPU by value, as its specification fixes them: Node, and Deno with another
 * implementation than its own, have no globals that name them.
 *
 * @module
 */

/** Of `GPUBufferUsage`. */
export const BUFFER_USAGE = {
  MAP_READ: 0x1,
  COPY_SRC: 0x4,
  COPY_DST: 0x8,
  UNIFORM: 0x40,
  STORAGE: 0x80,
  QUERY_RESOLVE: 0x200,
} as const;

/** `GPUMapMode.READ`. */
export const MAP_READ = 0x1;

/** `GPUShaderStage.COMPUTE`. */
export const COMPUTE_STAGE = 0x4;

/** Of `GPUTextureUsage`. */
export const TEXTURE_USAGE = { COPY_DST: 0x2, STORAGE_BINDING: 0x8 } as const;
