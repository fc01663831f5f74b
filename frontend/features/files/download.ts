import { ApiError, request, urlOf } from "@/lib/api";
import { bytes } from "@/lib/format";
import { apiKey } from "@/lib/key";
import { filePath, nameOf, type SessionFile } from "./file-list";
import { saveBlob, saveFrom } from "@/lib/save";

/** The most that is kept in memory on the way to the disk. */
const MAX_KEPT_BYTES = 512_000_000;

/**
 * Save a file of the session on this machine.
 *
 * Without a key the browser itself fetches it, straight to the disk. A browser's download cannot carry a key, so with
 * one the file is kept in memory first, up to a limit. Throws ApiError.
 */
export async function download(session: string, file: SessionFile): Promise<void> {
  const path = filePath(session, file.path);
  const { name } = nameOf(file.path);
  if (apiKey() === "") {
    // A browser shows what a refused download says in place of the page, so the answer is known first.
    await request("execute", path, { method: "HEAD" });
    saveFrom(await urlOf("execute", path), name);
    return;
  }
  if (file.size_bytes > MAX_KEPT_BYTES) {
    throw new ApiError(
      `${name} has ${bytes(file.size_bytes)}; with an API key the page saves at most ${bytes(MAX_KEPT_BYTES)}. ` +
        `Get it with: caesarion files get ${shellQuoted(file.path)} --session ${session}`,
      "file_too_large",
      0,
    );
  }
  saveBlob(await (await request("execute", path)).blob(), name);
}

function shellQuoted(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
