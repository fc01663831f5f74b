import type { Config } from "@/lib/config";
import { bytes } from "@/lib/format";

/** What the server's configuration says about uploads. */
export type UploadLimits = Pick<Config, "max_upload_bytes" | "upload_types">;

const WORDS: Record<string, string> = { ".py": "Python", ".ipynb": "Jupyter notebook", ".xlsx": "Excel" };

/** Return the types that are taken, for people: "CSV, TXT, JSON and Python". Empty when the server does not say. */
export function typesTaken({ upload_types }: UploadLimits): string {
  const words = upload_types.map((ending) => WORDS[ending.toLowerCase()] ?? ending.replace(/^\./, "").toUpperCase());
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1) ?? ""}`;
}

/** Return what may be uploaded, as a sentence. */
export function whatIsTaken(limits: UploadLimits): string {
  const types = typesTaken(limits);
  const size = Number.isFinite(limits.max_upload_bytes) ? ` up to ${bytes(limits.max_upload_bytes)}` : "";
  if (types === "") return size === "" ? "Files of any type are taken." : `Files${size} are taken.`;
  return `${types} files${size} are taken.`;
}

/** Return why a file cannot be uploaded, or undefined for one that the server should take. */
export function problemOf(file: { name: string; size: number }, limits: UploadLimits): string | undefined {
  if (!isTaken(file.name, limits)) return `${file.name} is not taken: ${typesTaken(limits)} files are.`;
  if (file.size > limits.max_upload_bytes) {
    return `${file.name} has ${bytes(file.size)}; at most ${bytes(limits.max_upload_bytes)} is taken.`;
  }
  if (file.size === 0) return `${file.name} is empty, so there is nothing to upload.`;
  return undefined;
}

function isTaken(name: string, { upload_types }: UploadLimits): boolean {
  const lower = name.toLowerCase();
  return (
    upload_types.length === 0 ||
    upload_types.some((ending) => lower.endsWith(ending.toLowerCase()) && lower.length > ending.length)
  );
}
