"use client";

import { Keyboard, KeyRound, MessageSquarePlus, Moon, NotebookPen, Sun } from "lucide-react";
import type { ReactNode } from "react";
import { Button, IconButton } from "@/components/ui/button";
import { SessionList } from "@/features/sessions/session-list";
import { apiKey, askForKey } from "@/lib/key";
import { SHORTCUTS } from "@/lib/shortcuts";
import { Mark } from "./mark";
import styles from "./sidebar.module.css";
import { useTheme } from "./theme";

export interface SidebarProps {
  current: string | undefined;
  onOpen(id: string): void;
  onGone(): void;
  onNewChat(): void;
  onNewNotebook(): void;
  onHelp(): void;
  searching: boolean;
}

export function Sidebar({
  current,
  onOpen,
  onGone,
  onNewChat,
  onNewNotebook,
  onHelp,
  searching,
}: SidebarProps): ReactNode {
  const [theme, setTheme] = useTheme();
  const other = theme === "dark" ? "light" : "dark";
  return (
    <>
      <div className={styles.head}>
        <a href="/" className={styles.brand} aria-label="Caesarion, first page" onClick={onPlainClick(onNewChat)}>
          <Mark />
          Caesarion
        </a>
      </div>
      <div className={styles.actions}>
        <Button className={styles.new} onClick={onNewChat}>
          <MessageSquarePlus aria-hidden size={16} />
          New chat
        </Button>
        <Button className={styles.new} onClick={onNewNotebook}>
          <NotebookPen aria-hidden size={16} />
          New notebook
        </Button>
      </div>
      <div className={styles.list}>
        <SessionList current={current} onOpen={onOpen} onGone={onGone} searching={searching} />
      </div>
      <footer className={styles.foot}>
        <IconButton label={`Use ${other} theme`} onClick={() => setTheme(other)}>
          {theme === "dark" ? <Sun aria-hidden /> : <Moon aria-hidden />}
        </IconButton>
        <IconButton label="Keyboard help" keys={SHORTCUTS.help.keys} onClick={onHelp}>
          <Keyboard aria-hidden />
        </IconButton>
        {apiKey() !== "" && (
          <IconButton label="API key" onClick={() => askForKey(true)}>
            <KeyRound aria-hidden />
          </IconButton>
        )}
      </footer>
    </>
  );
}

/** A click with a modifier opens the address in a tab or window of its own, as links do. */
function onPlainClick(action: () => void): (event: React.MouseEvent) => void {
  return (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    action();
  };
}
