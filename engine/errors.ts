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

/**
 * No WebGPU adapter fits the request; the message names the command that installs a software one.
 */
export class NoAdapterError extends Error {
  /** Stable name, used to pick the exit code. */
  override readonly name = "NoAdapterError";
}

/**
 * The GPU device is gone (driver reset, removal, or destruction); nothing on it can be read any
 * more.
 */
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

/** A kernel failed to compile (the message shows the lines around the fault) or to launch. */
export class KernelError extends Error {
  /** Stable name. */
  override readonly name = "KernelError";
}

/** Which pass of an op. */
export type AnomalyPhase = "forward" | "backward";

/** What {@link AnomalyError} knows about the op. */
export interface Anomaly {
  /** Op name. */
  readonly op: string;
  /** Pass in which it happened. */
  readonly phase: AnomalyPhase;
  /** Shapes of its inputs, or of the incoming gradients; undefined where there is none. */
  readonly inputs: readonly (readonly number[] | undefined)[];
  /** Shapes of its outputs, or of the gradients of its inputs. */
  readonly outputs: readonly (readonly number[] | undefined)[];
  /** Stack frames outside the engine that led to the op, one a line. */
  readonly site: string;
}

/**
 * Anomaly mode found the first op that made a NaN or an infinity, or was given an index out of
 * range.
 */
export class AnomalyError extends Error {
  /** Stable name. */
  override readonly name = "AnomalyError";

  /** Made by anomaly mode. */
  constructor(
    message: string,
    /** The op and where it was called. */
    readonly anomaly: Anomaly,
  ) {
    super(message);
  }
}

/**
 * A tensor was used after it was disposed, after its values were overwritten, or beside tensors of
 * another device.
 */
export class LifetimeError extends Error {
  /** Stable name. */
  override readonly name = "LifetimeError";
}
