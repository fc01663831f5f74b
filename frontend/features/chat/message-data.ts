import type { UIMessage } from "ai";
import { z } from "@/lib/zod";
import { shownExecutionSchema, type ShownExecution } from "@/lib/outputs";

/** What the page keeps with a message, beside what the server says of the turn. */
const metadataSchema = z.object({
  /** The turn that gave this answer; the server's name for it. */
  turn: z.string().optional(),
  /** How the answer ended; none while it may still grow. `lost`: the rest of it cannot be had. */
  ended: z.enum(["finished", "stopped", "failed", "lost"]).optional(),
  finish_reason: z.string().optional(),
  /** Words for people, where it failed. */
  failure: z.string().optional(),
  /** When a user's message was sent, in ms since 1970. */
  sent_at_ms: z.number().optional(),
  /** Names of the files that were uploaded with a user's message. */
  files: z.array(z.string()).optional(),
});

export type MessageMetadata = z.infer<typeof metadataSchema>;
export type Part = UIMessage["parts"][number];

/** Return what is kept with a message; nothing where it has a shape that this page does not know. */
export function metadataOf(message: UIMessage | undefined): MessageMetadata {
  return metadataSchema.safeParse(message?.metadata ?? {}).data ?? {};
}

/** Return a message with this added to what is kept with it. */
export function withMetadata(message: UIMessage, added: MessageMetadata): UIMessage {
  return { ...message, metadata: { ...metadataOf(message), ...added } };
}

/** Whether more of this answer may come. */
export function isOpen(message: UIMessage | undefined): boolean {
  return message?.role === "assistant" && metadataOf(message).ended === undefined;
}

/** Return what was written, without code, tools and pictures. */
export function textOf(message: UIMessage): string {
  return message.parts.flatMap((part) => (part.type === "text" && part.text ? [part.text] : [])).join("\n\n");
}

/** Return what a `python` call shows so far, if it has the shape that this page knows. */
export function executionOf(output: unknown): ShownExecution | undefined {
  return shownExecutionSchema.safeParse(output).data;
}

/** Return a message as Markdown: what was written, code in fences, and text that code printed. */
export function markdownOf(message: UIMessage): string {
  return message.parts
    .flatMap((part) => {
      if (part.type === "text") return part.text ? [part.text] : [];
      if (part.type !== "tool-python" || !("input" in part)) return [];
      const code = codeOf(part.input);
      const execution = "output" in part ? executionOf(part.output) : undefined;
      const printed = (execution?.outputs ?? []).flatMap((output) => {
        if (output.type === "stream") return [output.text];
        if (output.type === "error") return [`${output.ename}: ${output.evalue}`];
        const plain = "data" in output ? output.data["text/plain"] : undefined;
        return typeof plain === "string" ? [plain] : [];
      });
      const text = printed.join("\n").replace(ANSI, "").trimEnd();
      return [fenced(code, "python"), ...(text ? [fenced(text, "text")] : [])];
    })
    .join("\n\n");
}

/** Return the code of a `python` call, as far as it has come. */
export function codeOf(input: unknown): string {
  return typeof input === "object" && input !== null && "code" in input && typeof input.code === "string"
    ? input.code
    : "";
}

/**
 * How much of an answer there is, for telling when a replay of it has caught up with what was shown before.
 * It never shrinks while the same turn is replayed from its first chunk.
 */
export function amountOf(message: UIMessage): number {
  return message.parts.reduce((sum, part) => {
    if (part.type === "text" || part.type === "reasoning") return sum + 1 + part.text.length;
    if ("output" in part && part.output !== undefined) return sum + 4;
    return sum + 1;
  }, 0);
}

/**
 * Return `next` as another tab has saved it, with those messages of `before` in it that say the same, so that they need
 * not be drawn again, or that are whole where the saved one is not yet.
 */
export function reconciled(before: readonly UIMessage[], next: readonly UIMessage[]): UIMessage[] {
  const known = new Map(before.map((message) => [message.id, message]));
  return next.map((message) => {
    const ours = known.get(message.id);
    if (ours === undefined) return message;
    if (isOpen(message) && !isOpen(ours)) return ours;
    return JSON.stringify(ours) === JSON.stringify(message) ? ours : message;
  });
}

const ANSI = /\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g;

function fenced(text: string, language: string): string {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}${language}\n${text}\n${fence}`;
}

/** Return the messages to be shown: an answer that is being replayed stays as it was until the replay has caught up. */
export function withHeld(messages: UIMessage[], held: UIMessage | undefined): UIMessage[] {
  if (held === undefined) return messages;
  const at = messages.findLastIndex((message) => message.id === held.id);
  const replayed = messages[at];
  if (replayed === undefined || !isOpen(replayed) || amountOf(replayed) >= amountOf(held)) return messages;
  return messages.with(at, held);
}

/** Return where to begin so that at most about this many messages and cells are drawn, counted from the newest. */
export function drawnFrom(messages: readonly UIMessage[], limit: number): number {
  let room = limit;
  for (let at = messages.length - 1; at >= 0; at -= 1) {
    room -= 1 + (messages[at]?.parts.filter((part) => part.type === "tool-python").length ?? 0);
    if (room < 0) return Math.min(at + 1, messages.length - 1);
  }
  return 0;
}
