/** Have the browser save what is at an address as a file. */
export function saveFrom(url: string, name: string): void {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.hidden = true;
  document.body.append(link);
  link.click();
  link.remove();
}

/** Have the browser save a blob as a file. */
export function saveBlob(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  saveFrom(url, name);
  // The browser has begun to read it by the next task; a minute is for slow disks.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
