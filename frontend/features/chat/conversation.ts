import { Chat } from "@ai-sdk/react";
import type { UIMessage, UIMessageChunk } from "ai";
import { createStore } from "zustand/vanilla";
import { announce } from "@/lib/announce";
import { ApiError, request, wordsOf } from "@/lib/api";
import { newId } from "@/lib/ids";
import { apiKey, onKeyChange } from "@/lib/key";
import { KeptMessages } from "./kept-messages";
import { isOpen, metadataOf, type MessageMetadata, withMetadata } from "./message-data";
import { Spoken } from "./spoken";
import { backoffMs, Cut } from "./streams";
import { TurnTransport } from "./transport";

/**
 * One session's conversation: the messages, the turn that runs, and everything that can go wrong between here and the
 * server. It goes on while another session is shown, so it lives outside of React.
 */

/** `sending`: nothing has come yet. `reconnecting`: the connection is gone, or it is asked whether a turn runs. */
export type Phase = "idle" | "sending" | "answering" | "reconnecting";

/** A request that did not get through. */
export interface Failure {
  text: string;
  again?: () => void;
}

export interface ConversationState {
  /** Whether what this browser keeps has been read. */
  loaded: boolean;
  phase: Phase;
  /** The user has pressed stop, and the turn has not ended yet. */
  stopping: boolean;
  failure?: Failure;
  /** Something to know about what just happened. */
  notice?: string;
  /** The text of a message that was refused, for the box to take back. */
  returned?: { text: string };
  /** What was shown of an answer before it is replayed. */
  held?: UIMessage;
  /** The last message has no answer, and none is coming. */
  unanswered: boolean;
}

interface Asking {
  /** The messages as they were, for a request that is refused. */
  before: UIMessage[];
  request(): Promise<void>;
  /** Ask the same again; the server takes it for the same where it is. */
  again(): void;
  /** The text that was asked; none for another answer. */
  text?: string;
}

const STOP_GRACE_MS = 5_000;
const STEADY_MS = 10_000;
/** A message that got no answer before a reload is sent again by itself for this long. */
const SENT_AGAIN_FOR_MS = 10 * 60_000;
const NOT_TAKEN = [400, 413, 415, 422];

export class Conversation {
  readonly chat: Chat<UIMessage>;
  readonly state = createStore<ConversationState>()(() => ({
    loaded: false,
    phase: "idle",
    stopping: false,
    unanswered: false,
  }));
  /** How many views show it; what nobody looks at is not spoken. */
  private views = 0;
  private turn: string | undefined;
  /** Chunks that came since the last request. */
  private chunks = 0;
  /** Whether this tab asked for the turn, and so keeps it. */
  private mine = false;
  private abandoned = false;
  private needsKey = false;
  private needsServer = false;
  private changedElsewhere = false;
  private readonly kept: KeptMessages;
  private readonly spoken = new Spoken();
  private wake: (() => void) | undefined;
  private opening: Promise<void> | undefined;
  private grace: ReturnType<typeof setTimeout> | undefined;
  private readonly unwatchKey: () => void;

  constructor(readonly session: string) {
    this.chat = new Chat<UIMessage>({
      id: session,
      messages: [],
      generateId: () => newId("m"),
      transport: new TurnTransport({ onChunk: (chunk) => this.take(chunk), turn: () => this.turn }),
    });
    this.kept = new KeptMessages(session, this.chat, () => void this.catchUp());
    this.unwatchKey = onKeyChange(() => {
      if (!apiKey()) return;
      this.nudge();
      if (this.needsKey) this.state.getState().failure?.again?.();
    });
  }

  get busy(): boolean {
    return this.state.getState().phase !== "idle";
  }

  get seen(): boolean {
    return this.views > 0;
  }

  /** A view shows it, until the function that is returned is called. */
  show(): () => void {
    this.views += 1;
    void this.open();
    return () => {
      this.views -= 1;
    };
  }

