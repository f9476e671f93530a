/** Folders that cannot be listed, and names that cannot be opened. */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { basename, join } from "@std/path";
import { matchFiles } from "../../../train/datasets/write_labelled.ts";
import { FolderError, listAudioFiles } from "../../../train/io/folders.ts";
import { UsageError } from "../../../train/errors.ts";
import { openRegular, openWritten } from "../../../train/io/regular_file.ts";
import { clipsOf } from "../../../train/visualize/folder.ts";
import { inTempDir } from "../../support/audio_files.ts";

Deno.test("a subfolder that cannot be listed is left out with the reason, for all that walk", () =>
  inTempDir(async (dir) => {
    for (const name of ["a", "b", "lost+found"]) {
      await Deno.mkdir(join(dir, name));
      await Deno.writeTextFile(join(dir, name, "x.wav"), "");
    }
    // Permissions mean nothing to root.
    const { readDir } = Deno;
    Deno.readDir = (path) => {
      if (basename(String(path)) !== "lost+found") return readDir(path);
      throw new Deno.errors.PermissionDenied("no");
    };
    try {
      const skipped: string[] = [];
      const onSkip = (path: string, reason: string) => void skipped.push(`${path}: ${reason}`);
      const files = [join(dir, "a", "x.wav"), join(dir, "b", "x.wav")];
      assertEquals(await listAudioFiles(dir, onSkip), files);
      assertEquals((await clipsOf(dir, onSkip)).map(({ path }) => path), files);
      const reason = "no permission to read this folder";
      assertEquals(skipped, Array(2).fill(`${join(dir, "lost+found")}: ${reason}`));
      const clips = ["a", "b"].map((part) => ({ file: `${part}/x.wav`, labels: [part], part }));
      const listing = { root: dir, audio: dir, folders: [""], clips };
      const { rows, unread } = await matchFiles({ title: "ABC", column: "fold" }, listing);
      assertEquals([rows.length, unread], [2, [{ path: join(dir, "lost+found"), reason }]]);
      await assertRejects(() => listAudioFiles(join(dir, "lost+found"), onSkip), FolderError);
    } finally {
      Deno.readDir = readDir;
    }
  }));

Deno.test("a name that is not UTF-8 is said to be so", () =>
  inTempDir(async (dir) => {
    // As Deno gives a byte of Latin-1; with the character itself in its name a file can be opened.
    const path = join(dir, "caf\ufffd.wav");
    assertThrows(() => openRegular(path), Deno.errors.NotFound, "not UTF-8");
    await Deno.writeTextFile(path, "");
    using _ = openRegular(path);
  }));

Deno.test("what is written never waits for a named pipe in its place", () =>
  inTempDir(async (dir) => {
    // Any that is no regular file; a folder needs no other program to be made.
    const path = join(dir, ".lock");
    await Deno.mkdir(path);
    const error = assertThrows(() => openWritten(path, { write: true, create: true }), UsageError);
    assertEquals(error.message, `${path}: cannot be written: not a regular file but a folder`);
    using _ = openWritten(join(dir, "new"), { write: true, create: true });
  }));
