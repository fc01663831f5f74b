"use client";

import { FolderOpen, PanelLeft } from "lucide-react";
import dynamic from "next/dynamic";
import { type ReactNode, useEffect, useState } from "react";
import { Button, IconButton } from "@/components/ui/button";
import { Notice } from "@/components/ui/notice";
import { Sheet } from "@/components/ui/sheet";
import { useMedia, WIDE } from "@/components/ui/use-media";
import { ChatView } from "@/features/chat/chat-view";
import type { Draft } from "@/features/chat/drafts";
import { ExportMenu } from "@/features/sessions/export-menu";
import { SandboxBadge } from "@/features/sessions/sandbox";
import { useSession, useSessions } from "@/features/sessions/store";
import { newId } from "@/lib/ids";
import { SHORTCUTS, useShortcut } from "@/lib/shortcuts";
import { useConfigQuery } from "@/lib/use-config";
import { goTo } from "./address";
import styles from "./frame.module.css";
import { HelpDialog } from "./help-dialog";
import { Sidebar } from "./sidebar";
import { Welcome } from "./welcome";

// What the first page does not show comes when it is wanted.
const FilesPanel = dynamic(async () => (await import("@/features/files/files-panel")).FilesPanel, { ssr: false });
const NotebookView = dynamic(async () => (await import("@/features/notebook/notebook-view")).NotebookView, {
  ssr: false,
});

/** Sessions at the left, the session that the address names in the middle, its files at the right. */
export function Frame({ address }: { address: string | null }): ReactNode {
  const { sessions, create } = useSessions();
  const [fresh, setFresh] = useState(() => newId("s"));
  const [draft, setDraft] = useState<Draft & { session: string }>();
  const [sidebar, setSidebar] = useState<boolean>();
  const [searching, setSearching] = useState(false);
  const [files, setFiles] = useState(false);
  const [help, setHelp] = useState(false);
  const wide = useMedia(WIDE);
  const config = useConfigQuery();

  const session = address ?? fresh;
  const meta = useSession(session);
  const kind = meta?.kind ?? "chat";
  const showsSidebar = sidebar ?? wide;

  const began = address === null && (sessions?.some((each) => each.id === fresh) ?? false);
  useEffect(() => {
    if (began) goTo(fresh, true);
  }, [began, fresh]);

  const title = meta?.title ?? (kind === "notebook" ? "New notebook" : "New chat");
  useEffect(() => {
    document.title = meta === undefined ? "Caesarion" : `${meta.title} · Caesarion`;
  }, [meta]);

  const showSidebar = (shown: boolean, forSearch = false): void => {
    setSidebar(shown);
    setSearching(forSearch);
  };
  const closeSheets = (): void => {
    if (!wide) showSidebar(false);
  };
  const open = (id: string): void => {
    goTo(id);
    closeSheets();
  };
  const newChat = (): void => {
    setFresh(newId("s"));
    goTo(null);
    closeSheets();
  };
  const newNotebook = (): void => open(create("notebook").id);

  useShortcut("newChat", newChat);
  useShortcut("toggleSidebar", () => showSidebar(!showsSidebar));
  useShortcut("toggleFiles", () => setFiles(!files));
  useShortcut("searchSessions", () => showSidebar(true, true), !showsSidebar);
  useShortcut("help", () => setHelp(true));

  const list = (
    <Sidebar
      current={address ?? undefined}
      onOpen={open}
      onGone={newChat}
      onNewChat={newChat}
      onNewNotebook={newNotebook}
      onHelp={() => setHelp(true)}
      searching={searching}
    />
  );
  const panel = <FilesPanel session={session} onClose={() => setFiles(false)} />;

  return (
    <div className={styles.frame}>
      <a href="#conversation" className={styles.skip}>
        Skip to the session
      </a>
      {wide && showsSidebar && (
        <aside aria-label="Sidebar" className={styles.sidebar}>
          {list}
        </aside>
      )}
      {!wide && (
        <Sheet side="left" title="Sessions" open={showsSidebar} onClose={() => showSidebar(false)}>
          {list}
        </Sheet>
      )}
      <div className={styles.middle}>
        <header className={styles.header}>
          <IconButton
            label="Sessions"
            keys={SHORTCUTS.toggleSidebar.keys}
            aria-expanded={showsSidebar}
            onClick={() => showSidebar(!showsSidebar)}
          >
            <PanelLeft aria-hidden />
          </IconButton>
          <h1 className={styles.title}>{title}</h1>
          <SandboxBadge session={session} />
          <ExportMenu session={session} />
          <IconButton
            label="Files"
            keys={SHORTCUTS.toggleFiles.keys}
            aria-pressed={files}
            onClick={() => setFiles(!files)}
          >
            <FolderOpen aria-hidden />
          </IconButton>
        </header>
        <main className={styles.main} id="conversation" tabIndex={-1}>
          {config.isError && (
            <div className={styles.trouble}>
              <Notice kind="error" actions={<Button onClick={() => void config.refetch()}>Try again</Button>}>
                The server does not answer. Check that it runs; what is written here is kept.
              </Notice>
            </div>
          )}
          {kind === "notebook" ? (
            <NotebookView key={session} session={session} />
          ) : (
            <ChatView
              key={session}
              session={session}
              draft={draft?.session === session ? draft : undefined}
              welcome={
                <Welcome
                  session={session}
                  hasModel={config.data?.model !== undefined}
                  onExample={(text) => setDraft({ session, text })}
                />
              }
            />
          )}
        </main>
      </div>
      {wide && files && <div className={styles.panel}>{panel}</div>}
      {!wide && (
        <Sheet side="right" title="Files of this session" open={files} onClose={() => setFiles(false)}>
          {panel}
        </Sheet>
      )}
      <HelpDialog open={help} onClose={() => setHelp(false)} />
    </div>
  );
}
