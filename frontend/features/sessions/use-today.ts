"use client";

import { useSyncExternalStore } from "react";

const LOOK_EVERY_MS = 60_000;
let today = startOfDay();

/** The start of the current day, also after midnight. */
export function useToday(): Date {
  return useSyncExternalStore(subscribe, snapshot, snapshot);
}

function subscribe(listener: () => void): () => void {
  const timer = setInterval(listener, LOOK_EVERY_MS);
  document.addEventListener("visibilitychange", listener);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", listener);
  };
}

function snapshot(): Date {
  const now = startOfDay();
  if (now.getTime() !== today.getTime()) today = now;
  return today;
}

function startOfDay(): Date {
  const now = new Date();
  return new Date(now.getFullYear(), now.getMonth(), now.getDate());
}
