import type { UIMessage } from "ai";
import { textOf } from "./message-data";

/** How much of the conversation comes along, for a server that has lost it. */
const MAX_EARLIER_CHARS = 60_000;
const MAX_EARLIER_MESSAGES = 60;

export interface TurnRequest {
  id: string;
  messages: UIMessage[];
  trigger: "submit-message" | "regenerate-message";
  messageId: string | undefined;
}

/**
 * Return the body that asks for a turn: the last user message, and before it the texts of those that came earlier,
 * the newest first to be kept.
 *
 * The server takes the earlier ones only where it has no history of the session; tools and pictures stay out, as it
 * believes nothing that a client says of them.
 */
export function requestBody({ id, messages, trigger, messageId }: TurnRequest): object {
  const last = messages.findLastIndex((message) => message.role === "user");
  const asked = messages[last];
  const spoken = asked === undefined ? [] : [{ id: asked.id, role: asked.role, parts: spokenParts(asked) }];
  const about = messageId === undefined ? {} : { messageId };
  return { id, trigger, ...about, messages: [...earlierTexts(messages.slice(0, Math.max(0, last))), ...spoken] };
}

function earlierTexts(messages: readonly UIMessage[]): object[] {
  const kept: object[] = [];
  let room = MAX_EARLIER_CHARS;
  for (const message of messages.toReversed()) {
    const text = textOf(message);
    room -= text.length;
    if (room < 0 || kept.length === MAX_EARLIER_MESSAGES) break;
    if (text && message.role !== "system") {
      kept.unshift({ id: message.id, role: message.role, parts: [{ type: "text", text }] });
    }
  }
  return kept;
}

function spokenParts(message: UIMessage): object[] {
  return message.parts.flatMap((part): object[] => {
    if (part.type === "text") return [{ type: "text", text: part.text }];
    return part.type === "file" ? [part] : [];
  });
}
