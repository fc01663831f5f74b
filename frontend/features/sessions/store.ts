import type { UIMessage } from "ai";
import { useSyncExternalStore } from "react";
import { z } from "@/lib/zod";
import { create as createStore } from "zustand";
import { ApiError, request } from "@/lib/api";
import { newId } from "@/lib/ids";
import { flush, forget, onStorageProblem, read, readAll, type StorageProblem, storageProblem, write } from "./kept";
import { titleFrom, untitled } from "./titles";

/**
 * The sessions that this browser knows, and what it keeps of each: the conversation and small named parts.
 *
 * Tabs tell each other what they have kept, so that their lists and views stay in step. The server is told of nothing
 * but a removal.
 */
const kindSchema = z.enum(["chat", "notebook"]);
const sessionSchema = z.object({
  id: z.string().min(1),
  title: z.string(),
  kind: kindSchema,
  created_at: z.iso.datetime(),
  used_at: z.iso.datetime(),
});

export type SessionKind = z.infer<typeof kindSchema>;
export type SessionMeta = z.infer<typeof sessionSchema>;

export interface SessionStore {
  /** All sessions, the last used first; undefined until they are read. */
  sessions: SessionMeta[] | undefined;
  create(kind: SessionKind, title?: string): SessionMeta;
  rename(id: string, title: string): void;
  /** Forget it here, and close it on the server: its variables and files go. Rejects when the server does not know. */
  remove(id: string): Promise<void>;
  /** It was used now; a title is given to one that has none, and one that is not listed yet is listed as a chat. */
  touch(id: string, title?: string): void;
}

/** What tabs tell each other. */
const newsSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("session"), session: sessionSchema }),
  z.object({ type: z.literal("removed"), id: z.string() }),
  z.object({ type: z.literal("saved"), id: z.string(), name: z.string() }),
]);
type News = z.infer<typeof newsSchema>;

/** As loose as the page can bear: what a part holds is checked where it is shown. */
const messageSchema = z.looseObject({
  id: z.string(),
  role: z.enum(["system", "user", "assistant"]),
  parts: z.array(z.looseObject({ type: z.string() })),
});
const keptMessage = z.custom<UIMessage>((value) => messageSchema.safeParse(value).success);

const MESSAGES = "messages";
const LOAD_AGAIN_AFTER_MS = 2_000;
const removed = new Set<string>();
/** Made before the list was read. */
const early: SessionMeta[] = [];
const removedListeners = new Set<(id: string) => void>();
const savedListeners = new Map<string, Set<(name: string) => void>>();
let channel: BroadcastChannel | undefined;

const useStore = createStore<SessionStore>()((update, current) => {
  const put = (session: SessionMeta): void => {
    if (current().sessions === undefined) early.push(session);
    update((state) => ({ sessions: state.sessions && withSession(state.sessions, session) }));
    void write("sessions", session.id, session).then(() => tell({ type: "session", session }));
  };
  return {
    sessions: undefined,
    create(kind, title) {
      const now = new Date().toISOString();
      const session = {
        id: newId("s"),
        title: titleFrom(title ?? "") || untitled(kind),
        kind,
        created_at: now,
        used_at: now,
      };
      put(session);
      return session;
    },
    rename(id, title) {
      if (current().sessions === undefined) return void listRead.then(() => current().rename(id, title));
      const session = find(current().sessions, id);
      const next = title.replace(/\s+/g, " ").trim();
      if (session !== undefined && next && next !== session.title) put({ ...session, title: next });
    },
    async remove(id) {
      drop(id);
      await Promise.all([write("sessions", id, undefined), forget("contents", `${id}/`)]);
      tell({ type: "removed", id });
      await close(id);
    },
    touch(id, title) {
      if (removed.has(id)) return;
      if (current().sessions === undefined) return void listRead.then(() => current().touch(id, title));
      const now = new Date().toISOString();
      const known = find(current().sessions, id);
      const session = known ?? { id, title: untitled("chat"), kind: "chat", created_at: now, used_at: now };
      const named = session.title !== untitled(session.kind);
      put({ ...session, title: (!named && titleFrom(title ?? "")) || session.title, used_at: now });
    },
  };
});

export function useSessions(): SessionStore {
  return useStore();
}

/** The store as it is now, for what is no component. */
export function currentSessions(): SessionStore {
  return useStore.getState();
}

export function useSession(id: string): SessionMeta | undefined {
  return useStore((state) => find(state.sessions, id));
}

/** Return what is wrong with this browser's storage, if something is. */
export function useStorageProblem(): StorageProblem | undefined {
  return useSyncExternalStore(onStorageProblem, storageProblem, () => undefined);
}

/** The conversation as this browser keeps it; empty when there is none. Rejects like `loadPart`. Survives the sandbox. */
export async function loadMessages(session: string): Promise<UIMessage[]> {
  const kept = await loadPart<unknown>(session, MESSAGES);
  return Array.isArray(kept) ? kept.filter((item) => keptMessage.safeParse(item).success) : [];
}

