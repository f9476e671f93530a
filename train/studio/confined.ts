/**
 * Files that may be served: those that really are inside a folder that was named.
 *
 * @module
 */
import { SEPARATOR } from "../deps/path.ts";

/** Whether a path, links followed, is a folder or inside it; false for what is not there. */
export function isInside(folder: string, path: string): boolean {
  try {
    const [root, real] = [folder, path].map((it) => Deno.realPathSync(it));
    return real === root || real.startsWith(root.endsWith(SEPARATOR) ? root : root + SEPARATOR);
  } catch {
    return false;
  }
}

/** Whether there is something at a path, be it a broken link. */
export function isThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
