/** Nothing to train on, or a list of data that cannot be read. The message names the source. */
export class NoDataError extends Error {
  /** The class name, as printed. */
  override readonly name = "NoDataError";
}
