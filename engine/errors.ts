/**
 * Errors of the engine. Each message says what was asked, what was found, and what to do about it.
 *
 * @module
 */

/** Debian's and Ubuntu's packages of a software adapter (Mesa's lavapipe) and the Vulkan loader. */
export const SOFTWARE_ADAPTER_PACKAGES: readonly string[] = ["mesa-vulkan-drivers", "libvulkan1"];

/** The command that installs a software adapter on Debian and Ubuntu. */
export const INSTALL_COMMAND: string = "sudo apt-get update && sudo apt-get install -y " +
  `--no-install-recommends ${SOFTWARE_ADAPTER_PACKAGES.join(" ")}`;

/** No WebGPU adapter fits the request; the message names the command that installs a software one. */
export class NoAdapterError extends Error {
  /** Stable name, used to pick the exit code. */
  override readonly name = "NoAdapterError";
}

/** The GPU device is gone (driver reset, removal, or destruction); nothing on it can be read any more. */
export class DeviceLostError extends Error {
  /** Stable name, used to pick the exit code. */
  override readonly name = "DeviceLostError";
}

/** A buffer could not be had; the message says what was asked and what is live. */
export class OutOfMemoryError extends Error {
  /** Stable name, used to pick the exit code. */
  override readonly name = "OutOfMemoryError";
}

/** Shapes, axes or data types that do not fit together; the message names the op and both sides. */
export class ShapeError extends Error {
  /** Stable name. */
  override readonly name = "ShapeError";
}

/** A kernel failed to compile or was launched wrongly; the message holds the numbered WGSL. */
export class KernelError extends Error {
  /** Stable name. */
  override readonly name = "KernelError";
}

/** A tensor was used after it was disposed, or beside tensors of another device. */
export class LifetimeError extends Error {
  /** Stable name. */
  override readonly name = "LifetimeError";
}
