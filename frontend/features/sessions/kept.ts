import { createStore, del, get, promisifyRequest, set, type UseStore, values } from "idb-keyval";

/**
 * What this browser keeps: IndexedDB where it is allowed, else the page's memory.
 *
 * Two places: `sessions` has one small value for each session (its title), `contents` has the rest, under keys that
 * begin with the session's id and a slash. Writes of one key reach the disk in order; a value that was overtaken by a
 * newer one before its turn is never written.
 */
export type Place = "sessions" | "contents";

/** `refused`: nothing outlives this page. `failed`: what was saved last is not kept. */
export type StorageProblem = "refused" | "failed";

interface Waiting {
  place: Place;
  key: string;
  value: unknown;
  done: Promise<void>;
  /** Set once it has begun. */
  written?: Promise<void>;
}

const memory: Record<Place, Map<string, unknown>> = { sessions: new Map(), contents: new Map() };
const waiting = new Map<string, Waiting>();
const writing = new Map<string, Promise<void>>();
const listeners = new Set<() => void>();
let opening: Promise<Record<Place, UseStore> | undefined> | undefined;
let problem: StorageProblem | undefined;

export function storageProblem(): StorageProblem | undefined {
  return problem;
}

export function onStorageProblem(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export async function readAll(place: Place): Promise<unknown[]> {
  const stores = await opened();
  return stores === undefined ? [...memory[place].values()] : values(stores[place]);
}

/** Return what is kept, or is about to be. */
export async function read(place: Place, key: string): Promise<unknown> {
  const next = waiting.get(nameOf(place, key));
  if (next !== undefined) return next.value;
  const stores = await opened();
  if (stores === undefined) return memory[place].get(key);
  await writing.get(nameOf(place, key));
  return get<unknown>(key, stores[place]);
}

/** Keep a value; undefined forgets it. Resolves when it, or a newer one, is kept, or cannot be (see `storageProblem`). */
export function write(place: Place, key: string, value: unknown): Promise<void> {
  const name = nameOf(place, key);
  const next = waiting.get(name);
  if (next !== undefined) {
    next.value = value;
    return next.done;
  }
  const entry: Waiting = { place, key, value, done: Promise.resolve() };
  waiting.set(name, entry);
  entry.done = (writing.get(name) ?? Promise.resolve()).then(() => begin(name, entry));
  return entry.done;
}

/** Forget everything whose key begins so. */
export async function forget(place: Place, prefix: string): Promise<void> {
  for (const [name, entry] of waiting) if (entry.place === place && entry.key.startsWith(prefix)) waiting.delete(name);
  const stores = await opened();
  for (const key of [...memory[place].keys()]) if (key.startsWith(prefix)) memory[place].delete(key);
  await stores?.[place]("readwrite", (store) => {
    store.delete(IDBKeyRange.bound(prefix, `${prefix}\uffff`));
    return promisifyRequest(store.transaction);
  }).catch(() => report("failed"));
}

/** Begin every write that waits for its turn: the page is about to go. IndexedDB keeps their order. */
export function flush(): void {
  for (const [name, entry] of [...waiting]) void begin(name, entry);
}

function begin(name: string, entry: Waiting): Promise<void> {
  if (entry.written !== undefined) return entry.written;
  if (waiting.get(name) !== entry) return Promise.resolve(); // forgotten meanwhile
  waiting.delete(name);
  const written = put(entry.place, entry.key, entry.value).finally(() => {
    if (writing.get(name) === written) writing.delete(name);
  });
  entry.written = written;
  writing.set(name, written);
  return written;
}

async function put(place: Place, key: string, value: unknown): Promise<void> {
  const stores = await opened();
  if (stores === undefined) {
    if (value === undefined) memory[place].delete(key);
    else memory[place].set(key, value);
    return;
  }
  try {
    await (value === undefined ? del(key, stores[place]) : set(key, value, stores[place]));
  } catch {
    report("failed");
  }
}

function opened(): Promise<Record<Place, UseStore> | undefined> {
  opening ??= open();
  return opening;
}

async function open(): Promise<Record<Place, UseStore> | undefined> {
  try {
    const stores = {
      sessions: createStore("caesarion-sessions", "sessions"),
      contents: createStore("caesarion-contents", "contents"),
    };
    await Promise.all([get("", stores.sessions), get("", stores.contents)]);
    return stores;
  } catch {
    report("refused");
    return undefined;
  }
}

function report(found: StorageProblem): void {
  if (problem !== undefined) return;
  problem = found;
  for (const listener of listeners) listener();
}

function nameOf(place: Place, key: string): string {
  return `${place}:${key}`;
}
