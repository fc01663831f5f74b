import { request } from "@/lib/api";

/** What is kept, so that scrolling back to a picture does not load it again. */
const MAX_KEPT_BYTES = 64_000_000;

/** The last used last. */
const kept = new Map<string, Blob>();
const loading = new Map<string, Promise<Blob>>();

/**
 * Return what an address of execute holds (`urls` of an output).
 *
 * Such an address names one form of one output for ever, so it is asked for once.
 */
export async function fetchBlob(path: string, signal?: AbortSignal): Promise<Blob> {
  const known = kept.get(path);
  if (known !== undefined) {
    keep(path, known);
    return known;
  }
  if (signal !== undefined) return keep(path, await load(path, signal));
  const going = loading.get(path) ?? load(path).finally(() => loading.delete(path));
  loading.set(path, going);
  return keep(path, await going);
}

async function load(path: string, signal?: AbortSignal): Promise<Blob> {
  return (await request("execute", path, { signal })).blob();
}

function keep(path: string, blob: Blob): Blob {
  kept.delete(path);
  kept.set(path, blob);
  let bytes = 0;
  for (const one of kept.values()) bytes += one.size;
  for (const [oldest, one] of kept) {
    if (bytes <= MAX_KEPT_BYTES || oldest === path) break;
    kept.delete(oldest);
    bytes -= one.size;
  }
  return blob;
}
