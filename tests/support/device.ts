/**
 * Devices for tests of ops: memory is full of NaN whenever it is handed out, so that whatever an op
 * leaves unwritten shows.
 *
 * @module
 */
import { type Device, type DeviceOptions, openDevice as open } from "../../engine/device.ts";

/** As the engine's, with poisoned memory. */
export function openDevice(options: DeviceOptions = {}): Promise<Device> {
  return open({ poisonMemory: true, ...options });
}
