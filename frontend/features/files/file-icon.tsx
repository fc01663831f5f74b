import { File, FileBraces, FileCode, FileImage, FileSpreadsheet, FileText } from "lucide-react";
import type { ReactNode } from "react";
import { extensionOf, languageOf, previewKind } from "./preview-kind";

/** A picture of what kind of file it is. For the eye: the name beside it says the same. */
export function FileIcon({ path, mediaType = "" }: { path: string; mediaType?: string }): ReactNode {
  const kind = previewKind({ path, media_type: mediaType });
  if (kind === "table" || /^(xlsx?|parquet)$/.test(extensionOf(path))) return <FileSpreadsheet aria-hidden />;
  if (kind === "picture") return <FileImage aria-hidden />;
  const language = languageOf(path);
  if (language === "json") return <FileBraces aria-hidden />;
  if (language !== undefined && language !== "markdown") return <FileCode aria-hidden />;
  return kind === "text" ? <FileText aria-hidden /> : <File aria-hidden />;
}
