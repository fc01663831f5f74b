import { JSONParseError, TypeValidationError, type UIMessageChunk } from "ai";
import type { MessageMetadata } from "./message-data";

/** The connection went before the turn's last chunk: the turn goes on, and can be followed again. */
export class Cut extends Error {
  constructor(options?: ErrorOptions) {
    super("The connection was lost.", options);
    this.name = "Cut";
  }
}

/** Bytes, if only a keep-alive, come at least every 15 s; after this long the connection is taken for dead. */
export const SILENCE_MS = 45_000;

/** Return a body that breaks off with `Cut` when nothing has come for a while. */
export function withoutSilence(body: ReadableStream<Uint8Array>, silence_ms = SILENCE_MS): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const silent = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Cut()), silence_ms);
      });
      try {
        const { done, value } = await Promise.race([reader.read(), silent]);
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        controller.error(error);
        if (error instanceof Cut) void reader.cancel(error).catch(() => undefined);
      } finally {
        clearTimeout(timer);
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

/**
 * Return a turn's chunks for the AI SDK's chat, each told to `onChunk` before.
 *
 * How the turn ended becomes part of the message, so that it is known after a reload too; a turn that failed ends the
 * stream as one that finished. A stream without a last chunk ends with `Cut`.
 */
export function watched(
  chunks: ReadableStream<UIMessageChunk>,
  onChunk: (chunk: UIMessageChunk) => void,
): ReadableStream<UIMessageChunk> {
  const reader = chunks.getReader();
  let ended = false;
  return new ReadableStream<UIMessageChunk>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) {
          const end = endOf(value);
          ended ||= end !== undefined;
          onChunk(value);
          if (end !== undefined) controller.enqueue({ type: "message-metadata", messageMetadata: end });
          if (value.type !== "error") controller.enqueue(value);
          else controller.enqueue({ type: "finish", finishReason: "error" });
        } else if (ended) controller.close();
        else controller.error(new Cut());
      } catch (error) {
        if (ended) controller.close();
        else controller.error(meansCut(error) ? new Cut({ cause: error }) : error);
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

/** Return how a turn ended, if this is its last chunk. */
export function endOf(chunk: UIMessageChunk): MessageMetadata | undefined {
  switch (chunk.type) {
    case "finish":
      return { ended: "finished", finish_reason: chunk.finishReason };
    case "abort":
      return { ended: "stopped" };
    case "error":
      return { ended: "failed", failure: chunk.errorText };
    default:
      return undefined;
  }
}

/** Whether an error in the middle of a stream can be mended by following the turn again. */
function meansCut(error: unknown): boolean {
  if (TypeValidationError.isInstance(error) || JSONParseError.isInstance(error)) return false;
  return !(error instanceof Error && error.name === "AbortError");
}

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 15_000;

/** Return how long to wait before trying again; `random` from 0 to 1 keeps many pages from trying at once. */
export function backoffMs(attempt: number, random: number): number {
  return Math.round(Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** attempt) * (0.5 + random / 2));
}