  /** Read what is kept, and follow the turn that was running. Once; later calls wait for the first. */
  open(): Promise<void> {
    this.opening ??= this.read();
    return this.opening;
  }

  close(): void {
    this.kept.close();
    this.unwatchKey();
  }

  async send(text: string, files: string[] = []): Promise<void> {
    if (this.busy) return;
    if (!this.state.getState().loaded) return this.state.setState({ returned: { text } });
    const id = newId("u");
    const metadata: MessageMetadata = { sent_at_ms: Date.now(), ...(files.length > 0 && { files }) };
    await this.ask({
      before: this.chat.messages,
      request: () => this.chat.sendMessage({ id, role: "user", parts: [{ type: "text", text }], metadata }),
      again: () => void this.sendAgain(id),
      text,
    });
  }

  /** Replace a user's message and what follows it. */
  async edit(id: string, text: string): Promise<void> {
    const message = this.chat.messages.find((each) => each.id === id);
    if (this.busy || message === undefined) return;
    const texts = message.parts.filter((part) => part.type === "text");
    if (texts.map((part) => part.text).join("\n\n") === text) return this.answerAgain(id);
    const parts = [...message.parts.filter((part) => part.type !== "text"), { type: "text" as const, text }];
    await this.ask({
      before: this.chat.messages,
      request: () =>
        this.chat.sendMessage({
          messageId: id,
          role: "user",
          parts,
          metadata: { ...metadataOf(message), sent_at_ms: Date.now() },
        }),
      again: () => void this.sendAgain(id),
      text,
    });
  }

  /** Have an answer, or the answer to a user's message, given anew; what follows it goes. */
  async answerAgain(id: string): Promise<void> {
    if (this.busy || !this.chat.messages.some((message) => message.id === id)) return;
    await this.ask({
      before: this.chat.messages,
      request: () => this.chat.regenerate({ messageId: id }),
      again: () => void this.answerAgain(id),
    });
  }

  /** Ask once more for what has no whole answer. */
  tryAgain(): void {
    const last = this.chat.messages.at(-1);
    if (last?.role === "user") void this.sendAgain(last.id);
    else if (last !== undefined) void this.answerAgain(last.id);
  }

  /** Stop the turn on the server and let its stream end; let go of it when that takes too long. */
  async stop(): Promise<void> {
    if (!this.busy || this.state.getState().stopping) return;
    this.state.setState({ stopping: true });
    if (this.state.getState().phase === "reconnecting") this.letGo();
    else this.grace = setTimeout(() => this.letGo(), STOP_GRACE_MS);
    await this.askToStop();
  }

  /** Do now what waits for a better moment: the connection is back, or the page is looked at again. */
  nudge(): void {
    this.wake?.();
  }

  /** The browser is online again. */
  online(): void {
    this.nudge();
    if (this.needsServer && !this.busy) this.state.getState().failure?.again?.();
  }

  /** The page is shown again, perhaps after a sleep. */
  async shown(): Promise<void> {
    this.nudge();
    if (this.state.getState().loaded && !this.busy && isOpen(this.chat.messages.at(-1))) await this.pickUp(true);
  }

  dismiss(): void {
    this.needsKey = this.needsServer = false;
    this.state.setState({ failure: undefined, notice: undefined });
  }

  /** Keep them if this tab has something that is not kept yet. */
  flush(): void {
    if (this.kept.waits || (this.busy && this.mine)) this.kept.save();
  }

  private async read(): Promise<void> {
    const messages = await this.kept.read((error) =>
      this.state.setState({ failure: { text: `${wordsOf(error)} It is tried again.` } }),
    );
    if (messages === undefined) return;
    this.spoken.remember(messages);
    this.chat.messages = messages;
    this.state.setState({ loaded: true, failure: undefined });
    const last = messages.at(-1);
    if (last?.role === "user" || isOpen(last)) await this.pickUp(true);
  }

