import { useCallback, useSyncExternalStore } from "react";

interface Held {
  url: string;
  holders: number;
}

const held = new WeakMap<Blob, Held>();

/** Return an address of the blob that lives as long as a component that uses it. */
export function useObjectUrl(blob: Blob | undefined): string | undefined {
  const subscribe = useCallback(() => {
    if (blob === undefined) return () => undefined;
    const entry = entryOf(blob);
    entry.holders += 1;
    return () => {
      entry.holders -= 1;
      queueMicrotask(() => {
        if (entry.holders > 0 || held.get(blob) !== entry) return;
        held.delete(blob);
        URL.revokeObjectURL(entry.url);
      });
    };
  }, [blob]);
  const snapshot = (): string | undefined => (blob === undefined ? undefined : entryOf(blob).url);
  return useSyncExternalStore(subscribe, snapshot, () => undefined);
}

function entryOf(blob: Blob): Held {
  const known = held.get(blob);
  if (known !== undefined) return known;
  const entry = { url: URL.createObjectURL(blob), holders: 0 };
  held.set(blob, entry);
  return entry;
}
