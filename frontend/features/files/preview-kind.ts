import type { SessionFile } from "./file-list";

export type PreviewKind = "table" | "picture" | "text" | "none";

const PICTURES = new Set(["png", "jpg", "jpeg", "gif", "webp", "svg", "avif", "bmp"]);
const LANGUAGES: Record<string, string> = {
  py: "python",
  json: "json",
  ipynb: "json",
  geojson: "json",
  jsonl: "json",
  ndjson: "json",
  md: "markdown",
  html: "html",
  xml: "xml",
  css: "css",
  js: "javascript",
  ts: "typescript",
  sh: "bash",
  sql: "sql",
  yaml: "yaml",
  yml: "yaml",
  toml: "toml",
};
const PLAIN = new Set(["txt", "log", "ini", "cfg", "rst", "tex"]);

export function extensionOf(path: string): string {
  const name = path.slice(path.lastIndexOf("/") + 1);
  const dot = name.lastIndexOf(".");
  return dot > 0 ? name.slice(dot + 1).toLowerCase() : "";
}

/** Return how a file can be shown, by its ending first: the server's media type knows fewer. */
export function previewKind({ path, media_type }: Pick<SessionFile, "path" | "media_type">): PreviewKind {
  const extension = extensionOf(path);
  if (extension === "csv" || extension === "tsv") return "table";
  if (PICTURES.has(extension)) return "picture";
  if (extension in LANGUAGES || PLAIN.has(extension) || media_type.startsWith("text/")) return "text";
  return "none";
}

/** Return the language in which a text file is highlighted; undefined for plain text. */
export function languageOf(path: string): string | undefined {
  return LANGUAGES[extensionOf(path)];
}
