"use client";

import { type QueryClient, queryOptions, useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect } from "react";
import { ApiError, request } from "@/lib/api";
import {
  acknowledged,
  type Answer,
  expiresIn,
  lostOf,
  notKept,
  pollAfter,
  type SandboxState,
  seenAfter,
  type Seen,
  seenSchema,
  sandboxState,
  type SessionDocument,
  sessionDocumentSchema,
} from "./sandbox-state";
import type { LostVariable } from "./restored";
import { loadPart, onSaved, savePart, useSession } from "./store";

export interface SandboxView {
  state: SandboxState;
  /** Seconds until an idle sandbox is suspended. */
  expires_in_s?: number;
  /**
   * What was lost since the user last knew: "some" variables in a wake-up (`notKept`), all "variables" of a kernel (the
   * session's `generation` grew), or "all" with the files, as another sandbox took the place of the one that was there.
   */
  lost: "some" | "variables" | "all" | undefined;
  /** What the last wake-up could not keep. */
  notKept: LostVariable[];
  /** What the sandbox last said of itself. */
  document: SessionDocument | undefined;
  /** The user has seen that variables were lost. */
  acknowledge(): void;
  /** Make or wake it. */
  start(): Promise<void>;
  /** Ask for its state now. */
  refresh(): void;
  /** Start the kernel anew: variables go, files stay. */
  restart(): Promise<void>;
  /** End it: variables and files go. The next message or cell starts a new one. */
  close(): Promise<void>;
}

const SEEN = "sandbox";
const EXPECTED_MS = 60_000;

export function useSandbox(session: string): SandboxView {
  const client = useQueryClient();
  const meta = useSession(session);
  const seen = useQuery(seenQuery(session)).data ?? null;
  const asks = meta !== undefined || seen !== null || isInAddress(session);
  const answer = useQuery({
    queryKey: ["sandbox", session],
    queryFn: ({ signal }) => ask(client, session, signal),
    enabled: asks,
    networkMode: "always",
    retry: false,
    staleTime: 1_000,
    refetchOnWindowFocus: true,
    refetchInterval: (query) => {
      const kept = client.getQueryData(seenQuery(session).queryKey) ?? null;
      const state = sandboxState(query.state.data, query.state.error, kept);
      const expected = meta !== undefined && query.state.dataUpdatedAt - Date.parse(meta.used_at) < EXPECTED_MS;
      return pollAfter(state, expiresIn(query.state.data), expected);
    },
  });

  const used_at = meta?.used_at;
  useEffect(() => {
    if (used_at !== undefined) refresh(client, session);
  }, [client, session, used_at]);
  useEffect(
    () =>
      onSaved(session, (name) => {
        if (name !== SEEN) return;
        void client.invalidateQueries({ queryKey: seenQuery(session).queryKey });
        refresh(client, session);
      }),
    [client, session],
  );

  const state = asks ? sandboxState(answer.data, answer.error, seen) : "not started";
  return {
    state,
    expires_in_s: expiresIn(answer.data),
    lost: lostOf(seen),
    notKept: notKept(answer.data),
    document: state === "unreachable" ? undefined : answer.data?.document,
    acknowledge: () => {
      if (seen !== null) void remember(client, session, acknowledged(seen));
    },
    start: () => start(client, session),
    refresh: () => refresh(client, session),
    restart: () => restart(client, session),
    close: () => close(client, session),
  };
}

/** Ask for the sandbox's state when something was run or uploaded, without watching it. */
export function useSandboxRefresh(session: string): () => void {
  const client = useQueryClient();
  return useCallback(() => refresh(client, session), [client, session]);
}

/** What is remembered; null for nothing. */
function seenQuery(session: string) {
  return queryOptions({
    queryKey: ["sandbox-seen", session],
    queryFn: async (): Promise<Seen | null> =>
      seenSchema.safeParse(await loadPart(session, SEEN).catch(() => undefined)).data ?? null,
    staleTime: Infinity,
    networkMode: "always",
  });
}

async function remember(client: QueryClient, session: string, seen: Seen | null): Promise<void> {
  client.setQueryData(seenQuery(session).queryKey, seen);
  await savePart(session, SEEN, seen ?? undefined);
}

async function ask(client: QueryClient, session: string, signal: AbortSignal): Promise<Answer> {
  const answer = await asked(session, signal);
  const seen = await client.ensureQueryData(seenQuery(session));
  const next = seenAfter(seen, answer.document);
  if (next !== seen) await remember(client, session, next);
  return answer;
}

async function asked(session: string, signal: AbortSignal): Promise<Answer> {
  try {
    const reply = await request("execute", pathOf(session), { signal });
    const document = sessionDocumentSchema.parse(await reply.json());
    return { document, server_ms: Date.parse(reply.headers.get("date") ?? "") || Date.now() };
  } catch (error) {
    if (!isMissing(error)) throw error;
    return { document: undefined, server_ms: Date.now() };
  }
}

function refresh(client: QueryClient, session: string): void {
  void client.invalidateQueries({ queryKey: ["sandbox", session] });
}

async function start(client: QueryClient, session: string): Promise<void> {
  const key = ["sandbox", session];
  await client.cancelQueries({ queryKey: key });
  const answer: Answer = { document: { state: "starting" }, server_ms: Date.now() };
  client.setQueryData<Answer>(key, answer);
  try {
    await request("execute", `${pathOf(session)}/initialize?wait_s=0`, { method: "POST" });
  } finally {
    refresh(client, session);
  }
}

async function restart(client: QueryClient, session: string): Promise<void> {
  await request("execute", `${pathOf(session)}/contexts/default/restart`, { method: "POST" });
  await client.cancelQueries({ queryKey: ["sandbox", session] });
  await client.refetchQueries({ queryKey: ["sandbox", session] });
  const seen = await client.ensureQueryData(seenQuery(session));
  if (seen !== null) await remember(client, session, acknowledged(seen));
}

async function close(client: QueryClient, session: string): Promise<void> {
  try {
    await request("execute", pathOf(session), { method: "DELETE" });
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  await client.cancelQueries({ queryKey: ["sandbox", session] });
  await remember(client, session, null);
  client.setQueryData<Answer>(["sandbox", session], { document: undefined, server_ms: Date.now() });
}

function isMissing(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 404 || error.status === 410);
}

function pathOf(session: string): string {
  return `/sessions/${encodeURIComponent(session)}`;
}

/** Whether the page was opened for it, perhaps by a link from another browser; a session of the first page is new. */
function isInAddress(session: string): boolean {
  return typeof location !== "undefined" && new URLSearchParams(location.search).get("c") === session;
}
