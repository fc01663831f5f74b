import { type ChatTransport, DefaultChatTransport, type UIMessage, type UIMessageChunk } from "ai";
import { authorization, failureOf, unreachable, urlOf } from "@/lib/api";
import { requestBody } from "./requests";
import { watched, withoutSilence } from "./streams";

export interface TransportWatcher {
  onChunk(chunk: UIMessageChunk): void;
  /** The turn that is to be followed again, where its name is known. */
  turn(): string | undefined;
}

/** The way to the chat function: failures come as ApiError, connections that break off as Cut. */
export class TurnTransport implements ChatTransport<UIMessage> {
  /** A turn that is followed again comes from its first chunk. */
  readonly resumeStreamIsReplay = true;
  private readonly http: DefaultChatTransport<UIMessage>;

  constructor(private readonly watcher: TransportWatcher) {
    this.http = new DefaultChatTransport<UIMessage>({
      fetch: checkedFetch,
      headers: authorization,
      prepareSendMessagesRequest: async ({ id, messages, trigger, messageId }) => ({
        api: await addressOf("/api/chat"),
        body: requestBody({ id, messages, trigger, messageId }),
      }),
      prepareReconnectToStreamRequest: async ({ id, requestMetadata }) => ({
        api: await addressOf(`/api/chat/${encodeURIComponent(id)}/stream${turnQuery(requestMetadata)}`),
      }),
    });
  }

  async sendMessages(
    options: Parameters<ChatTransport<UIMessage>["sendMessages"]>[0],
  ): Promise<ReadableStream<UIMessageChunk>> {
    return this.watch(await this.http.sendMessages(options));
  }

  async reconnectToStream(
    options: Parameters<ChatTransport<UIMessage>["reconnectToStream"]>[0],
  ): Promise<ReadableStream<UIMessageChunk> | null> {
    const turn = this.watcher.turn();
    const named = turn === undefined ? null : await this.http.reconnectToStream({ ...options, metadata: { turn } });
    const chunks = named ?? (await this.http.reconnectToStream(options));
    return chunks === null ? null : this.watch(chunks);
  }

  private watch(chunks: ReadableStream<UIMessageChunk>): ReadableStream<UIMessageChunk> {
    return watched(chunks, (chunk) => this.watcher.onChunk(chunk));
  }
}

async function checkedFetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  let reply: Response;
  try {
    reply = await fetch(input, init);
  } catch (error) {
    if (init?.signal?.aborted) throw error;
    throw unreachable();
  }
  if (!reply.ok) throw await failureOf(reply);
  if (reply.body === null) return reply;
  return new Response(withoutSilence(reply.body), { status: reply.status, headers: reply.headers });
}

async function addressOf(path: string): Promise<string> {
  try {
    return await urlOf("chat", path);
  } catch {
    throw unreachable();
  }
}

function turnQuery(metadata: unknown): string {
  if (typeof metadata !== "object" || metadata === null || !("turn" in metadata)) return "";
  return `?turn=${encodeURIComponent(String(metadata.turn))}`;
}
