/**
 * The commit of a repository, read without running git.
 *
 * @module
 */
import { fromFileUrl, isAbsolute, join, resolve } from "../deps/path.ts";

/**
 * The commit checked out in the repository that holds `start` (default: this project), read
 * from git's own files so that no program has to be run; undefined outside a repository.
 */
export function gitCommit(start: string = fromFileUrl(new URL("../..", import.meta.url))):
  | string
  | undefined {
  try {
    const git = gitDirectory(start);
    const head = Deno.readTextFileSync(join(git, "HEAD")).trim();
    const ref = /^ref: (.+)$/.exec(head)?.[1];
    if (ref === undefined) return asCommit(head);
    // In a worktree, branches are kept in the main repository.
    const common = tryRead(join(git, "commondir"))?.trim();
    const dirs = common === undefined ? [git] : [git, resolve(git, common)];
    for (const dir of dirs) {
      const loose = asCommit(tryRead(join(dir, ref))?.trim());
      if (loose !== undefined) return loose;
      const packed = tryRead(join(dir, "packed-refs"))?.split("\n")
        .find((line) => line.endsWith(` ${ref}`));
      if (packed !== undefined) return asCommit(packed.split(" ")[0]);
    }
    return undefined;
  } catch {
    return undefined;
  }
}

function gitDirectory(start: string): string {
  const git = join(start, ".git");
  if (Deno.statSync(git).isDirectory) return git;
  const target = Deno.readTextFileSync(git).replace(/^gitdir:/, "").trim();
  return isAbsolute(target) ? target : resolve(start, target);
}

function tryRead(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined;
  }
}

function asCommit(text: string | undefined): string | undefined {
  return text !== undefined && /^[0-9a-f]{40}([0-9a-f]{24})?$/.test(text) ? text : undefined;
}
