"use client";

import { ArrowUp, Square } from "lucide-react";
import {
  type ClipboardEvent,
  type KeyboardEvent,
  type MouseEvent,
  type ReactNode,
  type Ref,
  useEffect,
  useEffectEvent,
  useId,
  useImperativeHandle,
  useRef,
  useState,
} from "react";
import { IconButton } from "@/components/ui/button";
import { UploadButton, UploadTray, uploadPasted, useUploads } from "@/features/files/uploads";
import { announce } from "@/lib/announce";
import { useConfig } from "@/lib/use-config";
import styles from "./composer.module.css";
import { type Draft, loadDraft, saveDraft, takenBack } from "./drafts";
import { GrowingTextarea } from "./growing-textarea";
import { isSendKey } from "./send-key";

export interface ComposerHandle {
  focus(): void;
}

export interface ComposerProps {
  session: string;
  /** A text to begin with, whenever it changes: an example that was chosen. */
  draft: Draft | undefined;
  /** A text that was refused and comes back. */
  returned: { text: string } | undefined;
  /** Whether a turn runs, so that nothing can be sent. */
  busy: boolean;
  stopping: boolean;
  /** Whether the conversation has been read, so that something can be sent. */
  ready: boolean;
  onSend(text: string, files: string[]): void;
  onStop(): void;
  onEditLast(): void;
  ref: Ref<ComposerHandle>;
}

/** The message box. What is typed is kept for the session until it is sent. */
export function Composer(props: ComposerProps): ReactNode {
  const { session, draft, returned, busy, stopping, ready, onSend, onStop, onEditLast, ref } = props;
  const [text, setText] = useState(() => loadDraft(session));
  const [hint, setHint] = useState("");
  const [waits, setWaits] = useState(false);
  const [seen, setSeen] = useState({ draft, returned });
  const uploads = useUploads(session);
  const config = useConfig();
  const box = useRef<HTMLTextAreaElement>(null);
  const hintId = useId();
  const runsPython = config !== undefined && config.model === undefined;

  if (seen.draft !== draft || seen.returned !== returned) {
    setSeen({ draft, returned });
    if (seen.draft !== draft && draft) setText(draft.text);
    else if (seen.returned !== returned && returned !== undefined) setText(takenBack(returned.text, text));
  }

  useImperativeHandle(ref, () => ({ focus: () => box.current?.focus() }), []);
  useEffect(() => saveDraft(session, text), [session, text]);
  const first = useRef(true);
  useEffect(() => {
    const isFirst = first.current;
    first.current = false;
    const nobodyElse = document.activeElement === null || document.activeElement === document.body;
    if (isFirst ? nobodyElse && matchMedia("(hover: hover)").matches : draft) box.current?.focus();
  }, [draft]);

  const submit = (): void => {
    setWaits(false);
    setHint("");
    const done = uploads.items.filter(({ state }) => state === "done").map(({ name }) => name);
    uploads.clearDone();
    setText("");
    onSend(text.trim(), done);
  };
  const say = (words: string): void => {
    setHint(words);
    announce(words);
  };
  const trySend = (): void => {
    if (!text.trim()) return;
    if (busy) say("Wait for the answer, or stop it; then send.");
    else if (!ready) {
      setWaits(true);
      say("Sends as soon as the conversation is read.");
    } else if (uploads.sending) {
      setWaits(true);
      say("Sends as soon as the uploads are done.");
    } else submit();
  };
  const sendNow = useEffectEvent(() => {
    if (busy) {
      setWaits(false);
      say("Wait for the answer, or stop it; then send.");
    } else if (uploads.items.some(({ state }) => state === "failed" || state === "refused")) {
      setWaits(false);
      say("An upload failed. Try it again, or send without it.");
    } else submit();
  });
  useEffect(() => {
    if (!waits || uploads.sending || !ready) return undefined;
    const timer = setTimeout(sendNow);
    return () => clearTimeout(timer);
  }, [waits, uploads.sending, ready]);

  const press = (event: MouseEvent): void => {
    if (event.detail > 1) return; // the second half of a double click, which would stop what the first has sent
    if (busy) return onStop();
    trySend();
    if (matchMedia("(hover: hover)").matches) box.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    if (isSendKey(event.nativeEvent)) {
      event.preventDefault();
      trySend();
    } else if (event.key === "ArrowUp" && !text && !event.nativeEvent.isComposing) {
      event.preventDefault();
      onEditLast();
    }
  };
  const onPaste = (event: ClipboardEvent<HTMLTextAreaElement>): void => {
    uploadPasted(session, event);
  };

  return (
    <div className={styles.composer}>
      <UploadTray session={session} />
      <div className={styles.card}>
        <GrowingTextarea
          ref={box}
          className={`${styles.box} ${runsPython ? styles.code : ""}`}
          aria-label="Message"
          aria-describedby={hintId}
          placeholder={runsPython ? "Python: what you type here runs" : "Ask, or describe what to compute"}
          enterKeyHint="send"
          spellCheck={!runsPython}
          autoCapitalize={runsPython ? "off" : undefined}
          value={text}
          onChange={(event) => {
            setText(event.target.value);
            if (!waits) setHint("");
          }}
          onKeyDown={onKeyDown}
          onPaste={onPaste}
        />
        <div className={styles.row}>
          <UploadButton session={session} />
          <span className={styles.hint} id={hintId}>
            {hint}
          </span>
          <IconButton
            label={busy ? "Stop" : "Send"}
            keys={busy ? "Escape" : "Enter"}
            look="primary"
            aria-disabled={busy ? stopping : !text.trim()}
            onClick={press}
          >
            {busy ? <Square aria-hidden className={styles.square} /> : <ArrowUp aria-hidden />}
          </IconButton>
        </div>
      </div>
    </div>
  );
}
