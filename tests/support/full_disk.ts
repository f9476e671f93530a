/**
 * Stands in for a full disk: files that are opened for writing and whose path `isFull` accepts take
 * a few bytes more and then fail as the system does. Ends when disposed.
 */
export function fullDisk(isFull: (path: string) => boolean): Disposable {
  const { open, openSync } = Deno;
  /** What is taken of some bytes, until nothing is. */
  const limit = (): (bytes: Uint8Array) => Uint8Array => {
    let room = 5;
    return (bytes) => {
      const taken = bytes.subarray(0, room);
      room -= taken.length;
      if (taken.length > 0) return taken;
      const error = new Error("No space left on device (os error 28)");
      throw Object.assign(error, { code: "ENOSPC" });
    };
  };
  Deno.open = async (path, options) => {
    const file = await open(path, options);
    if (!isWritten(options) || !isFull(String(path))) return file;
    const { write } = file;
    const taken = limit();
    file.write = async (bytes) => await write.call(file, taken(bytes));
    return file;
  };
  Deno.openSync = (path, options) => {
    const file = openSync(path, options);
    if (!isWritten(options) || !isFull(String(path))) return file;
    const { writeSync } = file;
    const taken = limit();
    file.writeSync = (bytes) => writeSync.call(file, taken(bytes));
    return file;
  };
  return {
    [Symbol.dispose]: () => {
      Object.assign(Deno, { open, openSync });
    },
  };
}

const isWritten = (options?: Deno.OpenOptions): boolean =>
  options?.write === true || options?.append === true;