  private async ask(asking: Asking): Promise<void> {
    this.begin(true, "sending");
    this.needsKey = this.needsServer = false;
    this.state.setState({ failure: undefined, notice: undefined, unanswered: false });
    const asked = asking.request();
    this.kept.save();
    await asked;
    const error = this.problem();
    if (this.chunks === 0 && error !== undefined && !(error instanceof Cut)) {
      this.chat.clearError();
      return this.refused(error, asking);
    }
    const begun = this.chunks > 0;
    let again = false;
    await this.follow(error, () => (again = !begun && asking.text !== undefined));
    if (again) asking.again();
    else if (this.chat.messages.at(-1)?.role === "user") this.state.setState({ unanswered: true });
  }

  private async refused(error: Error, { before, again, text }: Asking): Promise<void> {
    const status = error instanceof ApiError ? error.status : 0;
    const running = error instanceof ApiError && error.code === "turn_running";
    const back = running || text === undefined || NOT_TAKEN.includes(status);
    if (back) {
      this.chat.messages = before;
      this.state.setState({ returned: text === undefined ? undefined : { text } });
    }
    this.settle();
    if (running) {
      this.state.setState({
        notice:
          text === undefined
            ? "Another tab’s turn is still running. Ask again when it has ended."
            : "Another tab’s turn is still running. Your message is back in the box; send it when that has ended.",
      });
      await this.pickUp(false);
      return;
    }
    this.needsKey = status === 401;
    this.needsServer = error instanceof ApiError && status === 0;
    const retry = NOT_TAKEN.includes(status) ? undefined : again;
    this.state.setState({ failure: { text: wordsOf(error), again: retry } });
  }

  /**
   * Follow the turn that runs, or the one that the last message is of, to its end.
   *
   * `own`: this tab answers for the conversation; else another one does, which also keeps it.
   */
  private async pickUp(own: boolean): Promise<void> {
    if (this.busy) return;
    const last = this.chat.messages.at(-1);
    this.begin(own, "reconnecting");
    this.turn = isOpen(last) ? metadataOf(last).turn : undefined;
    const error = await this.resume();
    let again = false;
    await this.follow(error, () => {
      const sent_at_ms = metadataOf(last).sent_at_ms ?? 0;
      again = own && last?.role === "user" && Date.now() - sent_at_ms < SENT_AGAIN_FOR_MS;
      if (own && last?.role === "user" && !again) this.state.setState({ unanswered: true });
    });
    if (again && last !== undefined) await this.sendAgain(last.id);
  }

  private begin(mine: boolean, phase: Phase): void {
    this.mine = mine;
    this.turn = undefined;
    this.chunks = 0;
    this.abandoned = false;
    this.state.setState({ phase, stopping: false });
  }

  /** Reconnect until the turn has ended; `nothing` is called when the server knows of none. */
  private async follow(first: Error | undefined, nothing: () => void): Promise<void> {
    let error = first;
    let attempt = 0;
    while (error !== undefined && !this.abandoned && mends(error)) {
      this.state.setState({ phase: "reconnecting" });
      if (attempt === 0 && this.seen && this.chunks > 0) announce("Connection lost, reconnecting");
      await this.pause(needsKey(error) ? undefined : backoffMs(attempt, Math.random()));
      if (this.abandoned) break;
      attempt += 1;
      const began_ms = performance.now();
      error = await this.resume();
      if (performance.now() - began_ms > STEADY_MS) attempt = 0;
    }
    this.chat.clearError();
    const none = error === undefined && this.chunks === 0 && !this.abandoned;
    if (isOpen(this.chat.messages.at(-1))) {
      if (this.abandoned) this.endLast({ ended: "stopped" });
      else if (error !== undefined) this.endLast({ ended: "failed", failure: wordsOf(error) });
      else if (this.mine) this.endLast({ ended: "lost" });
    } else if (error !== undefined) {
      this.state.setState({ failure: { text: wordsOf(error), again: () => this.tryAgain() } });
    }
    if (this.abandoned && this.seen) announce("Stopped");
    this.settle();
    if (none) nothing();
  }

