/**
 * Stands in for a full disk: files that are opened for writing and whose path `isFull` accepts take a few bytes and then
 * fail as the system does. Ends when disposed.
 */
export function fullDisk(isFull: (path: string) => boolean): Disposable {
  const { open } = Deno;
  Deno.open = async (path, options) => {
    const file = await open(path, options);
    if (!options?.write || !isFull(String(path))) return file;
    let room = 5;
    const { write } = file;
    file.write = (bytes) => {
      const taken = bytes.subarray(0, room);
      room -= taken.length;
      if (taken.length > 0) return write.call(file, taken);
      const error = new Error("No space left on device (os error 28)");
      return Promise.reject(Object.assign(error, { code: "ENOSPC" }));
    };
    return file;
  };
  return {
    [Symbol.dispose]: () => {
      Deno.open = open;
    },
  };
}
