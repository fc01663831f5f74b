"use client";

import { ArrowDown } from "lucide-react";
import { type ReactNode, useCallback, useLayoutEffect, useMemo, useRef, useState } from "react";
import { Button } from "@/components/ui/button";
import { DropZone } from "@/features/files/uploads";
import { SandboxNotice } from "@/features/sessions/sandbox";
import { currentSessions } from "@/features/sessions/store";
import { announce } from "@/lib/announce";
import { useShortcut } from "@/lib/shortcuts";
import { useConfig } from "@/lib/use-config";
import styles from "./chat-view.module.css";
import { Composer, type ComposerHandle } from "./composer";
import { drawnFrom } from "./message-data";
import { type MessageActions, MessageView } from "./message-view";
import type { Draft } from "./drafts";
import messageStyles from "./message-view.module.css";
import { TurnStatus } from "./turn-status";
import { useConversation } from "./use-conversation";
import { useFreshness } from "./use-freshness";
import { useStickToBottom } from "./use-stick-to-bottom";

export interface ChatViewProps {
  session: string;
  draft?: Draft;
  /** What an empty conversation shows. */
  welcome?: ReactNode;
}

/** So many messages and cells are drawn at first, and more on demand. */
const DRAWN_AT_ONCE = 60;
const WAIT = "Wait for the answer, or stop it first.";

/** A session's conversation and the box to go on with it. */
export function ChatView({ session, draft, welcome }: ChatViewProps): ReactNode {
  const shown = useConversation(session);
  const { conversation, messages, busy, phase, stopping, loaded, returned } = shown;
  const config = useConfig();
  const empty = loaded && messages.length === 0 && !busy;
  const { scroller, content, atEnd, toEnd } = useStickToBottom(!empty);
  const [editing, setEditing] = useState<string>();
  const [limit, setLimit] = useState(DRAWN_AT_ONCE);
  const composer = useRef<ComposerHandle>(null);
  const list = useRef<HTMLDivElement>(null);
  const fromBox = useRef(false);
  const code = config !== undefined && config.model === undefined;

  useFreshness(session, phase === "answering", messages.length);
  useLayoutEffect(() => {
    if (loaded && !empty) toEnd();
  }, [empty, loaded, toEnd]);
  const stop = useCallback(() => void conversation.stop(), [conversation]);
  useShortcut("stop", stop, busy);
  useShortcut("focusComposer", () => composer.current?.focus());

  const actions = useMemo<MessageActions>(
    () => ({
      startEdit: (id) => {
        fromBox.current = false;
        setEditing(id);
      },
      cancelEdit: (id) => {
        setEditing(undefined);
        const edit = fromBox.current ? "" : `[data-edit="${CSS.escape(id)}"]`;
        requestAnimationFrame(() => {
          const button = edit && list.current?.querySelector<HTMLElement>(edit);
          if (button) button.focus();
          else composer.current?.focus();
        });
      },
      saveEdit: (id, text) => {
        if (conversation.busy) return announce(WAIT);
        setEditing(undefined);
        composer.current?.focus();
        toEnd();
        void conversation.edit(id, text);
      },
      answerAgain: (id) => {
        if (conversation.busy) return announce(WAIT);
        composer.current?.focus();
        toEnd();
        void conversation.answerAgain(id);
      },
      stop,
    }),
    [conversation, toEnd, stop],
  );

  const send = (text: string, files: string[]): void => {
    void conversation.send(text, files);
    currentSessions().touch(session, text);
    toEnd();
  };
  const editLast = (): void => {
    const last = messages.findLast((message) => message.role === "user");
    if (last === undefined || busy) return;
    fromBox.current = true;
    setEditing(last.id);
  };

  const from = drawnFrom(messages, limit);
  return (
    <DropZone session={session}>
      <div className={styles.view}>
        <div className={styles.middle}>
          {/* A region that scrolls must be reachable by keyboard. */}
          {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
          <div ref={scroller} className={styles.scroller} role="region" aria-label="Conversation" tabIndex={0}>
            <div ref={content} className={styles.content}>
              {empty && (welcome ?? <p className={styles.empty}>Nothing here yet. Write the first message below.</p>)}
              <div ref={list} className={`${styles.messages} ${busy ? messageStyles.busy : ""}`}>
                {from > 0 && (
                  <Button className={styles.earlier} onClick={() => setLimit(limit + DRAWN_AT_ONCE)}>
                    Show earlier messages
                  </Button>
                )}
                {messages.slice(from).map((message, index) => {
                  const last = from + index === messages.length - 1;
                  return (
                    <MessageView
                      key={message.id}
                      session={session}
                      message={message}
                      last={last}
                      live={last && busy}
                      editing={editing === message.id}
                      code={code}
                      actions={actions}
                    />
                  );
                })}
              </div>
              <TurnStatus shown={shown} />
            </div>
          </div>
          {!atEnd && !empty && (
            <div className={styles.jump}>
              <Button className={styles.jumpButton} onClick={toEnd}>
                <ArrowDown aria-hidden size={16} />
                Jump to latest
              </Button>
            </div>
          )}
        </div>
        <div className={styles.foot}>
          <SandboxNotice session={session} />
          <Composer
            ref={composer}
            session={session}
            draft={draft}
            returned={returned}
            busy={busy}
            stopping={stopping}
            ready={loaded}
            onSend={send}
            onStop={stop}
            onEditLast={editLast}
          />
        </div>
      </div>
    </DropZone>
  );
}
