"use client";

import { useSyncExternalStore } from "react";
import { THEME_NAME } from "./theme-script";

export type Theme = "light" | "dark";

const listeners = new Set<() => void>();

/** The theme in force, and how to change it. What is chosen here is kept in this browser. */
export function useTheme(): [Theme, (theme: Theme) => void] {
  const theme = useSyncExternalStore(subscribe, current, () => "light" as const);
  return [theme, choose];
}

function current(): Theme {
  return document.documentElement.dataset.theme === "dark" ? "dark" : "light";
}

function choose(theme: Theme): void {
  try {
    localStorage.setItem(THEME_NAME, theme);
  } catch {
    // It holds for this page at least.
  }
  apply(theme);
}

function apply(theme: Theme): void {
  document.documentElement.dataset.theme = theme;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  const system = matchMedia("(prefers-color-scheme: dark)");
  const follow = (): void => {
    let chosen: string | null = null;
    try {
      chosen = localStorage.getItem(THEME_NAME);
    } catch {
      // Nothing is chosen then.
    }
    if (chosen === null) apply(system.matches ? "dark" : "light");
  };
  system.addEventListener("change", follow);
  return () => {
    listeners.delete(listener);
    system.removeEventListener("change", follow);
  };
}
