"use client";

import { useEffect, useRef } from "react";

/**
 * A key and what it does; all that exist are listed here, so that the help dialog cannot forget one.
 *
 * None that works everywhere is a single character: who dictates would press it (WCAG 2.1.4).
 */
export const SHORTCUTS = {
  send: { keys: "Enter", label: "Send the message", group: "Writing" },
  newline: { keys: "Shift+Enter", label: "New line", group: "Writing" },
  editLast: { keys: "ArrowUp", label: "Edit the last message (in an empty box)", group: "Writing" },
  focusComposer: { keys: "Mod+/", label: "Go to the message box", group: "Writing" },
  stop: { keys: "Escape", label: "Stop the answer or the running cell", group: "Running" },
  runCell: { keys: "Mod+Enter", label: "Run the cell", group: "Running" },
  runCellAndAdvance: { keys: "Shift+Enter", label: "Run the cell and go to the next (in a cell)", group: "Running" },
  leaveCell: { keys: "Escape", label: "Leave the editor (in a cell)", group: "Notebook" },
  editCell: { keys: "Enter", label: "Edit the focused cell", group: "Notebook" },
  moveBetweenCells: { keys: "↑ ↓", label: "Go to the cell above or below", group: "Notebook" },
  moveCell: { keys: "Alt+↑ ↓", label: "Move the focused cell", group: "Notebook" },
  addCell: { keys: "A B", label: "Add a cell above or below", group: "Notebook" },
  deleteCell: { keys: "Delete", label: "Delete the focused cell", group: "Notebook" },
  newChat: { keys: "Mod+Alt+N", label: "New chat", group: "Sessions" },
  searchSessions: { keys: "Mod+K", label: "Search sessions", group: "Sessions" },
  toggleSidebar: { keys: "Mod+B", label: "Show or hide the sessions", group: "Sessions" },
  toggleFiles: { keys: "Mod+Alt+F", label: "Show or hide the files", group: "Files" },
  upload: { keys: "Mod+U", label: "Upload files", group: "Files" },
  help: { keys: "Mod+Alt+H", label: "Keyboard help", group: "Page" },
} as const;

export type ShortcutName = keyof typeof SHORTCUTS;

/** Call `action` when the keys are pressed anywhere on the page. Single keys do nothing while the user types. */
export function useShortcut(name: ShortcutName, action: () => void, enabled = true): void {
  const latest = useRef(action);
  useEffect(() => {
    latest.current = action;
  });
  useEffect(() => {
    if (!enabled) return undefined;
    const listen = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || !matches(event, SHORTCUTS[name].keys)) return;
      if (isTyping(event.target) && !event.ctrlKey && !event.metaKey && event.key !== "Escape") return;
      event.preventDefault();
      latest.current();
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, [name, enabled]);
}

/** Whether a key press is this combination; `Mod` is Cmd on a Mac and Ctrl elsewhere. */
export function matches(event: KeyboardEvent, keys: string): boolean {
  const parts = keys.split("+");
  const key = parts.at(-1) ?? "";
  const mod = isMac() ? event.metaKey : event.ctrlKey;
  const other = isMac() ? event.ctrlKey : event.metaKey;
  if (parts.includes("Mod") !== mod || other) return false;
  if (parts.includes("Alt") !== event.altKey) return false;
  if (key.length > 1 && parts.includes("Shift") !== event.shiftKey) return false;
  if (event.altKey && /^[A-Z]$/.test(key)) return event.code === `Key${key}`;
  return event.key.toLowerCase() === key.toLowerCase();
}

/** Return the keys as they are printed on this keyboard. */
export function printed(keys: string): string[] {
  const names: Record<string, string> = {
    Mod: isMac() ? "⌘" : "Ctrl",
    Alt: isMac() ? "⌥" : "Alt",
    ArrowUp: "↑",
    Escape: "Esc",
  };
  return keys.split("+").map((part) => names[part] ?? part);
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  );
}

function isMac(): boolean {
  return typeof navigator !== "undefined" && /Mac|iPhone|iPad/.test(navigator.userAgent);
}