  /** Follow the turn once more, and return what went wrong. What was shown stays until the replay has caught up. */
  private async resume(): Promise<Error | undefined> {
    const last = this.chat.messages.at(-1);
    this.state.setState({ held: last?.role === "assistant" ? last : undefined });
    this.chunks = 0;
    await this.chat.resumeStream();
    return this.problem();
  }

  /** The turn is over, however it went. */
  private settle(): void {
    clearTimeout(this.grace);
    this.state.setState({ phase: "idle", stopping: false, held: undefined });
    if (this.mine || (this.chunks > 0 && !this.changedElsewhere)) this.kept.save();
    this.changedElsewhere = false;
    if (!this.mine) void this.catchUp();
  }

  /** Another tab has kept something: show it, and follow what it follows. Where it cannot be read nothing changes. */
  private async catchUp(): Promise<void> {
    if (this.busy || !this.state.getState().loaded) {
      this.changedElsewhere = true;
      return;
    }
    const next = await this.kept.fromElsewhere(() => !this.busy);
    if (next === undefined) return;
    this.spoken.remember(next);
    this.chat.messages = next;
    this.state.setState({ unanswered: false, failure: undefined });
    const last = next.at(-1);
    if (last?.role === "user" || isOpen(last)) await this.pickUp(false);
  }

  private async sendAgain(id: string): Promise<void> {
    const message = this.chat.messages.find((each) => each.id === id);
    if (this.busy || message === undefined) return;
    const { parts, metadata } = message;
    await this.ask({
      before: this.chat.messages,
      request: () => this.chat.sendMessage({ messageId: id, role: "user", parts, metadata }),
      again: () => void this.sendAgain(id),
      text: parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n\n"),
    });
  }

  private take(chunk: UIMessageChunk): void {
    this.chunks += 1;
    if (this.state.getState().phase !== "answering") this.state.setState({ phase: "answering" });
    if (chunk.type === "start") {
      this.turn = metadataOf({ id: "", role: "assistant", parts: [], metadata: chunk.messageMetadata }).turn;
      if (this.state.getState().stopping) void this.askToStop();
      this.saveSoon();
    }
    const spoken = this.spoken.next(chunk);
    if (spoken !== undefined && this.seen) announce(spoken);
    if (/-(end|available|error)$/.test(chunk.type) && !("preliminary" in chunk && chunk.preliminary)) this.saveSoon();
  }

  private saveSoon(): void {
    if (this.mine) this.kept.saveSoon();
  }

  private endLast(how: MessageMetadata): void {
    const messages = this.chat.messages;
    const last = messages.at(-1);
    if (last !== undefined) this.chat.messages = messages.with(-1, withMetadata(last, how));
  }

  private letGo(): void {
    if (!this.busy) return;
    this.abandoned = true;
    this.nudge();
    void this.chat.stop();
  }

  private async askToStop(): Promise<void> {
    const body = JSON.stringify(this.turn === undefined ? {} : { turn: this.turn });
    const headers = { "Content-Type": "application/json" };
    try {
      await request("chat", `/api/chat/${encodeURIComponent(this.session)}/stop`, { method: "POST", headers, body });
    } catch (error) {
      this.state.setState({ notice: `The answer may go on at the server: ${wordsOf(error)}` });
    }
  }

  private problem(): Error | undefined {
    return this.chat.status === "error" ? this.chat.error : undefined;
  }

  /** Wait this long, or until `nudge`. */
  private async pause(ms: number | undefined): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.wake = undefined;
  }
}

/** Whether following again may go better. */
function mends(error: Error): boolean {
  if (error instanceof Cut) return true;
  return (
    error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500 || needsKey(error))
  );
}

function needsKey(error: Error): boolean {
  return error instanceof ApiError && error.status === 401;
}
