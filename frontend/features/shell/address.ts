"use client";

import { useSyncExternalStore } from "react";

const NAME = "c";
const PATTERN = /^[A-Za-z0-9_-]{1,64}$/;
const listeners = new Set<() => void>();

/** The session that the address names (`/?c=ID`); null for the first page, undefined while the page is being made. */
export function useAddress(): string | null | undefined {
  return useSyncExternalStore(subscribe, current, () => undefined);
}

export function addressOf(session: string | null): string {
  return session === null ? "/" : `/?${NAME}=${session}`;
}

/** Go to a session, or to the first page. `replace` leaves no step to go back to. */
export function goTo(session: string | null, replace = false): void {
  const address = addressOf(session);
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  for (const listener of listeners) listener();
}

function current(): string | null {
  const named = new URLSearchParams(location.search).get(NAME);
  return named !== null && PATTERN.test(named) ? named : null;
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  window.addEventListener("popstate", listener);
  return () => {
    listeners.delete(listener);
    window.removeEventListener("popstate", listener);
  };
}
