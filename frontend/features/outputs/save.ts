/** Have the browser save a blob as a file. */
export function saveBlob(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has begun to read it by the next task; a minute is for slow disks.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
