"use client";

import { useQuery } from "@tanstack/react-query";
import { FolderOpen, Upload, X } from "lucide-react";
import type { ReactNode } from "react";
import { Button, IconButton } from "@/components/ui/button";
import { Notice } from "@/components/ui/notice";
import { Spinner } from "@/components/ui/spinner";
import { useSandbox } from "@/features/sessions/sandbox";
import { ApiError, wordsOf } from "@/lib/api";
import { useConfig } from "@/lib/use-config";
import { whatIsTaken } from "./checks";
import { filesKey, listFiles, type SessionFile } from "./file-list";
import { FileRows } from "./file-rows";
import { useFilePicker } from "./use-file-picker";
import { useUploadEffects } from "./use-uploads";
import styles from "./files-panel.module.css";

export interface FilesPanelProps {
  session: string;
  onClose(): void;
}

/** The files of the session's folder. It fills the place that the shell gives it, beside the chat or over it. */
export function FilesPanel({ session, onClose }: FilesPanelProps): ReactNode {
  const files = useFiles(session);
  const picker = useFilePicker(session);
  useUploadEffects(session);
  return (
    <aside className={styles.panel} aria-label="Files">
      <header className={styles.head}>
        <h2 className={styles.title}>Files</h2>
        <Button look="quiet" onClick={picker.open}>
          <Upload aria-hidden className={styles.icon} />
          Upload
        </Button>
        <IconButton label="Close files" onClick={onClose}>
          <X aria-hidden />
        </IconButton>
        {picker.input}
      </header>
      {files.problem !== undefined && (
        <div className={styles.notice}>
          <Notice kind="error" actions={<Button onClick={files.refresh}>Try again</Button>}>
            {files.problem}
          </Notice>
        </div>
      )}
      {files.list === undefined && files.problem === undefined && (
        <p className={styles.loading} role="status">
          <Spinner /> Loading the files
        </p>
      )}
      {files.list?.length === 0 && <Empty onUpload={picker.open} />}
      {files.list !== undefined && files.list.length > 0 && (
        <FileRows key={session} session={session} files={files.list} now={files.now} />
      )}
    </aside>
  );
}

interface Files {
  /** The files, the latest first; undefined until they are known. */
  list: SessionFile[] | undefined;
  now: Date;
  problem?: string;
  refresh(): void;
}

function useFiles(session: string): Files {
  const { state } = useSandbox(session);
  const query = useQuery({
    queryKey: filesKey(session),
    queryFn: async ({ signal }) => {
      try {
        return latestFirst(await listFiles(session, signal));
      } catch (error) {
        // A session is made by the first message or file; one that is gone has none either.
        if (error instanceof ApiError && (error.status === 404 || error.status === 410)) return [];
        throw error;
      }
    },
    staleTime: 0,
    retry: false,
    // Looking at the files wakes a suspended sandbox: coming back to the window is no reason to.
    refetchOnWindowFocus: state !== "suspended",
  });
  return {
    list: query.data,
    now: new Date(query.dataUpdatedAt),
    ...(query.isError && !query.isFetching && { problem: wordsOf(query.error) }),
    refresh: () => void query.refetch(),
  };
}

function latestFirst(files: SessionFile[]): SessionFile[] {
  return files.toSorted((a, b) => b.modified_at.localeCompare(a.modified_at) || a.path.localeCompare(b.path));
}

function Empty({ onUpload }: { onUpload(): void }): ReactNode {
  const limits = useConfig();
  return (
    <div className={styles.empty}>
      <FolderOpen aria-hidden className={styles.picture} />
      <p className={styles.nothing}>No files yet</p>
      <p>Files that you upload, and files that the code writes, are kept here with the session.</p>
      <Button onClick={onUpload}>
        <Upload aria-hidden className={styles.icon} />
        Choose files
      </Button>
      {limits !== undefined && <p className={styles.small}>{whatIsTaken(limits)}</p>}
    </div>
  );
}
