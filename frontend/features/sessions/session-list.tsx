"use client";

import { Search } from "lucide-react";
import { type ReactNode, useCallback, useDeferredValue, useEffect, useMemo, useRef, useState } from "react";
import { Button } from "@/components/ui/button";
import { Confirm } from "@/components/ui/dialog";
import { Notice } from "@/components/ui/notice";
import { announce } from "@/lib/announce";
import { wordsOf } from "@/lib/api";
import { count } from "@/lib/format";
import { printed, SHORTCUTS, useShortcut } from "@/lib/shortcuts";
import { grouped, matching } from "./groups";
import styles from "./session-list.module.css";
import { SessionRow } from "./session-row";
import { onRemoved, type SessionMeta, useSessions, useStorageProblem } from "./store";
import { useToday } from "./use-today";

export interface SessionListProps {
  current: string | undefined;
  onOpen(id: string): void;
  /** The session that was shown is deleted. */
  onGone(): void;
  /** Whether it is shown for searching: focus goes to its box. */
  searching?: boolean;
}

const ROWS_AT_FIRST = 60;
const ROWS_MORE = 120;

/** The sessions that this browser knows: search, open, rename, delete. */
export function SessionList({ current, onOpen, onGone, searching = false }: SessionListProps): ReactNode {
  const { sessions, rename, remove } = useSessions();
  const today = useToday();
  const [search, setSearch] = useState("");
  const [rows, setRows] = useState(ROWS_AT_FIRST);
  const [deleting, setDeleting] = useState<SessionMeta>();
  const [failure, setFailure] = useState<string>();
  const box = useRef<HTMLInputElement>(null);
  const list = useRef<HTMLElement>(null);

  useShortcut("searchSessions", () => {
    box.current?.focus();
    box.current?.select();
  });
  useEffect(() => {
    if (searching) box.current?.focus();
  }, [searching]);
  const showMore = useCallback(() => setRows((shown) => shown + ROWS_MORE), []);
  useEffect(() => onRemoved((id) => id === current && onGone()), [current, onGone]);

  const words = useDeferredValue(search);
  const found = useMemo(() => matching(sessions ?? [], words), [sessions, words]);
  const groups = useMemo(() => grouped(found.slice(0, rows), today), [found, rows, today]);

  const confirmed = (session: SessionMeta): void => {
    setFailure(undefined);
    remove(session.id).then(
      () => announce(`Deleted “${session.title}”.`),
      (error: unknown) =>
        setFailure(
          `“${session.title}” is deleted here, but its sandbox is not closed: ${wordsOf(error)} ` +
            "It is removed by itself after being idle.",
        ),
    );
  };
  const asked = (): void => {
    const row = deleting && list.current?.querySelector<HTMLElement>(`[data-session="${deleting.id}"] button`);
    setDeleting(undefined);
    // The row may be about to go: then the search box is where one goes on.
    requestAnimationFrame(() => (row?.isConnected ? row : box.current)?.focus());
  };

  return (
    <nav aria-label="Sessions" className={styles.sessions} ref={list}>
      <div className={styles.search}>
        <Search aria-hidden className={styles.glass} />
        <input
          ref={box}
          type="search"
          aria-label="Search sessions"
          aria-keyshortcuts="Control+K"
          placeholder={`Search (${printed(SHORTCUTS.searchSessions.keys).join(" ")})`}
          autoComplete="off"
          spellCheck={false}
          value={search}
          onChange={(event) => {
            setSearch(event.target.value);
            setRows(ROWS_AT_FIRST);
          }}
          onKeyDown={(event) => {
            if (event.key !== "Escape" || search === "") return;
            event.preventDefault();
            event.stopPropagation();
            setSearch("");
          }}
        />
      </div>
      <p role="status" className="visually-hidden">
        {words.trim() !== "" && sessions !== undefined && `${count(found.length, "session")} found`}
      </p>
      <div className={styles.scroll}>
        <Problems failure={failure} onDismiss={() => setFailure(undefined)} />
        {sessions !== undefined && sessions.length === 0 && (
          <p className={styles.empty}>What you begin is listed here, and kept in this browser only.</p>
        )}
        {sessions !== undefined && sessions.length > 0 && found.length === 0 && (
          <div className={styles.empty}>
            <p>No session is called “{words.trim()}”.</p>
            <Button
              onClick={() => {
                setSearch("");
                box.current?.focus();
              }}
            >
              Show all
            </Button>
          </div>
        )}
        {groups.map((group) => (
          <section key={group.name} aria-label={group.name}>
            <h2 className={styles.group}>{group.name}</h2>
            <ul className={styles.rows}>
              {group.sessions.map((session) => (
                <SessionRow
                  key={session.id}
                  session={session}
                  current={session.id === current}
                  onOpen={onOpen}
                  onRename={rename}
                  onDelete={setDeleting}
                />
              ))}
            </ul>
          </section>
        ))}
        {found.length > rows && <More onSeen={showMore} left={found.length - rows} />}
      </div>
      <Confirm
        open={deleting !== undefined}
        title="Delete this session?"
        description={`“${deleting?.title ?? ""}” goes with its conversation, its variables and its files. This cannot be undone.`}
        action="Delete"
        onConfirm={() => deleting && confirmed(deleting)}
        onClose={asked}
      />
    </nav>
  );
}

/** What this browser or the server could not do. */
function Problems({ failure, onDismiss }: { failure: string | undefined; onDismiss(): void }): ReactNode {
  const problem = useStorageProblem();
  const [known, setKnown] = useState(false);
  return (
    <>
      {failure !== undefined && (
        <Notice kind="error" actions={<Button onClick={onDismiss}>Got it</Button>}>
          {failure}
        </Notice>
      )}
      {problem !== undefined && !known && (
        <Notice kind="warning" actions={<Button onClick={() => setKnown(true)}>Got it</Button>}>
          {problem === "refused"
            ? "This browser keeps nothing here, as in a private window: sessions are gone when this tab is closed."
            : "This browser could not keep what came last; its storage may be full. Delete sessions that you do not need."}
        </Notice>
      )}
    </>
  );
}

/** The end of what is listed so far: more comes when it is near, or pressed. */
function More({ onSeen, left }: { onSeen(): void; left: number }): ReactNode {
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (button.current === null || typeof IntersectionObserver === "undefined") return undefined;
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) onSeen();
      },
      { rootMargin: "400px" },
    );
    observer.observe(button.current);
    return () => observer.disconnect();
  }, [onSeen, left]);
  return (
    <Button look="quiet" ref={button} onClick={onSeen}>
      Show more ({count(left, "session")})
    </Button>
  );
}
