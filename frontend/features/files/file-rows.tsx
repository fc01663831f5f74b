"use client";

import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useCallback, useRef, useState } from "react";
import { Button } from "@/components/ui/button";
import { Confirm } from "@/components/ui/dialog";
import { Notice } from "@/components/ui/notice";
import { announce } from "@/lib/announce";
import { ApiError, wordsOf } from "@/lib/api";
import { count } from "@/lib/format";
import { download } from "./download";
import { deleteFile, filesKey, type SessionFile } from "./file-list";
import { FilePreview } from "./file-preview";
import { FileRow } from "./file-row";
import styles from "./files-panel.module.css";

const SHOWN_AT_ONCE = 200;

export interface FileRowsProps {
  session: string;
  files: readonly SessionFile[];
  now: Date;
}

/** The files, each with what can be done with it. */
export function FileRows({ session, files, now }: FileRowsProps): ReactNode {
  const client = useQueryClient();
  const list = useRef<HTMLUListElement>(null);
  const [shown, setShown] = useState(SHOWN_AT_ONCE);
  const [previewed, setPreviewed] = useState<SessionFile>();
  const [unwanted, setUnwanted] = useState<SessionFile>();
  const [downloading, setDownloading] = useState<ReadonlySet<string>>(new Set());
  const [problem, setProblem] = useState<string>();

  const save = useCallback(
    async (file: SessionFile): Promise<void> => {
      setProblem(undefined);
      setDownloading((paths) => new Set(paths).add(file.path));
      try {
        await download(session, file);
        announce(`${file.path} is being saved`);
      } catch (error) {
        setProblem(wordsOf(error));
      } finally {
        setDownloading((paths) => new Set([...paths].filter((path) => path !== file.path)));
      }
    },
    [session],
  );

  const preview = useCallback((file: SessionFile): void => {
    setProblem(undefined);
    setPreviewed(file);
  }, []);

  const remove = async (file: SessionFile): Promise<void> => {
    setProblem(undefined);
    try {
      await deleteFile(session, file.path).catch((error: unknown) => {
        if (!(error instanceof ApiError && error.status === 404)) throw error;
      });
      // The focus is on a button of the row that goes.
      list.current?.focus();
      client.setQueryData<SessionFile[]>(filesKey(session), (before) =>
        before?.filter(({ path }) => path !== file.path),
      );
      announce(`${file.path} deleted`);
    } catch (error) {
      setProblem(wordsOf(error));
    }
    void client.invalidateQueries({ queryKey: filesKey(session) });
  };

  return (
    <>
      {problem !== undefined && (
        <div className={styles.notice}>
          <Notice kind="error" actions={<Button onClick={() => setProblem(undefined)}>Dismiss</Button>}>
            {problem}
          </Notice>
        </div>
      )}
      <ul ref={list} className={styles.rows} tabIndex={-1} aria-label={count(files.length, "file")}>
        {files.slice(0, shown).map((file) => (
          <FileRow
            key={file.path}
            file={file}
            now={now}
            downloading={downloading.has(file.path)}
            onPreview={preview}
            onDownload={save}
            onDelete={setUnwanted}
          />
        ))}
        {files.length > shown && (
          <li className={styles.more}>
            <Button look="quiet" onClick={() => setShown(shown + SHOWN_AT_ONCE)}>
              Show more of {count(files.length, "file")}
            </Button>
          </li>
        )}
      </ul>
      {previewed !== undefined && (
        <FilePreview
          session={session}
          file={previewed}
          problem={problem}
          onDownload={() => void save(previewed)}
          onClose={() => setPreviewed(undefined)}
        />
      )}
      <Confirm
        open={unwanted !== undefined}
        title={`Delete ${unwanted?.path ?? "file"}?`}
        description="It goes from the session’s folder, and code that opens it will fail. Variables stay."
        action="Delete"
        onConfirm={() => unwanted !== undefined && void remove(unwanted)}
        onClose={() => setUnwanted(undefined)}
      />
    </>
  );
}
