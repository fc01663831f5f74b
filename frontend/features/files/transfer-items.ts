import type { Refusal } from "./upload-queue";

export interface Transferred {
  files: File[];
  refusals: Refusal[];
}

/** Whether a drag carries files, which it only lets us look at when they are dropped. */
export function carriesFiles(data: DataTransfer | null): boolean {
  return data?.types.includes("Files") ?? false;
}

/** Return what was dropped. Folders are told apart while the event runs, since later they look like empty files. */
export function droppedFiles(data: DataTransfer): Transferred {
  const files: File[] = [];
  const refusals: Refusal[] = [];
  for (const item of data.items) {
    if (item.kind !== "file") continue;
    const entry = item.webkitGetAsEntry();
    const file = item.getAsFile();
    if (entry?.isDirectory) refusals.push(folderRefused(entry.name));
    else if (file !== null) files.push(file);
  }
  return { files, refusals };
}

/**
 * Return the files that a paste is about; none when it is about text.
 *
 * Office programs put a picture of the text beside it, and file managers put the files' names: the first is text, the
 * second is not.
 */
export function pastedFiles(data: DataTransfer, now: Date): File[] {
  const files = Array.from(data.files);
  const names = new Set(files.map(({ name }) => name));
  const lines = data
    .getData("text/plain")
    .split(/[\r\n]+/)
    .filter((line) => line.trim() !== "");
  if (!lines.every((line) => names.has(baseName(line)))) return [];
  return files.map((file) => (file.name === "image.png" ? named(file, now) : file));
}

/** A picture of the clipboard gets a name of its own, so that the next does not take its place. */
function named(file: File, now: Date): File {
  const at = new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString().replace(/\D/g, "");
  return new File([file], `picture-${at.slice(0, 8)}-${at.slice(8, 14)}.png`, { type: file.type });
}

function baseName(line: string): string {
  const name = line.trim().replace(/^.*[/\\]/, "");
  try {
    return line.startsWith("file:") ? decodeURIComponent(name) : name;
  } catch {
    return name;
  }
}

function folderRefused(name: string): Refusal {
  return { name, problem: `${name} is a folder. Drop the files in it instead.` };
}
