import type { UIMessage } from "ai";
import { loadMessages, onSaved, saveMessages, untilLoaded } from "@/features/sessions/store";
import { isOpen, reconciled } from "./message-data";

const SAVE_EVERY_MS = 1_000;

/** What this browser keeps of a conversation: read once, kept as it grows, and in step with other tabs. */
export class KeptMessages {
  private saving: ReturnType<typeof setTimeout> | undefined;
  private closed = false;
  private readonly end: () => void;

  /** `chat` holds the messages as they are shown; `changed` is called when another tab has kept something. */
  constructor(
    private readonly session: string,
    private readonly chat: { messages: UIMessage[] },
    changed: () => void,
  ) {
    this.end = onSaved(session, (name) => {
      if (name === "messages") changed();
    });
  }

  /** Whether something is to be kept soon. */
  get waits(): boolean {
    return this.saving !== undefined;
  }

  close(): void {
    this.closed = true;
    this.end();
    clearTimeout(this.saving);
  }

  /** Read until that succeeds; `onFailure` is called the first time that it does not. Undefined once it is closed. */
  read(onFailure: (error: unknown) => void): Promise<UIMessage[] | undefined> {
    return untilLoaded(
      () => loadMessages(this.session),
      onFailure,
      () => !this.closed,
    );
  }

  /** Keep the messages now. */
  save(): void {
    clearTimeout(this.saving);
    this.saving = undefined;
    void saveMessages(this.session, this.chat.messages);
  }

  saveSoon(): void {
    this.saving ??= setTimeout(() => this.save(), SAVE_EVERY_MS);
  }

  /** Return what another tab has kept, where it is not what is shown; nothing when it cannot be read or is not `wanted`. */
  async fromElsewhere(wanted: () => boolean): Promise<UIMessage[] | undefined> {
    const messages = await loadMessages(this.session).catch(() => undefined);
    if (messages === undefined || !wanted()) return undefined;
    const shown = this.chat.messages;
    const next = reconciled(shown, messages);
    if (next.some((each, i) => isOpen(messages[i]) && !isOpen(each))) void saveMessages(this.session, next);
    const same = next.length === shown.length && next.every((each, i) => each === shown[i]);
    return same ? undefined : next;
  }
}
