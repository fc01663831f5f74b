import { z } from "@/lib/zod";
import { request, requestJson } from "@/lib/api";

const fileSchema = z.object({
  /** Relative to the folder in which the code works. */
  path: z.string(),
  size_bytes: z.number(),
  media_type: z.string(),
  modified_at: z.string(),
});

const listSchema = z.object({ files: z.array(fileSchema) });

export type SessionFile = z.infer<typeof fileSchema>;

/** The key under which react-query keeps a session's files: invalidate it when code ran or a file came in. */
export function filesKey(session: string): readonly [string, string] {
  return ["files", session];
}

/** Return the files of a session. Throws ApiError with status 404 when it is not made yet or gone. */
export async function listFiles(session: string, signal?: AbortSignal): Promise<SessionFile[]> {
  return (await requestJson("execute", `/sessions/${session}/files`, listSchema, { signal })).files;
}

/** Return the path of execute at which a file is. */
export function filePath(session: string, path: string): string {
  return `/sessions/${session}/files/${path.split("/").map(encodeURIComponent).join("/")}`;
}

export async function deleteFile(session: string, path: string): Promise<void> {
  await request("execute", filePath(session, path), { method: "DELETE" });
}

/** Return the folder of a path, with no slash at its end, and the name in it. */
export function nameOf(path: string): { folder: string; name: string } {
  const slash = path.lastIndexOf("/");
  return { folder: path.slice(0, Math.max(slash, 0)), name: path.slice(slash + 1) };
}

/** Return when a file changed as people say it: the time for today, the day otherwise. */
export function changedWords(modifiedAt: string, now: Date): string {
  const at = new Date(modifiedAt);
  if (Number.isNaN(at.getTime())) return "";
  if (at.toDateString() === now.toDateString()) {
    return at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  }
  const year: Intl.DateTimeFormatOptions = at.getFullYear() === now.getFullYear() ? {} : { year: "numeric" };
  return at.toLocaleDateString("en-GB", { day: "numeric", month: "short", ...year });
}
