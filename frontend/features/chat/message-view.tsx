"use client";

import { Pencil, RotateCcw } from "lucide-react";
import type { UIMessage } from "ai";
import { memo, type ReactNode } from "react";
import { Button, IconButton } from "@/components/ui/button";
import { Notice } from "@/components/ui/notice";
import { CopyButton } from "@/features/outputs/copy-button";
import { EditMessage } from "./edit-message";
import { markdownOf, metadataOf, textOf } from "./message-data";
import { FileChip, MessagePart, type PartContext } from "./message-parts";
import styles from "./message-view.module.css";

/** What can be done with messages; the same object as long as the session is. */
export interface MessageActions {
  startEdit(id: string): void;
  cancelEdit(id: string): void;
  saveEdit(id: string, text: string): void;
  answerAgain(id: string): void;
  stop(): void;
}

export interface MessageViewProps {
  session: string;
  message: UIMessage;
  /** Whether it is the last one. */
  last: boolean;
  /** Whether it is an answer that may still grow. */
  live: boolean;
  editing: boolean;
  /** Whether its text is shown as code, since that is what it is without a model. */
  code: boolean;
  actions: MessageActions;
}

/** One message. Drawn again only when it changes. */
export const MessageView = memo(function MessageView(props: MessageViewProps): ReactNode {
  switch (props.message.role) {
    case "user":
      return <UserMessage {...props} />;
    case "assistant":
      return <Answer {...props} />;
    case "system":
      return null;
  }
});

function UserMessage({ message, last, editing, code, actions }: MessageViewProps): ReactNode {
  const text = textOf(message);
  const names = [
    ...(metadataOf(message).files ?? []),
    ...message.parts.flatMap((part) => (part.type === "file" ? [part.filename ?? part.mediaType] : [])),
  ];
  return (
    <article aria-label="You" data-message={message.id} className={`${styles.message} ${styles.user}`}>
      {editing ? (
        <EditMessage
          text={text}
          code={code}
          replaces={!last}
          onSave={(next) => actions.saveEdit(message.id, next)}
          onCancel={() => actions.cancelEdit(message.id)}
        />
      ) : (
        <>
          <div className={styles.bubble}>
            {names.length > 0 && (
              <ul className={styles.files} aria-label="Files">
                {names.map((name) => (
                  <li key={name}>
                    <FileChip name={name} />
                  </li>
                ))}
              </ul>
            )}
            <p className={code ? styles.code : styles.said}>{text}</p>
          </div>
          <div className={styles.actions}>
            <IconButton
              label="Edit message"
              size="sm"
              data-edit={message.id}
              onClick={() => actions.startEdit(message.id)}
            >
              <Pencil aria-hidden />
            </IconButton>
            <CopyButton label="Copy message" what="Message" text={() => text} />
          </div>
        </>
      )}
    </article>
  );
}

const CUT_SHORT: Partial<Record<string, string>> = {
  length: "The answer was cut off at the model’s longest length. Write “go on” for the rest.",
  "content-filter": "The model’s provider cut the answer off with its content filter.",
};

function Answer({ session, message, last, live, actions }: MessageViewProps): ReactNode {
  const { ended, failure, finish_reason } = metadataOf(message);
  const context: PartContext = { session, over: !live, onStop: actions.stop };
  const cutShort = ended === "finished" ? CUT_SHORT[finish_reason ?? ""] : undefined;
  const tryAgain = last && !live && <Button onClick={() => actions.answerAgain(message.id)}>Try again</Button>;
  return (
    <article
      aria-label="Caesarion"
      aria-busy={live}
      data-message={message.id}
      className={`${styles.message} ${styles.answer} ${last ? "" : styles.old}`}
    >
      <div className={styles.parts}>
        {message.parts.map((part, index) => (
          <MessagePart key={"toolCallId" in part ? part.toolCallId : index} part={part} context={context} />
        ))}
        {cutShort !== undefined && <Notice>{cutShort}</Notice>}
        {ended === "failed" && (
          <Notice kind="error" actions={tryAgain}>
            {failure ?? "The answer failed."}
          </Notice>
        )}
        {ended === "lost" && (
          <Notice kind="warning" actions={tryAgain}>
            The rest of this answer cannot be had any more. Code that ran is not run again by itself.
          </Notice>
        )}
      </div>
      {/* While it grows its row is there, unseen: nothing moves at its end. */}
      <div className={`${styles.actions} ${last ? styles.always : ""}`}>
        {ended === "stopped" && <span className={styles.stopped}>Stopped</span>}
        <CopyButton label="Copy message" what="Message" text={() => markdownOf(message)} />
        <IconButton label="Answer again" size="sm" onClick={() => actions.answerAgain(message.id)}>
          <RotateCcw aria-hidden />
        </IconButton>
      </div>
    </article>
  );
}
