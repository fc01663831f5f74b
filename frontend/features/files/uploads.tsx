"use client";

import type { ClipboardEvent } from "react";
import { pastedFiles } from "./transfer-items";
import { uploadQueue } from "./upload-queue";

export { DropZone } from "./drop-zone";
export { UploadButton } from "./upload-button";
export type { Upload } from "./upload-queue";
export { UploadTray } from "./upload-tray";
export { type Uploads, useUploads } from "./use-uploads";

/** Upload the files that are pasted; false when the clipboard has text to be pasted as usual. */
export function uploadPasted(session: string, event: ClipboardEvent): boolean {
  const files = pastedFiles(event.clipboardData, new Date());
  if (files.length === 0) return false;
  event.preventDefault();
  void uploadQueue(session).add(files);
  return true;
}
