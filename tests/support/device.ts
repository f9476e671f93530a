/**
 * Devices for tests of ops: memory is full of NaN whenever it is handed out, so that whatever an op
 * leaves unwritten shows. The word `--dawn` behind `--` on the command line asks for Dawn, npm's
 * webgpu, in place of Deno's own WebGPU, as `deno task test --dawn` does.
 *
 * @module
 */
import { type Device, type DeviceOptions, openDevice as open } from "../../engine/device.ts";

const gpu = Deno.args.includes("--dawn") ? (await import("./dawn.ts")).dawn() : undefined;

/** As the engine's, with poisoned memory. */
export function openDevice(options: DeviceOptions = {}): Promise<Device> {
  return open({ gpu, poisonMemory: true, ...options });
}