export async function saveMessages(session: string, messages: UIMessage[]): Promise<void> {
  await savePart(session, MESSAGES, messages);
}

/**
 * A small value kept with a session (cells of a notebook, edited runs of a chat), in step between tabs.
 *
 * It is what was saved, perhaps by an older page: parse it. Rejects where it could not be read, which is not the same
 * as nothing being kept: nothing may be saved over it then.
 */
export async function loadPart<T>(session: string, name: string): Promise<T | undefined> {
  const key = keyOf(session, name);
  try {
    return (await read("contents", key).catch(() => read("contents", key))) as T | undefined;
  } catch (cause) {
    throw new Error("What this browser keeps of the session cannot be read.", { cause });
  }
}

/** Load until it succeeds, or is not `wanted` any more; `onFailure` is called the first time that it fails. */
export async function untilLoaded<T>(
  load: () => Promise<T>,
  onFailure: (error: unknown) => void,
  wanted: () => boolean,
): Promise<T | undefined> {
  for (let failed = false; wanted(); failed = true) {
    try {
      return await load();
    } catch (error) {
      if (!failed) onFailure(error);
      await new Promise((resolve) => setTimeout(resolve, LOAD_AGAIN_AFTER_MS));
    }
  }
  return undefined;
}

/** Keep a value with a session. Saves of one name are kept in order; the last one wins. */
export async function savePart(session: string, name: string, value: unknown): Promise<void> {
  if (removed.has(session)) return;
  await write("contents", keyOf(session, name), value);
  tell({ type: "saved", id: session, name });
}

/** Call `listener` when another tab has saved this session's messages (name "messages") or a part of it. */
export function onSaved(session: string, listener: (name: string) => void): () => void {
  const listeners = savedListeners.get(session) ?? new Set();
  savedListeners.set(session, listeners.add(listener));
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0 && savedListeners.get(session) === listeners) savedListeners.delete(session);
  };
}

/** Call `listener` with the id of each session that is removed, here or in another tab. */
export function onRemoved(listener: (id: string) => void): () => void {
  removedListeners.add(listener);
  return () => removedListeners.delete(listener);
}

function keyOf(session: string, name: string): string {
  return `${session}/${name}`;
}

function find(sessions: SessionMeta[] | undefined, id: string): SessionMeta | undefined {
  return sessions?.find((session) => session.id === id);
}

function withSession(sessions: SessionMeta[], session: SessionMeta): SessionMeta[] {
  const others = sessions.filter((other) => other.id !== session.id);
  const at = others.findIndex((other) => other.used_at <= session.used_at);
  return others.toSpliced(at < 0 ? others.length : at, 0, session);
}

function drop(id: string): void {
  removed.add(id);
  for (const listener of [...removedListeners]) listener(id);
  useStore.setState((state) => ({ sessions: state.sessions?.filter((session) => session.id !== id) }));
}

/** Close it on the server. One that is gone already is fine. */
async function close(id: string): Promise<void> {
  try {
    await request("execute", `/sessions/${encodeURIComponent(id)}`, { method: "DELETE" });
  } catch (error) {
    if (!(error instanceof ApiError) || (error.status !== 404 && error.status !== 410)) throw error;
  }
}

function tell(news: News): void {
  if (storageProblem() !== "refused") channel?.postMessage(news);
}

function hear(data: unknown): void {
  const parsed = newsSchema.safeParse(data);
  if (!parsed.success) return;
  const news = parsed.data;
  switch (news.type) {
    case "session":
      if (!removed.has(news.session.id)) {
        useStore.setState((state) => ({ sessions: state.sessions && withSession(state.sessions, news.session) }));
      }
      break;
    case "removed":
      drop(news.id);
      break;
    case "saved":
      for (const listener of [...(savedListeners.get(news.id) ?? [])]) listener(news.name);
      break;
  }
}

async function readList(): Promise<void> {
  const kept = await readAll("sessions").catch(() => []);
  const known = kept.flatMap((item) => sessionSchema.safeParse(item).data ?? []).filter(({ id }) => !removed.has(id));
  const sessions = known.sort((a, b) => (a.used_at < b.used_at ? 1 : a.used_at > b.used_at ? -1 : 0));
  useStore.setState({ sessions: early.splice(0).reduce(withSession, sessions) });
}

/** Resolves when the list has been read; never where there is no browser. */
const listRead = typeof window === "undefined" ? new Promise<void>(() => undefined) : begin();

function begin(): Promise<void> {
  if (typeof BroadcastChannel !== "undefined") {
    channel = new BroadcastChannel("caesarion");
    channel.onmessage = (event: MessageEvent<unknown>) => hear(event.data);
  }
  window.addEventListener("pagehide", flush);
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) void readList();
  });
  return readList();
}
