import type { SessionKind } from "./store";

const MAX_TITLE_CHARS = 60;
const UNTITLED: Record<SessionKind, string> = { chat: "New chat", notebook: "New notebook" };

/** What a session is called before it has a title. */
export function untitled(kind: SessionKind): string {
  return UNTITLED[kind];
}

/** Return the first words of a text, at most 60 characters; empty when it has none. */
export function titleFrom(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  const characters = Array.from(line);
  if (characters.length <= MAX_TITLE_CHARS) return line;
  const start = characters.slice(0, MAX_TITLE_CHARS - 1).join("");
  const space = start.lastIndexOf(" ");
  return `${(space > MAX_TITLE_CHARS / 2 ? start.slice(0, space) : start).replace(/[\s,.;:–-]+$/, "")}…`;
}

/** Return a file name, without its ending, that every system takes. */
export function fileNameFrom(title: string): string {
  const name = title
    .normalize("NFC")
    .replace(/[^\p{L}\p{M}\p{N} ._-]+/gu, " ")
    .replace(/\s+/g, " ")
    .replace(/^[ .]+|[ .]+$/g, "");
  return name || "session";
}
