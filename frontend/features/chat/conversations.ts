import { Conversation } from "./conversation";

const MAX_IDLE = 12;
const conversations = new Map<string, Conversation>();

/** Return the conversation of a session, the same one as long as it is used. */
export function conversationOf(session: string): Conversation {
  const known = conversations.get(session) ?? new Conversation(session);
  conversations.delete(session);
  conversations.set(session, known);
  for (const [id, other] of conversations) {
    if (conversations.size <= MAX_IDLE) break;
    if (other.seen || other.busy || other === known) continue;
    other.close();
    conversations.delete(id);
  }
  return known;
}

if (typeof window !== "undefined") {
  window.addEventListener("online", () => {
    for (const conversation of conversations.values()) conversation.online();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState !== "visible") return;
    for (const conversation of conversations.values()) void conversation.shown();
  });
  window.addEventListener("pagehide", () => {
    for (const conversation of conversations.values()) conversation.flush();
  });
}
