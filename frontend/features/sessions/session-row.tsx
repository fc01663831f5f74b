"use client";

import { Ellipsis, MessageSquare, NotebookPen, Pencil, Trash2 } from "lucide-react";
import { memo, type MouseEvent, type ReactNode, useRef, useState } from "react";
import { IconButton } from "@/components/ui/button";
import { Menu } from "@/components/ui/menu";
import styles from "./session-row.module.css";
import type { SessionMeta } from "./store";

export interface SessionRowProps {
  session: SessionMeta;
  current: boolean;
  onOpen(id: string): void;
  onRename(id: string, title: string): void;
  onDelete(session: SessionMeta): void;
}

/** One session: a link to it, and a menu. */
export const SessionRow = memo(function SessionRow(props: SessionRowProps): ReactNode {
  const { session, current, onOpen, onRename, onDelete } = props;
  const [renaming, setRenaming] = useState(false);
  const row = useRef<HTMLLIElement>(null);
  const Icon = session.kind === "notebook" ? NotebookPen : MessageSquare;

  const renamed = (title: string | undefined, byKey: boolean): void => {
    setRenaming(false);
    if (title !== undefined) onRename(session.id, title);
    if (byKey) requestAnimationFrame(() => row.current?.querySelector("a")?.focus());
  };

  return (
    <li ref={row} className={styles.row} data-session={session.id} data-current={current || undefined}>
      {renaming ? (
        <Title title={session.title} onDone={renamed} />
      ) : (
        <>
          <a
            href={`/?c=${encodeURIComponent(session.id)}`}
            className={styles.link}
            title={session.title}
            aria-current={current ? "page" : undefined}
            onClick={(event) => {
              if (!isPlain(event)) return;
              event.preventDefault();
              onOpen(session.id);
            }}
          >
            <Icon aria-hidden className={styles.icon} />
            <span className={styles.title}>{session.title}</span>
            {session.kind === "notebook" && <span className="visually-hidden">, notebook</span>}
          </a>
          <Menu
            trigger={
              <IconButton label={`Actions for ${session.title}`} size="sm" className={styles.actions}>
                <Ellipsis aria-hidden />
              </IconButton>
            }
            items={[
              { label: "Rename", icon: <Pencil aria-hidden />, onSelect: () => setRenaming(true) },
              { label: "Delete", icon: <Trash2 aria-hidden />, danger: true, onSelect: () => onDelete(session) },
            ]}
          />
        </>
      )}
    </li>
  );
});

/** The title as it is being changed; leaving the box keeps what it says. */
function Title({
  title,
  onDone,
}: {
  title: string;
  onDone(title: string | undefined, byKey: boolean): void;
}): ReactNode {
  const [text, setText] = useState(title);
  return (
    <input
      className={styles.input}
      aria-label="Title"
      maxLength={120}
      value={text}
      ref={focusAndSelect}
      onChange={(event) => setText(event.target.value)}
      onBlur={() => onDone(text, false)}
      onKeyDown={(event) => {
        if (event.nativeEvent.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
        event.preventDefault();
        event.stopPropagation();
        onDone(event.key === "Enter" ? text : undefined, true);
      }}
    />
  );
}

function focusAndSelect(input: HTMLInputElement | null): void {
  input?.focus();
  input?.select();
}

/** A click with a modifier opens the address in a tab or window of its own, as links do. */
function isPlain(event: MouseEvent): boolean {
  return !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey && event.button === 0;
}
